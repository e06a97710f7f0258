// Live pages: on a `change` event the page is fetched again and its [data-live] regions become what the server shows now.
import { morph } from "./morph.js";
import { Retry } from "./retry.js";

document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }); // the row of pages scrolls on a phone
document.getElementById("theme").addEventListener("click", () => window.ckptTheme());

const EVERY_MS = 1500; // at most one update in this time, however many results come
const pageRetry = new Retry(refresh), streamRetry = new Retry(listen);
let running = false, again = false, atOnce = false, missed = false, last = -EVERY_MS;

async function refresh() {
  missed = document.hidden; // a page that nobody sees asks for nothing: the server shares a machine with a training run
  if (missed) return;
  if (running) { again = true; return; }
  running = true;
  try {
    const wait = last + EVERY_MS - performance.now();
    if (wait > 0 && !atOnce) await new Promise((done) => setTimeout(done, wait));
    atOnce = false;
    const asked = location.href, answer = await fetch(asked, { headers: { accept: "text/html" } });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const text = await answer.text();
    pageRetry.succeeded();
    if (asked === location.href) adopt(text); else again = true; // the view changed meanwhile
  } catch {
    pageRetry.failed(); // the server is away or refuses for a moment
  } finally {
    running = false;
    last = performance.now();
    if (again) { again = false; refresh(); }
  }
}

function adopt(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const region of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(region.id);
    if (now) morph(region, now);
  }
  dispatchEvent(new Event("livechange"));
}

// For a choice that the server answers (metrics, the set of the run table).
export function refreshAtOnce() {
  atOnce = true;
  refresh();
}

const lamp = document.getElementById("live");
let stream = null, opened = false;

function listen() {
  stream = new EventSource("/events");
  stream.addEventListener("hello", () => {
    streamRetry.succeeded();
    lamp.textContent = "live";
    if (opened) refresh(); // what happened while the line was down
    opened = true;
  });
  stream.addEventListener("change", refresh);
  stream.addEventListener("error", () => {
    lamp.textContent = "reconnecting…";
    if (stream.readyState === EventSource.CLOSED) streamRetry.failed(); // a refusal: the browser gives up after it
  });
}

listen();
addEventListener("pagehide", () => stream.close()); // else a navigation under load shows as an error of the line
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
document.addEventListener("visibilitychange", () => { if (missed) refresh(); });
setInterval(refresh, 60000); // "3 min ago" goes on
