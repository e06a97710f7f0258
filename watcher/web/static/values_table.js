// The numbers behind a chart as a table, for screen readers and for copying; made only while it is open.
import { axisWords } from "./tooltip.js";

const ROWS_MAX = 500;

export function fillTable(panel) {
  panel.values.querySelector(".scroll")?.remove();
  if (!panel.values.open) return;
  const box = document.createElement("div"), table = document.createElement("table");
  box.className = "scroll";
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", `Values of ${panel.box.getAttribute("aria-label")}`);
  table.append(row("th", ["run", "at", panel.label, "95 % from", "to"]));
  const body = table.createTBody(), [low, high] = panel.range;
  let all = 0;
  for (const { series, run } of panel.drawn()) {
    for (let at = 0; at < series.x.length; at++) {
      if (series.x[at] < low || series.x[at] > high || ++all > ROWS_MAX) continue;
      const edge = (values) => (values[at] == null ? "-" : `${values[at]}`);
      body.append(row("td", [run.name, axisWords(series.x[at]), `${series.y[at]}`, edge(series.low), edge(series.high)]));
    }
  }
  if (all > ROWS_MAX) body.append(row("td", [`${all - ROWS_MAX} more: zoom in, or see Checkpoints, as CSV`, "", "", "", ""]));
  box.append(table);
  panel.values.append(box);
}

function row(tag, cells) {
  const made = document.createElement("tr");
  cells.forEach((words, place) => {
    const cell = document.createElement(tag);
    cell.textContent = words;
    if (tag === "th") cell.scope = "col";
    if (place >= 2) cell.className = "n";
    made.append(cell);
  });
  return made;
}
