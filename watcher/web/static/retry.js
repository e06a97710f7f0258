// Requests that failed are asked again after 2, 4, 8 ... 30 s: the one owner of that wait, for the page, its panels and best points.
const FIRST_MS = 2000, MOST_MS = 30000;

export class Retry {
  // ask: called when the wait is over; it tells `failed` or `succeeded` how it went.
  constructor(ask) {
    this.ask = ask;
    this.succeeded();
  }

  succeeded() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.wait = FIRST_MS;
  }

  failed() {
    if (this.timer) return;
    this.timer = setTimeout(() => { this.timer = 0; this.ask(); }, this.wait);
    this.wait = Math.min(MOST_MS, 2 * this.wait);
  }
}
