// A region becomes what the server shows now, with as little change as possible: focus, selection, ticks and open details stay.
// Nodes with data-key are the same node when the key is the same. The server's own escaped HTML is all that is ever put in.

// What the reader or a script of the page has set is not the server's to take back.
const KEPT = { DETAILS: ["open"], INPUT: ["checked", "value"], TR: ["hidden"], SECTION: ["data-points", "data-curves", "data-range"] };

export function morph(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) return;
  attributes(old, fresh);
  if (!old.hasAttribute("data-own")) children(old, fresh);
}

function attributes(old, fresh) {
  const kept = KEPT[old.tagName] || [];
  for (const { name, value } of fresh.attributes) {
    if (!kept.includes(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!kept.includes(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
}

function keyOf(node) { return node.nodeType === Node.ELEMENT_NODE ? node.dataset.key ?? (node.id || null) : null; }

function same(old, fresh) {
  return old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName && keyOf(old) === keyOf(fresh);
}

function children(old, fresh) {
  const known = new Map();
  for (const node of old.childNodes) if (keyOf(node) !== null) known.set(keyOf(node), node);
  const ownOrder = old.hasAttribute("data-own-order"), hadRows = known.size > 0;
  const stay = new Set();
  let place = old.firstChild;
  for (const node of [...fresh.childNodes]) {
    const key = keyOf(node);
    let match = key !== null ? known.get(key) : null;
    if (match && match.nodeName !== node.nodeName) match = null;
    if (!match && key === null && place && same(place, node)) match = place;
    if (!match) {
      match = document.importNode(node, true);
      if (hadRows && node.nodeName === "TR" && key !== null) match.classList.add("fresh");
      old.insertBefore(match, place);
    } else {
      morph(match, node);
      if (match === place) place = place.nextSibling;
      else if (!ownOrder) old.insertBefore(match, place);
    }
    stay.add(match);
  }
  for (const node of [...old.childNodes]) if (!stay.has(node)) node.remove();
}
