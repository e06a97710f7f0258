// One panel: uPlot gives axes, cursor and selection; the curves are drawn by draw.js. Nothing here decides what is shown.
import { fetchCurves, height, nearest, reach } from "./curves.js";
import { BANDS_MAX, drawCurves, drawLit, strongOf } from "./draw.js";
import { show, hide } from "./tooltip.js";
import { runs } from "./run_table.js";
import { fillTable } from "./values_table.js";
import { AXES, view } from "./view.js";

const HEIGHT = 255;
const DRAG_PX = 4; // the pointer moved less: a click
const DOUBLE_CLICK_MS = 400;

export class Panel {
  // hooks: zoomTo(range or null), lightUp(run id or null, x), pin(run id)
  constructor(box, hooks) {
    this.box = box;
    this.hooks = hooks;
    ({ metric: this.metric, set: this.set, label: this.label } = box.dataset);
    this.data = null; // what /api/curves answered: all of it, thinned
    this.detail = null; // the part in view, read again with more points
    this.detailRange = null; // of x, which it covers
    this.visible = false;
    this.wanted = 1; // one more for each change of what it shows; loaded: the last one that it shows
    this.loaded = 0;
    this.loading = false;
    this.lit = { run: null, x: null, at: -1 };
    this.pressed = null; // the event of the mouse button that went down
    this.opening = 0; // the timer of a click that may become a double click
    this.build();
  }

  build() {
    const body = this.box.querySelector(".body");
    this.plot = document.createElement("div");
    this.plot.className = "plot";
    this.plot.tabIndex = 0;
    this.plot.setAttribute("role", "group");
    this.plot.setAttribute("aria-roledescription", "chart");
    const keys = "Arrow keys read points and change the run, Enter opens the checkpoint, plus and minus zoom, 0 resets the zoom, p pins the run.";
    this.plot.setAttribute("aria-label", `${this.box.getAttribute("aria-label")}. ${keys}`);
    this.status = document.createElement("div");
    this.status.className = "status";
    this.status.setAttribute("aria-live", "polite");
    this.values = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = "values as a table";
    this.values.append(summary);
    this.values.addEventListener("toggle", () => fillTable(this));
    body.replaceChildren(this.plot, this.status, this.values);
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.plot.addEventListener("focus", () => { if (this.u && this.lit.run === null) this.say(this.summary()); });
    this.plot.addEventListener("blur", () => this.hooks.lightUp(null, null));
  }

  remove() {
    this.visible = false;
    this.u?.destroy();
    clearTimeout(this.opening);
  }

  get isStale() { return this.loaded !== this.wanted; }

  // The series that the run table shows, with their runs.
  drawn() { return this.shownOf(this.covers(view.zoom) ? this.detail : this.data); }

  covers(range) { return this.detail !== null && range !== null && this.detailRange[0] <= range[0] && range[1] <= this.detailRange[1]; }

  shownOf(answer) {
    if (!answer) return [];
    return answer.series.flatMap((series) => {
      const run = runs.get(series.run);
      return run && run.shown && (series.x.length || series.bad.length) ? [{ series, run }] : [];
    });
  }

  // Whether the server answered.
  async load() {
    const wanted = this.wanted, data = await fetchCurves(this, null);
    if (data === null) { this.loaded = 0; return false; }
    if (data.x !== view.x) return true; // another axis is wanted by now
    this.data = data;
    this.loaded = wanted;
    return this.refine();
  }

  isThinned() { return this.data !== null && this.data.series.some((one) => one.n > one.x.length); }

  // More points of the part in view, where the whole was thinned. Whether the server answered.
  async refine() {
    const zoom = view.zoom;
    if (!zoom || !this.isThinned()) { this.detail = null; return true; }
    const detail = await fetchCurves(this, zoom);
    if (detail === null) { this.loaded = 0; return false; }
    if (zoom === view.zoom) Object.assign(this, { detail, detailRange: zoom });
    return true;
  }

  extent() { return reach(this.shownOf(this.data).map((each) => each.series)); }

