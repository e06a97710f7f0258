// The overview: joins run table, controls and panels. Panels are loaded when they come into view and drawn one a frame.
import { idle } from "./curves.js";
import { Panel } from "./panel.js";
import { hide } from "./tooltip.js";
import * as table from "./run_table.js";
import { view, write } from "./view.js";

const box = document.getElementById("panels"), controls = document.getElementById("controls");
const resetZoom = document.getElementById("reset-zoom"), setChoice = document.getElementById("table-set");
const panels = new Map(); // element -> Panel
const waiting = new Set();
let frame = 0, refining = 0;

const hooks = {
  zoomTo(range) {
    view.zoom = range;
    resetZoom.disabled = range === null;
    hide();
    write();
    drawAll();
    clearTimeout(refining);
    refining = setTimeout(refine, 250);
  },
  pin: table.pin,
  lightUp(id, x) {
    table.light(id);
    if (id === null) hide();
    for (const panel of panels.values()) if (panel.u && (panel.visible || id === null)) panel.light(id, x);
  },
};

// One panel in each animation frame: with many runs no frame is long.
function later(panel) {
  waiting.add(panel);
  if (!frame) frame = requestAnimationFrame(next);
}

function next() {
  frame = 0;
  const [panel] = waiting;
  if (!panel) return;
  waiting.delete(panel);
  if (panel.data && panel.visible) panel.draw(extent());
  if (waiting.size) frame = requestAnimationFrame(next);
}

// The x axis is shared: it reaches over all panels that have been loaded.
function extent() {
  let low = Infinity, high = -Infinity;
  for (const panel of panels.values()) {
    const range = panel.extent();
    if (range) { low = Math.min(low, range[0]); high = Math.max(high, range[1]); }
  }
  return low < high ? [low, high] : null;
}

function drawAll() { for (const panel of panels.values()) if (panel.visible) later(panel); }

async function refresh(panel) {
  if (!panel.visible) { panel.dirty = true; return; }
  const before = extent();
  await panel.load();
  if (`${extent()}` !== `${before}`) drawAll(); else later(panel);
}

async function refine() {
  for (const panel of panels.values()) {
    if (!panel.visible || !(panel.detail || panel.isThinned())) continue;
    await panel.refine();
    later(panel);
  }
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const panel = panels.get(entry.target);
    if (!panel) continue;
    panel.visible = entry.isIntersecting;
    if (!panel.visible) continue;
    if (panel.dirty || panel.asked !== view.x) refresh(panel); else later(panel);
  }
}, { rootMargin: "200px" });

function listPanels() {
  for (const [element, panel] of panels) {
    if (element.isConnected) continue;
    panel.u?.destroy();
    watcher.unobserve(element);
    panels.delete(element);
  }
  for (const element of box.querySelectorAll(".panel")) {
    if (panels.has(element)) continue;
    panels.set(element, new Panel(element, hooks));
    watcher.observe(element);
  }
}

controls.addEventListener("change", (event) => {
  const { name, value, checked } = event.target;
  if (name === "m") {
    const chosen = [...controls.querySelectorAll('[name="m"]:checked')].map((each) => each.value);
    if (!chosen.length) { event.target.checked = true; return; }
    write({ m: chosen.join(",") });
    window.ckptRefresh();
  } else if (name === "x") {
    view.x = value;
    view.zoom = null;
    resetZoom.disabled = true;
    write();
    for (const panel of panels.values()) refresh(panel);
  } else {
    view[name] = checked;
    write();
    drawAll();
  }
});
controls.addEventListener("submit", (event) => event.preventDefault());
resetZoom.addEventListener("click", () => hooks.zoomTo(null));
setChoice.addEventListener("change", () => { write({ set: setChoice.value }); window.ckptRefresh(); });
for (const flag of ["xlog", "ylog", "band"]) controls.elements[flag].checked = view[flag];
resetZoom.disabled = view.zoom === null;

// Best points that take a while (windows are read for them): the server is asked until it knows all; the table's set first.
let completing = false, onceMore = false;
async function completeBests() {
  if (completing) { onceMore = true; return; }
  completing = true;
  const m = `m=${[...controls.querySelectorAll('[name="m"]:checked')].map((each) => each.value).join(",")}`;
  for (const query of [`?${m}&set=${encodeURIComponent(setChoice.value)}`, `?${m}`]) {
    let complete = false, changed = false;
    for (let turn = 0; turn < 30 && !complete; turn++) {
      await idle(); // curves come first
      const words = await fetch(`/api/bests${query}`).then((answer) => (answer.ok ? answer.json() : null)).catch(() => null);
      if (words === null) break; // asked again with the next update
      complete = words.complete;
      changed ||= words.computed > 0;
    }
    if (changed) window.ckptRefresh();
  }
  completing = false;
  if (onceMore) { onceMore = false; completeBests(); }
}

addEventListener("livechange", () => {
  table.apply();
  listPanels();
  for (const panel of panels.values()) refresh(panel);
  completeBests();
});
addEventListener("themechange", drawAll);
let width = 0;
new ResizeObserver(() => { if (box.clientWidth !== width) { width = box.clientWidth; drawAll(); } }).observe(box);

table.start(drawAll, (id) => hooks.lightUp(id, null));
listPanels();
// What the server could not tell at once, it is asked for now.
if (document.querySelector(".overview[data-pending]")) window.ckptRefresh(); else completeBests();
