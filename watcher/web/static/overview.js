// The overview: joins run table, controls and panels. Panels are loaded when they come into view and drawn one a frame.
import { refreshAtOnce } from "./app.js";
import { idle } from "./curves.js";
import { Panel } from "./panel.js";
import { Retry } from "./retry.js";
import { hide } from "./tooltip.js";
import * as table from "./run_table.js";
import { view, write } from "./view.js";

const box = document.getElementById("panels"), controls = document.getElementById("controls");
const resetZoom = document.getElementById("reset-zoom"), setChoice = document.getElementById("table-set");
const panels = new Map(); // element -> Panel
const waiting = new Set(); // panels to draw, one in each animation frame: with many runs no frame is long
const curvesRetry = new Retry(() => staleInView().forEach(loadStale)), bestsRetry = new Retry(completeBests);
const BESTS_TURNS_MAX = 30; // requests of a second each; the next update goes on
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

function drawSoon(panel) {
  waiting.add(panel);
  if (!frame) frame = requestAnimationFrame(drawNext);
}

function drawNext() {
  frame = 0;
  const [panel] = waiting;
  if (!panel) return;
  waiting.delete(panel);
  if (panel.data && panel.visible) panel.draw(extent());
  if (waiting.size) frame = requestAnimationFrame(drawNext);
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

function drawAll() { for (const panel of panels.values()) if (panel.visible) drawSoon(panel); }

function reload(panel) {
  panel.wanted += 1;
  loadStale(panel);
}

// Until the panel shows what is wanted; one that is not in view waits until it comes into view.
async function loadStale(panel) {
  if (panel.loading) return;
  panel.loading = true;
  while (panel.isStale && panel.visible) {
    const before = extent();
    if (!(await panel.load())) { curvesRetry.failed(); break; }
    if (`${extent()}` !== `${before}`) drawAll(); else drawSoon(panel);
  }
  panel.loading = false;
  if (!staleInView().length) curvesRetry.succeeded();
}

function staleInView() { return [...panels.values()].filter((panel) => panel.visible && panel.isStale); }

async function refine() {
  const zoom = view.zoom;
  for (const panel of [...panels.values()]) {
    if (zoom !== view.zoom) return; // the next zoom refines for itself
    if (!panel.visible) continue;
    if (!(await panel.refine())) curvesRetry.failed();
    drawSoon(panel);
  }
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const panel = panels.get(entry.target);
    if (!panel) continue;
    panel.visible = entry.isIntersecting;
    if (!panel.visible) continue;
    if (panel.isStale) loadStale(panel); else drawSoon(panel);
  }
}, { rootMargin: "200px" });

function listPanels() {
  for (const [element, panel] of panels) {
    if (element.isConnected) continue;
    watcher.unobserve(element);
    panels.delete(element);
    waiting.delete(panel);
    panel.remove();
  }
  for (const element of box.querySelectorAll(".panel")) {
    if (panels.has(element)) continue;
    panels.set(element, new Panel(element, hooks));
    watcher.observe(element);
  }
}

function chosenMetrics() { return [...controls.querySelectorAll('[name="m"]:checked')].map((each) => each.value); }

controls.addEventListener("change", (event) => {
  const { name, value, checked } = event.target;
  if (name === "m") {
    const chosen = chosenMetrics();
    if (!chosen.length) { event.target.checked = true; return; }
    write({ m: chosen.join(",") });
    refreshAtOnce();
  } else if (name === "x") {
    view.x = value;
    view.zoom = null;
    resetZoom.disabled = true;
    write();
    for (const panel of panels.values()) reload(panel);
  } else {
    view[name] = checked;
    write();
    drawAll();
  }
});
controls.addEventListener("submit", (event) => event.preventDefault());
resetZoom.addEventListener("click", () => hooks.zoomTo(null));
setChoice.addEventListener("change", () => { write({ set: setChoice.value }); refreshAtOnce(); });
for (const flag of ["xlog", "ylog", "band"]) controls.elements[flag].checked = view[flag];
resetZoom.disabled = view.zoom === null;

// Best points that take a while (windows are read for them): the server is asked until it knows all; the table's set first.
let completing = false, onceMore = false;
async function completeBests() {
  if (completing) { onceMore = true; return; }
  completing = true;
  const m = `m=${chosenMetrics().join(",")}`;
  for (const query of [`?${m}&set=${encodeURIComponent(setChoice.value)}`, `?${m}`]) {
    if (!(await completeBestsOf(query))) { bestsRetry.failed(); break; }
    bestsRetry.succeeded();
  }
  completing = false;
  if (onceMore) { onceMore = false; completeBests(); }
}

// Whether the server answered.
async function completeBestsOf(query) {
  let changed = false;
  for (let turn = 0; turn < BESTS_TURNS_MAX; turn++) {
    await idle(); // curves come first
    const answer = await fetch(`/api/bests${query}`).then((got) => (got.ok ? got.json() : null)).catch(() => null);
    if (answer === null) return false;
    changed ||= answer.computed > 0;
    if (answer.complete) break;
  }
  if (changed) refreshAtOnce();
  return true;
}

addEventListener("livechange", () => {
  table.apply();
  listPanels();
  for (const panel of panels.values()) reload(panel);
  completeBests();
});
addEventListener("themechange", drawAll);
let width = 0;
new ResizeObserver(() => { if (box.clientWidth !== width) { width = box.clientWidth; drawAll(); } }).observe(box);

table.start(drawAll, (id) => hooks.lightUp(id, null));
listPanels();
// What the server could not tell at once, it is asked for now.
if (document.querySelector(".overview[data-pending]")) refreshAtOnce(); else completeBests();
