// Curves on a canvas: lines, 95 % bands, best points, triangles where a loss is not finite. Positions in device pixels.
import { placeOf } from "./curves.js";
import { view } from "./view.js";

const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]]; // watcher/report/palette.py
export const BANDS_MAX = 24;
const RINGS_MAX = 40, DOTS_MAX = 400;
const CROWD = 40, LEADING = 8; // more curves than this: the best ones of the panel are strong, the others faint
const FAINT = (curves) => Math.max(0.15, Math.min(0.4, 24 / curves)); // opacity: the more there are, the less each shows
let inks = null;

export function ink(place) {
  if (!inks) {
    const style = getComputedStyle(document.documentElement);
    inks = { bad: style.getPropertyValue("--bad").trim(), card: style.getPropertyValue("--card").trim() };
    for (let at = 0; at < 24; at++) inks[at] = style.getPropertyValue(`--k${at}`).trim();
  }
  return inks[place];
}
addEventListener("themechange", () => { inks = null; });

// From values to pixels, once for each drawing: uPlot's own function takes the scale apart for each point.
function mapping(from, to, start, length, log) {
  const way = log ? Math.log : (value) => value;
  const low = way(from), factor = length / (way(to) - low);
  return (value) => start + (way(value) - low) * factor;
}

function toPixels(u) {
  const { left, top, width, height } = u.bbox, { x, y } = u.scales;
  return [mapping(x.min, x.max, left, width, view.xlog), mapping(y.min, y.max, top + height, -height, view.ylog)];
}

function clipped(u, context) {
  context.save();
  context.beginPath();
  context.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  context.clip();
}

// Which of these curves are strong while the others are faint: the pinned run's, or the best ones of a crowd. null: all alike.
export function strongOf(drawn, higherIsBetter) {
  const pinned = drawn.filter(({ run }) => run.id === view.pin);
  if (pinned.length) return new Set(pinned);
  if (drawn.length <= CROWD) return null;
  const sign = higherIsBetter ? -1 : 1;
  const best = ({ series }) => series.y.reduce((least, value) => Math.min(least, sign * value), Infinity);
  const ranked = drawn.map((each) => [best(each), each]).sort((a, b) => a[0] - b[0]);
  return new Set(ranked.slice(0, LEADING).map((pair) => pair[1]));
}

// drawn: [{series, run}]; strong: some of them, or null; lit: drawn thick by itself on the upper canvas.
export function drawCurves(u, drawn, strong) {
  const context = u.ctx, [px, py] = toPixels(u), ratio = devicePixelRatio || 1;
  clipped(u, context);
  const isStrong = (each) => strong === null || strong.has(each), few = drawn.length <= BANDS_MAX;
  if (view.band) for (const each of drawn) if (few ? isStrong(each) : strong?.size === 1 && isStrong(each)) band(context, u, each, px, py);
  const dots = drawn.reduce((sum, { series }) => sum + series.x.length, 0) <= DOTS_MAX;
  // Of many curves each is one pixel wide, where pixels are large: hairlines take a browser without a GPU half the time.
  const thin = ratio > 1 ? 1.1 * ratio : 1, width = few ? 1.7 * ratio : thin;
  for (const way of strong === null ? [true] : [false, true]) {
    context.globalAlpha = way ? 1 : FAINT(drawn.length);
    for (const each of drawn) {
      if (isStrong(each) === way) line(context, u, each, px, py, strong === null ? width : way ? 2.2 * ratio : thin, dots && way);
    }
  }
  context.globalAlpha = 1;
  for (const each of drawn) {
    if (isStrong(each) || !few) marks(context, u, each, px, py, ratio, isStrong(each) && (strong !== null || drawn.length <= RINGS_MAX));
  }
  context.restore();
}

// alone: no other curve is drawn below, which a veil would have to mute.
export function drawLit(u, canvas, each, at, alone) {
  const context = canvas.getContext("2d"), ratio = devicePixelRatio || 1;
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!each) return;
  const [px, py] = toPixels(u);
  clipped(u, context);
  if (!alone) {
    context.fillStyle = ink("card");
    context.globalAlpha = 0.6;
    context.fillRect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    context.globalAlpha = 1;
  }
  if (view.band) band(context, u, each, px, py);
  line(context, u, each, px, py, 3 * ratio, false);
  if (at >= 0) {
    context.fillStyle = ink(each.run.colour);
    context.strokeStyle = ink("card");
    context.lineWidth = 2 * ratio;
    context.beginPath();
    context.arc(px(each.series.x[at]), py(each.series.y[at]), 5.5 * ratio, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  }
  context.restore();
}

function between(u, xs) {
  return [Math.max(0, placeOf(xs, u.scales.x.min) - 1), Math.min(xs.length, placeOf(xs, u.scales.x.max) + 1)];
}

const drawable = (x, y) => !(view.xlog && x <= 0) && !(view.ylog && y <= 0);

function line(context, u, { series, run }, px, py, width, dots) {
  const { x, y } = series, [from, to] = between(u, x), ratio = devicePixelRatio || 1;
  context.strokeStyle = context.fillStyle = ink(run.colour);
  context.lineWidth = width;
  const dash = series.weights ? [1, 4] : DASHES[run.dash]; // a mean of checkpoints is dotted, whatever its run
  context.setLineDash(dash.map((length) => length * ratio));
  context.beginPath();
  let pen = false;
  for (let at = from; at < to; at++) {
    if (!drawable(x[at], y[at])) { pen = false; continue; }
    pen ? context.lineTo(px(x[at]), py(y[at])) : context.moveTo(px(x[at]), py(y[at]));
    pen = true;
  }
  context.stroke();
  context.setLineDash([]);
  if (dots || to - from === 1) {
    for (let at = from; at < to; at++) {
      if (drawable(x[at], y[at])) context.fillRect(px(x[at]) - 2 * ratio, py(y[at]) - 2 * ratio, 4 * ratio, 4 * ratio);
    }
  }
}

function band(context, u, { series, run }, px, py) {
  const { x, low, high } = series, [from, to] = between(u, x);
  const places = [];
  for (let at = from; at < to && low.length; at++) if (low[at] != null && drawable(x[at], low[at])) places.push(at);
  if (places.length < 2) return;
  context.beginPath();
  for (const at of places) context.lineTo(px(x[at]), py(high[at]));
  for (const at of places.reverse()) context.lineTo(px(x[at]), py(low[at]));
  context.fillStyle = ink(run.colour);
  context.globalAlpha = 0.15;
  context.fill();
  context.globalAlpha = 1;
}

function marks(context, u, { series, run }, px, py, ratio, ringed) {
  for (const [at] of series.bad) {
    if (view.xlog && at <= 0) continue;
    const x = px(at), top = u.bbox.top;
    context.fillStyle = ink(run.colour);
    context.strokeStyle = ink("bad");
    context.lineWidth = 1.5 * ratio;
    context.beginPath();
    context.moveTo(x - 5 * ratio, top);
    context.lineTo(x + 5 * ratio, top);
    context.lineTo(x, top + 9 * ratio);
    context.closePath();
    context.fill();
    context.stroke();
  }
  const best = ringed ? series.id.indexOf(series.best) : -1;
  if (best < 0 || !drawable(series.x[best], series.y[best])) return;
  context.strokeStyle = ink(run.colour);
  context.fillStyle = ink("card");
  context.lineWidth = 2 * ratio;
  context.beginPath();
  context.arc(px(series.x[best]), py(series.y[best]), 5 * ratio, 0, 2 * Math.PI);
  context.fill();
  context.stroke();
}
