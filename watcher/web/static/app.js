// Live pages: on a `change` event the page is fetched again and its [data-live] regions are replaced.
// The server's own escaped HTML is the only thing that is ever put into the page.
"use strict";
(() => {
  document.getElementById("theme").addEventListener("click", () => window.ckptTheme());

  let running = false, again = false;
  async function refresh() {
    if (running) { again = true; return; }
    running = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const region of document.querySelectorAll("[data-live]")) replace(region, fresh.getElementById(region.id));
      dispatchEvent(new Event("livechange"));
    } catch {
      // the server is away for a moment: the event stream reconnects by itself and asks again
    } finally {
      running = false;
      if (again) { again = false; refresh(); }
    }
  }

  function replace(region, fresh) {
    if (!fresh || region.innerHTML === fresh.innerHTML) return;
    const known = new Set([...region.querySelectorAll("[data-key]")].map((row) => row.dataset.key));
    const focused = region.contains(document.activeElement) ? document.activeElement.id : "";
    const open = [...region.querySelectorAll("details[open][id]")].map((each) => each.id);
    region.replaceChildren(...fresh.childNodes);
    region.className = fresh.className;
    for (const row of region.querySelectorAll("[data-key]")) {
      if (known.size && !known.has(row.dataset.key)) row.classList.add("fresh");
    }
    for (const id of open) { const each = document.getElementById(id); if (each) each.open = true; }
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }

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
  setInterval(() => { if (!document.hidden) refresh(); }, 60000); // "3 min ago" goes on
})();
