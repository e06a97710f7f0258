"""What a chart's canvas really shows, counted in pixels."""

from __future__ import annotations

#: How many opaque pixels of the canvas are no shade of grey. For page.evaluate, with the canvas' selector or without.
COLOURED = """(selector) => {
  const canvas = document.querySelector(selector || "#chart canvas");
  if (!canvas || !canvas.width) return 0;
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let found = 0;
  for (let i = 0; i < data.length; i += 4) {
    const spread = Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]);
    if (data[i + 3] > 128 && spread > 60) found += 1;
  }
  return found;
}"""