  // Draw anew with the shared range of x. `frame` keeps uPlot's own size, theme and kinds of axes.
  draw(range) {
    const frame = `${this.plot.clientWidth}|${view.x}|${view.xlog}|${view.ylog}|${document.documentElement.dataset.theme}`;
    const drawn = this.drawn();
    this.range = view.zoom || range || [0, 1];
    if (view.xlog && this.range[0] <= 0) this.range = [Math.min(1, this.range[1] / 10), this.range[1]];
    const banded = view.band && drawn.length <= BANDS_MAX;
    this.yRange = height(drawn.map((each) => each.series), ...this.range, banded) || [0.1, 1];
    if (this.frame !== frame) {
      this.frame = frame;
      this.u?.destroy();
      this.u = new uPlot(this.options(), [[0, 1], [null, null]], this.plot);
      this.upper = document.createElement("canvas");
      this.upper.className = "lit";
      this.u.root.querySelector(".u-wrap").append(this.upper);
    }
    this.u.batch(() => {
      this.u.setScale("x", { min: this.range[0], max: this.range[1] });
      this.u.setScale("y", { min: this.yRange[0], max: this.yRange[1] });
    });
    this.box.dataset.points = String(drawn.reduce((sum, { series }) => sum + series.x.length, 0));
    this.box.dataset.curves = String(drawn.length);
    this.box.dataset.range = this.range.join("~");
    if (this.lit.run !== null) this.light(this.lit.run, this.lit.x);
    if (this.values.open) fillTable(this);
    this.notes(drawn);
  }

  notes(drawn) {
    const words = [];
    if (!drawn.length) words.push("no run is shown");
    const unplaced = this.data.series.filter((one) => runs.get(one.run)?.shown && !one.x.length && !one.bad.length).length;
    if (unplaced && view.x === "tokens") words.push(`${unplaced} of the shown runs have no ${this.label} by tokens seen`);
    if (view.xlog && drawn.some(({ series }) => series.x[0] <= 0)) words.push("points at 0 are not drawn on a log axis");
    this.note = words.join("; ");
    if (this.lit.run === null) this.say(this.note);
  }

  say(words) { if (this.status.textContent !== words) this.status.textContent = words; }

  summary() { return `${this.drawn().length} curves of ${this.label}`; }

