// The file of `plot --out FILE.html`: a panel for each metric and set over the data in the file. uPlot gives axes, cursor and selection.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent); // made by watcher/report/plot_page.py
  const box = document.getElementById("panels"), chips = document.getElementById("chips");
  const wanted = { x: data.x_log ? "log" : "linear", y: data.y_log ? "log" : "linear", band: true, logged: true };
  const hidden = new Set(), panels = [], waiting = new Set(); // waiting: panels to draw, one in each animation frame
  const { band, circle, line, mapping, plus, ratio, triangle } = ckptMarks; // marks.js
  const inks = new Map(); // custom property -> its colour in this theme
  const css = (name) => {
    if (!inks.has(name)) inks.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
    return inks.get(name);
  };
  const ink = (curve) => css(`--k${data.runs[curve.run].colour}`);
  const styleOf = (curve, width) => ({ colour: ink(curve), width, dash: data.runs[curve.run].dash, dots: curve.x.length <= 40 && data.runs.length <= 8 });
  let zoom = null, lit = null, shared = [0, 1]; // lit: {run, x}; shared: what the x axes show

  function made(tag, words, className) {
    const element = document.createElement(tag);
    element.textContent = words;
    if (className) element.className = className;
    return element;
  }

  function short(value) {
    for (const [size, unit] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
      if (Math.abs(value) >= size) return `${+(value / size).toPrecision(4)}${unit}`;
    }
    return `${+value.toPrecision(4)}`;
  }

  const where = (x) => `${data.x} ${Number.isInteger(x) ? x.toLocaleString("en") : +x.toPrecision(4)}`;
  const drawn = (panel) => panel.curves.filter((curve) => !hidden.has(curve.run));

  // [low, high] a little widened; on a logarithmic axis of the positive values only.
  function range(values, log, share) {
    let low = Infinity, high = -Infinity;
    for (const value of values) {
      if (value == null || (log && value <= 0)) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    if (low > high) return log ? [0.1, 1] : [0, 1];
    if (log) { const more = low === high ? 1.2 : (high / low) ** share; return [low / more, high * more]; }
    const more = low === high ? Math.abs(low) * 0.05 || 1 : (high - low) * share;
    return [low - more, high + more];
  }

  const findRange = () => zoom || range(data.panels.flatMap((panel) => drawn(panel).flatMap((curve) => [...curve.x, ...curve.bad])), wanted.x === "log", 0.02);

  function yRange(panel) {
    const [from, to] = shared, values = [], banded = wanted.band && drawn(panel).length <= data.bands_max;
    for (const curve of drawn(panel)) {
      curve.x.forEach((x, at) => {
        if (x < from || x > to) return;
        values.push(curve.y[at]);
        if (banded && curve.low.length) values.push(curve.low[at], curve.high[at]);
      });
      if (wanted.logged) for (const [x, y] of curve.logged) if (x >= from && x <= to) values.push(y);
    }
    return range(values, wanted.y === "log", 0.06);
  }

  function options(panel) {
    const axis = { stroke: css("--soft"), grid: { stroke: css("--grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const figures = (_, ticks) => ticks.map((tick) => (tick == null ? "" : Math.abs(tick) < 1e3 ? `${+tick.toPrecision(5)}` : short(tick)));
    return {
      width: panel.plot.clientWidth || 300, height: data.panels.length === 1 && box.clientWidth > 560 ? 380 : 250, legend: { show: false },
      series: [{}, { show: false }],
      scales: { x: { time: false, distr: wanted.x === "log" ? 3 : 1, auto: false, range: () => shared },
        y: { distr: wanted.y === "log" ? 3 : 1, auto: false, range: () => yRange(panel) } },
      axes: [{ ...axis, values: (_, ticks) => ticks.map((tick) => (tick == null ? "" : short(tick))), space: 60, size: 28, label: data.x, labelSize: 20, labelGap: 0, labelFont: axis.font },
        { ...axis, size: 52, values: figures }],
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false },
        bind: { dblclick: () => () => { setZoom(null); return null; } },
        sync: { key: "plot", scales: ["x", null], filters: { pub: (kind) => kind === "mousemove" || kind === "mouseleave" } } },
      hooks: { draw: [(u) => draw(u, panel)], setCursor: [(u) => moved(u, panel)],
        setSelect: [(u) => {
          if (u.select.width < 4) return;
          const chosen = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          setZoom(chosen);
        }] },
    };
  }

  // One panel in each animation frame: with many runs no frame is long.
  function drawAll() {
    shared = findRange();
    if (!waiting.size) requestAnimationFrame(drawNext);
    for (const panel of panels) waiting.add(panel);
    say();
  }

  function drawNext() {
    const [panel] = waiting;
    waiting.delete(panel);
    drawPanel(panel);
    if (waiting.size) requestAnimationFrame(drawNext);
  }

  // `frame` keeps uPlot's own size, theme and kinds of axes.
  function drawPanel(panel) {
    const frame = `${panel.plot.clientWidth}|${wanted.x}|${wanted.y}|${document.documentElement.dataset.theme}`, [low, high] = yRange(panel);
    if (panel.frame !== frame) {
      panel.frame = frame;
      panel.u?.destroy();
      panel.u = new uPlot(options(panel), [shared, [null, null]], panel.plot);
      panel.upper = document.createElement("canvas"); // the run that is pointed at: to draw it, nothing else is drawn anew
      panel.upper.className = "lit";
      panel.u.root.querySelector(".u-wrap").append(panel.upper);
    } else {
      panel.u.batch(() => { panel.u.setScale("x", { min: shared[0], max: shared[1] }); panel.u.setScale("y", { min: low, max: high }); });
    }
    panel.element.dataset.points = String(drawn(panel).reduce((sum, curve) => sum + curve.x.length + curve.bad.length, 0));
    panel.element.dataset.range = shared.join("~");
  }

  function setZoom(chosen) { zoom = chosen; drawAll(); }

  function toPixels(u) {
    const { left, top, width, height } = u.bbox, { x, y } = u.scales;
    return [mapping(x.min, x.max, left, width, wanted.x === "log"), mapping(y.min, y.max, top + height, -height, wanted.y === "log")];
  }

  function draw(u, panel) {
    const context = u.ctx, [px, py] = toPixels(u);
    const curves = drawn(panel), shown = (x, y) => (wanted.x !== "log" || x > 0) && (wanted.y !== "log" || y > 0);
    context.save();
    context.beginPath();
    context.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    context.clip();
    const thin = (curve) => data.named && !data.named.includes(curve.run);
    if (wanted.band && curves.length <= data.bands_max) for (const curve of curves) band(context, curve, px, py, shown, ink(curve));
    for (const curve of [...curves].sort((a, b) => thin(b) - thin(a))) {
      context.globalAlpha = thin(curve) ? 0.3 : 1;
      line(context, curve, px, py, shown, styleOf(curve, (thin(curve) ? 0.8 : 1.8) * ratio()));
    }
    context.globalAlpha = 1;
    for (const curve of curves) {
      context.strokeStyle = ink(curve);
      context.lineWidth = 1.2 * ratio();
      if (wanted.logged && !thin(curve)) for (const [x, y] of curve.logged) if (shown(x, y)) plus(context, px(x), py(y), 3.5 * ratio());
      context.lineWidth = 2 * ratio();
      context.fillStyle = css("--card");
      if (curve.best && !thin(curve) && shown(...curve.best)) circle(context, px(curve.best[0]), py(curve.best[1]), 5 * ratio());
      for (const x of curve.bad) if (shown(x, 1)) triangle(context, px(x), u.bbox.top, ink(curve), css("--bad"));
    }
    context.restore();
    drawLit(panel, u);
  }

  // The run that is pointed at, over a veil that mutes the others.
  function drawLit(panel, u = panel.u) {
    const { width, height } = u.ctx.canvas, upper = panel.upper, context = upper?.getContext("2d");
    if (!context) return; // uPlot draws before its panel has a second canvas
    Object.assign(upper, { width, height });
    Object.assign(upper.style, { width: `${width / ratio()}px`, height: `${height / ratio()}px` });
    const curves = drawn(panel), chosen = lit && curves.find((curve) => curve.run === lit.run);
    if (!chosen) return;
    const [px, py] = toPixels(u), shown = (x, y) => (wanted.x !== "log" || x > 0) && (wanted.y !== "log" || y > 0);
    context.save();
    context.beginPath();
    context.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    context.clip();
    if (curves.length > 1) {
      context.fillStyle = css("--card");
      context.globalAlpha = 0.6;
      context.fillRect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
      context.globalAlpha = 1;
    }
    line(context, chosen, px, py, shown, styleOf(chosen, 3.2 * ratio()));
    const at = nearest(chosen.x, lit.x);
    if (at >= 0 && shown(chosen.x[at], chosen.y[at])) {
      context.fillStyle = ink(chosen);
      context.strokeStyle = css("--card");
      context.lineWidth = 2 * ratio();
      circle(context, px(chosen.x[at]), py(chosen.y[at]), 5.5 * ratio());
    }
    context.restore();
  }

  // xs ascend.
  function nearest(xs, x) {
    let low = 0, high = xs.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle + 1; else high = middle;
    }
    return low > 0 && x - xs[low - 1] <= xs[low] - x ? low - 1 : high;
  }

  function moved(u, panel) {
    if (!u.cursor.event) return; // synchronised from another panel
    const { left, top } = u.cursor, scale = ratio(), [px, py] = toPixels(u), at0 = u.posToVal(left, "x");
    let best = null;
    for (const curve of left < 0 ? [] : drawn(panel)) {
      const at = nearest(curve.x, at0);
      if (at < 0) continue;
      const far = Math.hypot(((px(curve.x[at]) - u.bbox.left) / scale - left) / 2, (py(curve.y[at]) - u.bbox.top) / scale - top);
      if (!best || far < best.far) best = { far, run: curve.run, x: curve.x[at] };
    }
    light(best);
  }

  function light(next) {
    if (next?.run === lit?.run && next?.x === lit?.x) return;
    lit = next && { run: next.run, x: next.x };
    for (const panel of panels) if (panel.u) drawLit(panel);
    say();
  }

  // Below each panel: the value of the run that is pointed at.
  function say() {
    for (const panel of panels) {
      const curve = lit && drawn(panel).find((each) => each.run === lit.run), at = curve ? nearest(curve.x, lit.x) : -1;
      panel.status.replaceChildren();
      if (at < 0) continue;
      panel.status.append(swatch(data.runs[curve.run]), " ", made("b", data.runs[curve.run].label), ` ${where(curve.x[at])}: `, made("b", `${+curve.y[at].toPrecision(5)}`));
      if (curve.low.length) panel.status.append(` (95 %: ${+curve.low[at].toPrecision(5)} to ${+curve.high[at].toPrecision(5)})`);
      if (curve.best && curve.best[0] === curve.x[at]) panel.status.append(", best within noise");
    }
  }

  function key(event, panel) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], other = { ArrowUp: -1, ArrowDown: 1 }[event.key], curves = drawn(panel).filter((curve) => curve.x.length);
    if (event.key === "Escape") return light(null);
    if (!(step || other) || !curves.length) return;
    event.preventDefault();
    let place = curves.findIndex((curve) => lit && curve.run === lit.run);
    if (place < 0) return light({ run: curves[0].run, x: curves[0].x[step < 0 ? curves[0].x.length - 1 : 0] });
    place = (place + (other || 0) + curves.length) % curves.length;
    const curve = curves[place], at = nearest(curve.x, lit.x) + (step || 0);
    light({ run: curve.run, x: curve.x[Math.min(curve.x.length - 1, Math.max(0, at))] });
  }

  function swatch(run) {
    const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg"), stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
    picture.setAttribute("viewBox", "0 0 24 10");
    picture.setAttribute("class", `swatch-line k${run.colour}`);
    picture.setAttribute("aria-hidden", "true");
    for (const [name, value] of Object.entries({ x1: 0, x2: 24, y1: 5, y2: 5, "stroke-dasharray": run.dash.join(" ") || "none" })) stroke.setAttribute(name, value);
    picture.append(stroke);
    return picture;
  }

  data.runs.forEach((run, place) => {
    const chip = made("label", "", data.named?.includes(place) ? "chip named" : "chip"), tick = document.createElement("input");
    tick.type = "checkbox";
    tick.checked = true;
    tick.addEventListener("change", () => { tick.checked ? hidden.delete(place) : hidden.add(place); drawAll(); });
    chip.append(tick, swatch(run), made("span", run.label));
    chips.append(chip);
  });
  for (const [name, shown] of [["show-all", true], ["show-none", false]]) {
    document.getElementById(name).addEventListener("click", () => {
      data.runs.forEach((_, place) => { shown ? hidden.delete(place) : hidden.add(place); });
      for (const tick of chips.querySelectorAll("input")) tick.checked = shown;
      drawAll();
    });
  }
  for (const panel of data.panels) {
    const element = made("section", "", "panel"), head = made("h2", panel.set), plot = made("div", "", "plot"), status = made("div", "", "status");
    head.append(" ", made("span", panel.label, "soft"));
    status.setAttribute("aria-live", "polite");
    plot.tabIndex = 0;
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", `${panel.set}: ${panel.label}. Arrow keys read points and change the run; the table of values is below.`);
    element.append(head, plot, status);
    box.append(element);
    panels.push(Object.assign(panel, { element, plot, status }));
    plot.addEventListener("keydown", (event) => key(event, panel));
    plot.addEventListener("mouseleave", () => light(null));
  }
  for (const input of document.querySelectorAll("#controls input")) {
    input.addEventListener("change", () => {
      wanted[input.name] = input.type === "checkbox" ? input.checked : input.value;
      drawAll();
    });
  }
  addEventListener("themechange", () => { inks.clear(); drawAll(); });
  let width = 0;
  new ResizeObserver(() => { if (box.clientWidth !== width) { width = box.clientWidth; drawAll(); } }).observe(box);
})();
