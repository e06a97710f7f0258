// The view: metrics, axes, zoom, filter, order, hidden runs. It stands in the address, so that a reload and a link keep it.
export const AXES = { step: "step", tokens: "tokens seen", time: "time (UTC)", hours: "hours since the run's first checkpoint" };
export const view = { x: "step", xlog: false, ylog: false, band: true, q: "", regex: false, sort: "name", down: false,
  hidden: new Set(), zoom: null, pin: null };

const given = new URLSearchParams(location.search);
if (Object.hasOwn(AXES, given.get("x"))) view.x = given.get("x");
for (const flag of ["xlog", "ylog", "regex", "down"]) view[flag] = given.get(flag) === "1";
view.band = given.get("band") !== "0";
view.q = given.get("q") || "";
view.pin = +given.get("pin") || null;
view.sort = given.get("sort") || "name";
view.hidden = numbers(given.get("hide") || "");
const only = given.has("only") ? numbers(given.get("only")) : null;
const [first, last] = (given.get("zoom") || "").split("~").map(Number);
if (first < last) view.zoom = [first, last];

// `only` names the shown runs where fewer are shown than hidden; runs that come later are hidden then.
export function adoptRuns(ids) {
  if (only) for (const id of ids) if (!only.has(id) && !view.seen?.has(id)) view.hidden.add(id);
  view.seen = new Set(ids);
}

export function write(more = {}) {
  const address = new URL(location.href), query = address.searchParams;
  const put = (name, value, standard) => (value === standard ? query.delete(name) : query.set(name, value));
  put("x", view.x, "step");
  for (const flag of ["xlog", "ylog", "regex", "down"]) put(flag, view[flag] ? "1" : "", "");
  put("band", view.band ? "" : "0", "");
  put("q", view.q, "");
  put("sort", view.sort, "name");
  put("pin", view.pin, null);
  put("zoom", view.zoom ? view.zoom.map((value) => +value.toPrecision(10)).join("~") : "", "");
  const all = [...(view.seen || [])], shown = all.filter((id) => !view.hidden.has(id));
  const few = shown.length < all.length - shown.length;
  put("hide", few ? "" : ranges(all.filter((id) => view.hidden.has(id))), "");
  few ? query.set("only", ranges(shown)) : query.delete("only");
  for (const [name, value] of Object.entries(more)) put(name, value, "");
  history.replaceState(null, "", address);
}

// "1-3,7" <-> the set {1, 2, 3, 7}
function numbers(text) {
  const found = new Set();
  for (const part of text.split(",")) {
    const [low, high] = part.split("-").map(Number);
    if (!low) continue;
    for (let at = low; at <= Math.min(high || low, low + 10000); at++) found.add(at);
  }
  return found;
}

function ranges(ids) {
  const parts = [];
  for (const id of [...ids].sort((a, b) => a - b)) {
    const open = parts[parts.length - 1];
    if (open && open[1] === id - 1) open[1] = id; else parts.push([id, id]);
  }
  return parts.map(([low, high]) => (low === high ? low : `${low}-${high}`)).join(",");
}
