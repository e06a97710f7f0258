// The tooltip of a point on a chart: run, x, value with its interval, whether it is the best within noise.
import { ink } from "./draw.js";
import { view } from "./view.js";

const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;

export function axisWords(value) {
  if (view.x === "time") return `${new Date(value * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
  if (view.x === "hours") return `${+value.toPrecision(4)} h of training`;
  return `${view.x === "step" ? "step" : ""} ${Math.round(value).toLocaleString("en")}${view.x === "tokens" ? " tokens" : ""}`.trim();
}

// Returns the words, for a screen reader.
export function show(panel, { series, run }, at, left, top) {
  const value = (number) => (Math.abs(number) < 1e7 ? number.toFixed(4) : number.toExponential(3));
  const lines = [`${axisWords(series.x[at])}: ${value(series.y[at])}`];
  if (series.low[at] != null) lines.push(`95 %: ${value(series.low[at])} to ${value(series.high[at])}`);
  if (series.id[at] === series.best) lines.push("best within noise");
  const name = document.createElement("b"), dot = document.createElement("span");
  dot.textContent = "● ";
  dot.style.color = ink(run.colour);
  name.textContent = series.weights ? `${run.name} (${series.weights})` : run.name;
  tip.replaceChildren(dot, name, ...lines.map((words, place) => {
    const part = document.createElement(place ? "span" : "div");
    part.textContent = words;
    if (place) part.className = "soft";
    return part;
  }));
  tip.hidden = false;
  panel.u.over.append(tip);
  const width = panel.u.over.clientWidth, right = left > width / 2;
  tip.style.left = right ? "" : `${left + 14}px`;
  tip.style.right = right ? `${width - left + 14}px` : "";
  tip.style.top = `${Math.max(0, Math.min(top - 20, panel.u.over.clientHeight - 80))}px`;
  return `${name.textContent}, ${lines.join(", ")}`;
}

export function hide() { tip.hidden = true; }