  options() {
    const style = getComputedStyle(document.documentElement), css = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: css("--soft"), grid: { stroke: css("--grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const xAxis = view.x === "time" ? axis : { ...axis, values: (_, ticks) => ticks.map(short), space: 60 };
    const figures = (_, ticks) => ticks.map((tick) => (tick == null ? "" : `${+tick.toPrecision(5)}`));
    return {
      width: this.plot.clientWidth || 300, height: HEIGHT, legend: { show: false },
      series: [{}, { show: false }],
      tzDate: (at) => uPlot.tzDate(new Date(at * 1e3), "Etc/UTC"),
      scales: {
        x: { time: view.x === "time", distr: view.xlog ? 3 : 1, auto: false, range: () => this.range },
        y: { distr: view.ylog ? 3 : 1, auto: false, range: () => this.yRange },
      },
      axes: [{ ...xAxis, size: 26, label: AXES[view.x], labelSize: 18, labelGap: -4, labelFont: axis.font }, { ...axis, size: 52, values: figures }],
      cursor: {
        y: false, points: { show: false },
        drag: { x: true, y: false, setScale: false, click: () => {} }, // what is a click: see clicked
        bind: { dblclick: () => () => { clearTimeout(this.opening); this.hooks.zoomTo(null); return null; } },
        sync: { key: "overview", scales: ["x", null], setSeries: false,
          filters: { pub: (kind) => kind === "mousemove" || kind === "mouseleave" } },
      },
      hooks: {
        draw: [(u) => { const drawn = this.drawn(); drawCurves(u, drawn, strongOf(drawn, this.data?.higher_is_better)); }],
        setCursor: [(u) => this.moved(u)],
        setSelect: [(u) => this.selected(u)],
        ready: [(u) => this.listen(u.over)],
      },
    };
  }

  moved(u) {
    if (!u.cursor.event || u.cursor.left < 0) { // synced from another panel: that one lights up
      if (u.cursor.left < 0 && this.pointed) { this.pointed = false; this.hooks.lightUp(null, null); }
      return;
    }
    this.pointed = true;
    const { left, top } = u.cursor, at = u.posToVal(left, "x");
    let best = null;
    for (const each of this.drawn()) {
      const place = nearest(each.series.x, at);
      if (place < 0) continue;
      const far = Math.hypot((u.valToPos(each.series.x[place], "x") - left) * 0.5, u.valToPos(each.series.y[place], "y") - top);
      if (!best || far < best.far) best = { far, each, place };
    }
    if (!best) return;
    this.hooks.lightUp(best.each.run.id, best.each.series.x[best.place]);
    show(this, best.each, best.place, left, top);
  }

  // The run that is pointed at, in this panel at the point nearest to x; x is null where its row is pointed at.
  light(id, x) {
    const drawn = this.drawn(), each = id === null ? null : drawn.find(({ run }) => run.id === id);
    this.lit = { run: each ? id : null, x: each ? x : null, at: each && x !== null ? nearest(each.series.x, x) : -1 };
    if (this.u) this.fitUpper();
    if (this.u) drawLit(this.u, this.upper, each, this.lit.at, drawn.length === 1);
    if (!each) this.say(this.note || "");
  }

  // The upper canvas gets uPlot's size when it is drawn on: uPlot sizes its own only after the drawing that made it.
  fitUpper() {
    const { width, height } = this.u.ctx.canvas, ratio = devicePixelRatio || 1;
    if (this.upper.width === width && this.upper.height === height) return;
    Object.assign(this.upper, { width, height });
    Object.assign(this.upper.style, { width: `${width / ratio}px`, height: `${height / ratio}px` });
  }

  selected(u) {
    if (u.select.width < DRAG_PX) return;
    const range = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.hooks.zoomTo(range);
  }

  listen(over) {
    over.addEventListener("mousedown", (event) => { this.pressed = event; });
    over.addEventListener("click", (event) => this.clicked(event));
    over.addEventListener("mouseleave", hide);
  }

  // A click opens the point, a drag zooms, a double click ends the zoom: where it could be one, the click waits for its second.
  clicked(event) {
    const { clientX, clientY } = this.pressed || event;
    this.pressed = null;
    clearTimeout(this.opening);
    if (event.detail > 1 || Math.hypot(event.clientX - clientX, event.clientY - clientY) >= DRAG_PX) return;
    const address = this.pointAddress();
    if (view.zoom && address) this.opening = setTimeout(() => location.assign(address), DOUBLE_CLICK_MS); else this.open();
  }

  open() {
    const address = this.pointAddress();
    if (address) location.assign(address);
  }

  // Of the page of the point that is lit up.
  pointAddress() {
    const each = this.drawn().find(({ run }) => run.id === this.lit.run);
    if (!each || this.lit.at < 0) return null;
    const id = each.series.id[this.lit.at];
    return ["logged", "suite"].includes(this.metric) ? `/checkpoints/${id}` : `/results/${id}`;
  }

  key(event) {
    const drawn = this.drawn().filter(({ series }) => series.x.length), step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const other = { ArrowUp: -1, ArrowDown: 1 }[event.key], zoom = { "+": 0.5, "=": 0.5, "-": 2 }[event.key];
    if (!drawn.length || !(step || other || zoom || ["Enter", "0", "Escape", "p"].includes(event.key)) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    let place = Math.max(0, drawn.findIndex(({ run }) => run.id === this.lit.run));
    if (event.key === "Enter") return this.open();
    if (event.key === "0") return this.hooks.zoomTo(null);
    if (event.key === "p") return this.lit.run === null || this.hooks.pin(this.lit.run);
    if (event.key === "Escape") { hide(); return this.hooks.lightUp(null, null); }
    if (zoom) {
      const [way, back] = view.xlog ? [Math.log, Math.exp] : [Number, Number];
      const [low, high] = this.range.map(way), middle = this.lit.x ? way(this.lit.x) : (low + high) / 2, half = (high - low) / 2 * zoom;
      return this.hooks.zoomTo([back(middle - half), back(middle + half)]);
    }
    if (other && this.lit.run !== null) place = (place + other + drawn.length) % drawn.length;
    const { series, run } = drawn[place];
    const from = this.lit.run === null ? (step > 0 ? -1 : series.x.length) : nearest(series.x, this.lit.x);
    const at = Math.min(series.x.length - 1, Math.max(0, from + (step || 0)));
    this.hooks.lightUp(run.id, series.x[at]);
    this.say(show(this, drawn[place], at, this.u.valToPos(series.x[at], "x"), this.u.valToPos(series.y[at], "y")));
  }
}

export function short(value) {
  if (value == null) return "";
  for (const [size, unit] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size) return `${+(value / size).toPrecision(4)}${unit}`;
  }
  return `${+value.toPrecision(4)}`;
}
