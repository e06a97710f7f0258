// The data of panels: fetched one panel at a time, and where the points are on both axes.
import { view } from "./view.js";

let line = Promise.resolve(); // one request after the other: the server shares a machine with a training run

// null: the server did not answer. The axis is the one that is chosen when the request's turn comes: the answer names it.
export function fetchCurves(panel, zoom) {
  const answer = line.then(async () => {
    const query = new URLSearchParams({ metric: panel.metric, set: panel.set, x: view.x });
    if (zoom) { query.set("from", zoom[0]); query.set("to", zoom[1]); }
    const got = await fetch(`/api/curves?${query}`);
    return got.ok ? got.json() : null;
  }).catch(() => null);
  line = answer.then(() => null);
  return answer;
}

// Done when every request so far has been answered.
export function idle() { return line; }

// First place whose x is at least `at`.
export function placeOf(xs, at) {
  let low = 0, high = xs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] < at) low = middle + 1; else high = middle;
  }
  return low;
}

export function nearest(xs, at) {
  const after = placeOf(xs, at);
  if (after === 0) return xs.length ? 0 : -1;
  if (after === xs.length) return xs.length - 1;
  return at - xs[after - 1] <= xs[after] - at ? after - 1 : after;
}

// [lowest, highest] x of these series; on a logarithmic axis only positive ones.
export function reach(all) {
  let low = Infinity, high = -Infinity;
  for (const one of all) {
    const xs = one.x, from = view.xlog ? placeOf(xs, Number.MIN_VALUE) : 0;
    if (from >= xs.length) continue;
    low = Math.min(low, xs[from]);
    high = Math.max(high, xs[xs.length - 1]);
  }
  return low <= high ? widened(low, high, view.xlog, 0.02) : null;
}

// [lowest, highest] value of these series between two x; banded: with the bands around them.
export function height(all, from, to, banded) {
  let low = Infinity, high = -Infinity;
  for (const one of all) {
    const last = Math.min(placeOf(one.x, to) + 1, one.x.length);
    for (let at = placeOf(one.x, from); at < last; at++) {
      const value = one.y[at];
      if (one.x[at] > to || (view.ylog && value <= 0)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
      if (!banded || one.low[at] == null) continue;
      if (one.low[at] < low && !(view.ylog && one.low[at] <= 0)) low = one.low[at];
      if (one.high[at] > high) high = one.high[at];
    }
  }
  return low <= high ? widened(low, high, view.ylog, 0.06) : null;
}

function widened(low, high, log, share) {
  if (log) {
    const more = low === high ? 1.2 : (high / low) ** share;
    return [low / more, high * more];
  }
  const more = low === high ? Math.abs(low) * 0.05 || 1 : (high - low) * share;
  return [low - more, high + more];
}
