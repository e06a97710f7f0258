// The curves, by uPlot: over /api/curves on the dashboard, over the data in the file of `plot --out`. Several runs and sets, 95 % band, lowest loss marked, logged loss dashed.
"use strict";
(() => {
  const box = document.getElementById("chart"), embedded = document.getElementById("data");
  if (!box) return;
  const inFile = embedded && JSON.parse(embedded.textContent); // {series, x, y, log}; null on the dashboard
  const chips = document.getElementById("chips"), readout = document.getElementById("readout");
  const wanted = { x: "step", y: inFile && inFile.log ? "log" : "linear", band: true, logged: true };
  const hidden = new Set();
  let series = [], plot = null, asked = "";

  const key = (one) => `${one.run_id}/${one.eval_set}`;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (index) => css(`--k${index % 24}`);
  const column = { step: "step", tokens: "tokens_seen", time: "saved_s" };

  function text(tag, words, className) {
    const made = document.createElement(tag);
    made.textContent = words;
    if (className) made.className = className;
    return made;
  }

  function short(value) {
    if (value == null) return "-";
    for (const [size, unit] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
      if (Math.abs(value) >= size) return `${+(value / size).toPrecision(3)}${unit}`;
    }
    return `${+value.toPrecision(4)}`;
  }

  // One table for each visible series: x ascending, loss, low, high, logged.
  function table(one) {
    const at = one[column[wanted.x]];
    const order = at.map((_, i) => i).filter((i) => at[i] != null).sort((a, b) => at[a] - at[b]);
    const pick = (values) => order.map((i) => values[i]);
    const low = order.map((i) => edge(one.low[i])), high = order.map((i) => edge(one.high[i]));
    return { rows: [pick(at), pick(one.loss), low, high, pick(one.logged)], finite: pick(one.finite), order };
  }

  function edge(value) {
    return !wanted.band || value == null || (wanted.y === "log" && value <= 0) ? null : value;
  }

  function draw() {
    const shown = series.filter((one) => !hidden.has(key(one)));
    const tables = shown.map(table);
    const lines = [{}], bands = [];
    shown.forEach((one, i) => {
      const ink = colour(series.indexOf(one)), base = lines.length;
      const dots = { show: tables[i].rows[0].length < 80, size: 5, fill: ink };
      lines.push({ stroke: ink, width: 2, points: dots, spanGaps: false, scale: "y" });
      lines.push({ width: 0, stroke: "transparent", points: { show: false }, scale: "y" });
      lines.push({ width: 0, stroke: "transparent", points: { show: false }, scale: "y" });
      const own = wanted.logged && one.logged.some((value) => value != null);
      const line = { stroke: ink, width: 1.5, dash: [6, 5], points: { show: false }, spanGaps: true, scale: "y" };
      lines.push({ ...line, show: own });
      bands.push({ series: [base + 2, base + 1], fill: `${ink}2b` });
    });
    const data = tables.length ? uPlot.join(tables.map((each) => each.rows), tables.map(() => [2, 1, 1, 1, 1])) : [[]];
    const before = plot && plot.cursor.idx;
    if (plot) plot.destroy();
    plot = new uPlot(options(lines, bands, shown, tables), data, box);
    box.dataset.points = String(tables.reduce((sum, each) => sum + each.rows[0].length, 0));
    if (before != null && before < data[0].length) show(before);
  }

  function options(lines, bands, shown, tables) {
    const axis = { stroke: css("--soft"), grid: { stroke: css("--grid"), width: 1 }, ticks: { show: false },
      font: "12px system-ui, sans-serif" };
    const xAxis = wanted.x === "time" ? axis : { ...axis, values: (_, ticks) => ticks.map(short) };
    const figures = (_, ticks) => ticks.map((tick) => (tick == null ? "" : `${+tick.toPrecision(5)}`));
    return {
      width: box.clientWidth || 600, height: box.clientWidth < 560 ? 280 : 360,
      series: lines, bands,
      scales: { x: { time: wanted.x === "time" }, y: { distr: wanted.y === "log" ? 3 : 1, log: 10 } },
      axes: [{ ...xAxis, label: inFile ? inFile.x : null }, { ...axis, size: 56, values: figures, label: inFile ? inFile.y : null }],
      cursor: { points: { size: 7 }, drag: { x: true, y: false } },
      legend: { show: false },
      hooks: { draw: [(u) => mark(u, shown, tables)], setCursor: [(u) => showValues(u, shown)] },
    };
  }

  // A ring around each lowest loss, a triangle at the top edge where a loss is not finite.
  function mark(u, shown, tables) {
    const context = u.ctx, ratio = devicePixelRatio || 1;
    context.save();
    context.setLineDash([]);
    shown.forEach((one, i) => {
      const { rows, finite, order } = tables[i], ink = colour(series.indexOf(one));
      order.forEach((from, place) => {
        const x = u.valToPos(rows[0][place], "x", true);
        if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) return;
        if (!finite[place]) {
          context.fillStyle = css("--bad");
          context.beginPath();
          context.moveTo(x - 5 * ratio, u.bbox.top);
          context.lineTo(x + 5 * ratio, u.bbox.top);
          context.lineTo(x, u.bbox.top + 9 * ratio);
          context.fill();
        } else if (one.id[from] === one.best_id) {
          const y = u.valToPos(rows[1][place], "y", true);
          context.lineWidth = 2 * ratio;
          context.strokeStyle = ink;
          context.fillStyle = css("--card");
          context.beginPath();
          context.arc(x, y, 6 * ratio, 0, 2 * Math.PI);
          context.fill();
          context.stroke();
        }
      });
    });
    context.restore();
  }

  function showValues(u, shown) {
    const i = u.cursor.idx;
    readout.replaceChildren();
    if (i == null || !u.data[0].length) {
      readout.append(`○ ${inFile ? "best within noise" : "lowest loss"}; ▾ not finite. Drag to zoom, double-click to reset.`);
      return;
    }
    const x = u.data[0][i];
    const where = wanted.x === "time" ? new Date(x * 1000).toISOString().slice(0, 19).replace("T", " ") : short(x);
    readout.append(text("b", inFile ? `${inFile.x} ${short(x)}` : `${wanted.x} ${wanted.x === "step" ? x : where}`));
    shown.forEach((one, n) => {
      const loss = u.data[1 + 4 * n][i], own = u.data[4 + 4 * n][i];
      if (loss == null && own == null) return;
      const low = u.data[2 + 4 * n][i], high = u.data[3 + 4 * n][i];
      readout.append("   ", text("span", "●", `k${series.indexOf(one) % 24}`), ` ${label(one)} `);
      readout.append(text("b", loss == null ? "-" : loss.toFixed(4)));
      if (high != null) readout.append(` (95 %: ${low.toFixed(4)} to ${high.toFixed(4)})`);
      if (own != null) readout.append(` (logged ${own.toFixed(4)})`);
    });
  }

  function label(one) {
    if (inFile) return one.name;
    const runs = new Set(series.map((each) => each.run_id));
    return runs.size > 1 ? `${one.run} · ${one.eval_set}` : one.eval_set;
  }

  function show(i) {
    plot.setCursor({ left: plot.valToPos(plot.data[0][i], "x"), top: plot.bbox.height / 2 / (devicePixelRatio || 1) });
  }

  function listChips() {
    chips.replaceChildren(...series.map((one, i) => {
      const chip = text("label", "", "chip"), tick = document.createElement("input");
      tick.type = "checkbox";
      tick.checked = !hidden.has(key(one));
      tick.addEventListener("change", () => { tick.checked ? hidden.delete(key(one)) : hidden.add(key(one)); draw(); });
      const last = [...one.loss].reverse().find((value) => value != null);
      chip.append(tick, text("span", "●", `k${i % 24}`), text("span", label(one)));
      chip.append(text("span", last == null ? "not finite" : last.toFixed(4), "last"));
      if (one.mixed) {
        chip.append(text("span", "mixed", "tag"));
        chip.title = `points were measured differently: ${one.resolved.join("; ")}`;
      }
      return chip;
    }));
    const tokens = document.querySelector('input[name="x"][value="tokens"]');
    if (tokens) tokens.disabled = !series.some((one) => one.tokens_seen.some((value) => value != null));
  }

  async function load() {
    if (inFile) {
      series = inFile.series;
      listChips();
      draw();
      return;
    }
    try {
      const answer = await fetch(box.dataset.curves);
      const words = await answer.text();
      if (!answer.ok || words === asked) return;
      asked = words;
      series = JSON.parse(words).series;
    } catch { return; } // comes again with the next change
    listChips();
    draw();
  }

  for (const input of document.querySelectorAll("#controls input")) {
    input.addEventListener("change", () => {
      wanted[input.name] = input.type === "checkbox" ? input.checked : input.value;
      draw();
    });
  }
  box.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move || !plot || !plot.data[0].length) return;
    event.preventDefault();
    const last = plot.data[0].length - 1, from = plot.cursor.idx ?? (move > 0 ? -1 : last + 1);
    show(Math.min(last, Math.max(0, from + move)));
  });
  addEventListener("livechange", load);
  addEventListener("themechange", () => { if (plot) draw(); });
  let width = 0;
  new ResizeObserver(() => { if (plot && box.clientWidth !== width) { width = box.clientWidth; draw(); } }).observe(box);
  load();
})();
