// Marks on the canvas of a chart, in device pixels: what chart.js draws with. Of the file of `plot --out FILE.html`.
"use strict";
const ckptMarks = (() => {
  const ratio = () => devicePixelRatio || 1;

  // From values to device pixels, once for each drawing: uPlot's own function takes the scale apart for each point.
  function mapping(from, to, start, length, log) {
    const way = log ? Math.log : (value) => value, low = way(from), factor = length / (way(to) - low);
    return (value) => start + (way(value) - low) * factor;
  }

  // style: {colour, width, dash, dots}
  function line(context, curve, px, py, shown, style) {
    context.strokeStyle = context.fillStyle = style.colour;
    context.lineWidth = style.width;
    context.setLineDash(style.dash.map((length) => length * ratio()));
    context.beginPath();
    let pen = false;
    curve.x.forEach((x, at) => {
      if (!shown(x, curve.y[at])) { pen = false; return; }
      pen ? context.lineTo(px(x), py(curve.y[at])) : context.moveTo(px(x), py(curve.y[at]));
      pen = true;
    });
    context.stroke();
    context.setLineDash([]);
    if (style.dots) {
      curve.x.forEach((x, at) => { if (shown(x, curve.y[at])) context.fillRect(px(x) - 2 * ratio(), py(curve.y[at]) - 2 * ratio(), 4 * ratio(), 4 * ratio()); });
    }
  }

  function band(context, curve, px, py, shown, colour) {
    const places = [...curve.low.keys()].filter((at) => shown(curve.x[at], curve.low[at]));
    if (places.length < 2) return;
    context.beginPath();
    for (const at of places) context.lineTo(px(curve.x[at]), py(curve.high[at]));
    for (const at of places.reverse()) context.lineTo(px(curve.x[at]), py(curve.low[at]));
    context.fillStyle = colour;
    context.globalAlpha = 0.15;
    context.fill();
    context.globalAlpha = 1;
  }

  function plus(context, x, y, arm) {
    context.beginPath();
    context.moveTo(x - arm, y); context.lineTo(x + arm, y);
    context.moveTo(x, y - arm); context.lineTo(x, y + arm);
    context.stroke();
  }

  function circle(context, x, y, radius) {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  }

  function triangle(context, x, top, fill, stroke) {
    context.fillStyle = fill;
    context.strokeStyle = stroke;
    context.lineWidth = 1.5 * ratio();
    context.beginPath();
    context.moveTo(x - 5 * ratio(), top); context.lineTo(x + 5 * ratio(), top); context.lineTo(x, top + 9 * ratio());
    context.closePath();
    context.fill();
    context.stroke();
  }

  return { band, circle, line, mapping, plus, ratio, triangle };
})();
