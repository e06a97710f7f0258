// The run table: which runs are shown (ticked and not filtered out), in which order the rows stand.
import { adoptRuns, view, write } from "./view.js";

const rows = document.getElementById("run-rows"), problem = document.getElementById("filter-problem");
const count = document.getElementById("shown-count");
const filter = document.getElementById("filter"), regex = document.getElementById("regex");
let changed = () => {}, pointed = () => {};

export const runs = new Map(); // id -> {id, name, colour, dash, shown, row}

// onChange: what is shown has changed. onPoint(run id or null): the row that is pointed at, or holds the focus.
export function start(onChange, onPoint) {
  changed = onChange;
  pointed = onPoint;
  filter.value = view.q;
  regex.checked = view.regex;
  filter.addEventListener("input", () => { view.q = filter.value; update(); });
  regex.addEventListener("change", () => { view.regex = regex.checked; update(); });
  rows.addEventListener("change", (event) => {
    const id = +event.target.closest("tr").dataset.key;
    event.target.checked ? view.hidden.delete(id) : view.hidden.add(id);
    update();
  });
  const runOf = (event) => +event.target.closest("tr")?.dataset.key || null;
  for (const kind of ["pointerover", "focusin"]) rows.addEventListener(kind, (event) => pointed(runOf(event)));
  for (const kind of ["pointerleave", "focusout"]) rows.addEventListener(kind, () => pointed(null));
  rows.addEventListener("click", (event) => { if (!event.target.closest("a, label, input")) pin(runOf(event)); });
  document.getElementById("show-all").addEventListener("click", () => tickAll(true));
  document.getElementById("show-none").addEventListener("click", () => tickAll(false));
  for (const head of document.querySelectorAll("#run-table th[data-sort]")) {
    head.querySelector("button").addEventListener("click", () => {
      view.down = view.sort === head.dataset.sort ? !view.down : false;
      view.sort = head.dataset.sort;
      update();
    });
  }
  apply();
}

// Pin a run, or take the pin off: it stays strong while the others are faint.
export function pin(id) {
  view.pin = view.pin === id ? null : id;
  update();
}

// All rows that the filter leaves: the others keep their tick.
function tickAll(shown) {
  for (const row of rows.rows) if (!row.hidden) shown ? view.hidden.delete(+row.dataset.key) : view.hidden.add(+row.dataset.key);
  update();
}

function update() {
  apply();
  write();
  changed();
}

// Again after each live update: rows come from the server, ticks and order are the view's.
export function apply() {
  const all = [...rows.rows];
  adoptRuns(all.map((row) => +row.dataset.key));
  const matches = matcher();
  runs.clear();
  for (const row of all) {
    const id = +row.dataset.key, ticked = !view.hidden.has(id);
    row.hidden = !matches(row.dataset.name);
    row.classList.toggle("off", !ticked);
    row.classList.toggle("pinned", id === view.pin);
    row.querySelector("input").checked = ticked;
    const swatch = row.querySelector("svg");
    runs.set(id, { id, row, name: row.dataset.name, colour: +swatch.getAttribute("class").slice(1),
      dash: +swatch.firstElementChild.getAttribute("class").slice(1), shown: ticked && !row.hidden });
  }
  order(all);
  const shown = [...runs.values()].filter((run) => run.shown).length;
  const words = `${shown} of ${all.length} shown${runs.get(view.pin)?.shown ? `, ${runs.get(view.pin).name} pinned` : ""}`;
  if (count.textContent !== words) count.textContent = words;
}

function matcher() {
  problem.hidden = true;
  if (view.regex && view.q) {
    try {
      const pattern = new RegExp(view.q, "i");
      return (name) => pattern.test(name);
    } catch (error) {
      problem.textContent = `not a regular expression: ${error.message.replace(/^.*: /, "")}`;
      problem.hidden = false;
      return () => true;
    }
  }
  const words = view.q.toLowerCase().split(/\s+/).filter(Boolean);
  return (name) => words.every((word) => name.toLowerCase().includes(word));
}

const STATES = ["running", "queued", "failed", "idle"];

function order(all) {
  const value = (row) => {
    const text = row.dataset[view.sort] ?? "";
    if (view.sort === "name") return text;
    if (view.sort === "state") return STATES.indexOf(text);
    return text === "" ? null : +text;
  };
  const names = new Intl.Collator(undefined, { numeric: true });
  const sorted = [...all].sort((a, b) => {
    const left = value(a), right = value(b);
    if (left === null || right === null) return (left === null) - (right === null); // unknown values come last
    const way = typeof left === "string" ? names.compare(left, right) : left - right;
    return (view.down ? -way : way) || a.dataset.key - b.dataset.key;
  });
  if (sorted.some((row, place) => row !== all[place])) {
    const focused = document.activeElement;
    rows.append(...sorted);
    if (rows.contains(focused)) focused.focus({ preventScroll: true });
  }
  for (const head of document.querySelectorAll("#run-table th[data-sort]")) {
    if (head.dataset.sort !== view.sort) head.removeAttribute("aria-sort");
    else head.setAttribute("aria-sort", view.down ? "descending" : "ascending");
  }
}

export function light(id) {
  for (const run of runs.values()) run.row.classList.toggle("lit", run.id === id);
}
