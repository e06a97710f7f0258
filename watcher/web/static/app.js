// Live pages: on a `change` event the page is fetched again and its [data-live] regions become what the server shows now.
import { morph } from "./morph.js";

document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }); // the row of pages scrolls on a phone
document.getElementById("theme").addEventListener("click", () => window.ckptTheme());

const EVERY_MS = 1500; // at most one update in this time, however many results come
let running = false, again = false, last = -EVERY_MS;

async function refresh() {
  if (running) { again = true; return; }
  running = true;
  try {
    const wait = last + EVERY_MS - performance.now();
    if (wait > 0) await new Promise((done) => setTimeout(done, wait));
    const asked = location.href, answer = await fetch(asked, { headers: { accept: "text/html" } });
    if (answer.ok && asked === location.href) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const region of document.querySelectorAll("[data-live]")) {
        const now = fresh.getElementById(region.id);
        if (now) morph(region, now);
      }
      dispatchEvent(new Event("livechange"));
    } else if (answer.ok) again = true; // the view changed meanwhile
  } catch {
    // the server is away for a moment: the event stream reconnects by itself and asks again
  } finally {
    running = false;
    last = performance.now();
    if (again) { again = false; refresh(); }
  }
}
// For a choice that the server answers (metrics, the set of the run table): at once.
window.ckptRefresh = () => { last = -EVERY_MS; refresh(); };

const lamp = document.getElementById("live");
const stream = new EventSource("/events");
let opened = false;
stream.addEventListener("hello", () => {
  lamp.textContent = "live";
  if (opened) refresh(); // what happened while the line was down
  opened = true;
});
stream.addEventListener("change", refresh);
stream.addEventListener("error", () => { lamp.textContent = "reconnecting…"; });
addEventListener("pagehide", () => stream.close()); // else a navigation under load shows as an error of the line
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
setInterval(() => { if (!document.hidden) refresh(); }, 60000); // "3 min ago" goes on
