"""Curves as a PNG, SVG or PDF file, by matplotlib (extra `plot`): a panel for each metric and set. Needs no display.

Owns the layout: title, panels, names of the curves, words on the marks. A panel is drawn by plot_axes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from watcher.errors import EnvironmentProblem
from watcher.report.plot_series import AXES, Panel, Series
from watcher.report.plot_words import BANDS_MAX, BEST_MAX, LEADING, best_words, logged_is_drawn, meaning, named

SUFFIXES = (".png", ".svg", ".pdf")
WIDTH = 6.4  # inches
POINTS = 11  # size of text in an image of that width: 9 pixels where it is shown 390 pixels wide
SMALL, LARGE = 10, 12.5  # of the words below, of the title
GROWTH = 0.75  # of text with the width of a wider image
DPI = 200
TWO_LINES_MAX = 5  # curves with name and best value below one another at their ends
PAD = 0.09  # inches around the image and between its parts
HEIGHTS = {1: 3.6, 2: 2.3, 3: 2.0}  # inches of a panel, by the number of panels in a row
HEIGHT_MIN = 1.1  # inches of a panel: where they would be lower, the image gets higher than asked for
FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei")
NO_GLYPH = "no font here has some signs of the names: they are drawn as boxes; an .svg file keeps them as text"


def save(
    panels: Sequence[Panel], x: str, out: Path, *, x_log: bool = False, y_log: bool = False, title: str = "",
    size: tuple[float, float] | None = None,
) -> list[str]:  # fmt: skip
    """Write the picture; its kind is the file's suffix. size: inches. Raises EnvironmentProblem without matplotlib.

    Text grows with the width, so that it can be read where the image is shown small, and does not fall below 8 points.
    Returns notes for the user.
    """
    try:
        import matplotlib
        from matplotlib import font_manager
    except ImportError:
        raise EnvironmentProblem(
            f"{out.suffix} needs matplotlib",
            hint="in a clone of ckptwatch: pip install '.[plot]', or --out curve.html (needs none)",
        ) from None
    share = (size[0] if size else WIDTH) / WIDTH
    scale = max(8 / POINTS, min(share, share**GROWTH))
    installed = set(font_manager.get_font_names())
    # text stays text, the same input gives the same file, and `$` in a name is no formula
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "ckptwatch", "text.parse_math": False, "pdf.fonttype": 42}
    settings |= {"font.family": [font for font in FONTS if font in installed], "axes.linewidth": 0.8 * scale}
    settings |= dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize", "legend.fontsize"), POINTS * scale)
    settings |= dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), POINTS * scale)
    with matplotlib.rc_context(settings), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure = _Picture(panels, x, scale, size, title, x_log=x_log, y_log=y_log).figure
        metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(out.suffix)
        figure.savefig(out, dpi=DPI, metadata=metadata)
    missing = any("missing from" in str(each.message) for each in caught)
    return [NO_GLYPH] if missing and out.suffix != ".svg" else []


class _Picture:
    """The figure, laid out: panels between title and legend."""

    def __init__(
        self, panels: Sequence[Panel], x: str, scale: float, size: tuple[float, float] | None, title: str, *,
        x_log: bool, y_log: bool,
    ) -> None:  # fmt: skip
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        from watcher.report.plot_axes import INK, SOFT

        self.scale = scale
        self.panels = panels
        self.x = x
        self.width = size[0] if size else WIDTH * scale
        self.columns = 1 if len(panels) == 1 else 2 if len(panels) <= 6 else 3
        self.rows = -(-len(panels) // self.columns)
        self.names, which = named(panels)
        self.figure = Figure(figsize=(self.width, 4), dpi=DPI)  # text is measured as it is drawn
        self.renderer = FigureCanvasAgg(self.figure).get_renderer()
        self.direct = len(panels) == 1 and 1 < len(self.names) <= LEADING and self._names_fit()
        band = max(len(panel.series) for panel in panels) <= BANDS_MAX
        words = meaning(panels, band=band)
        if which:
            words = f"{which} The others are thin. {words}"
        if x_log and any(at <= 0 for panel in panels for curve in panel.series for at in curve.xs):
            words += " Points at 0 are not drawn on a logarithmic axis."
        top, head = self._block(title, LARGE, "bold") if title else (0.0, "")
        below, foot = self._block(words, SMALL, "normal") if words else (0.0, "")
        legend, legend_inches = (None, 0.0) if self.direct else self._legend()
        around = top + below + legend_inches
        wanted = (size[1] - around) / self.rows if size else HEIGHTS[self.columns] * scale
        self.panel_inches = max(wanted, HEIGHT_MIN * scale)
        height = self.panel_inches * self.rows + around
        self.figure.set_size_inches(self.width, height)
        pad = PAD * scale
        rect = (0, (below + legend_inches) / height, 1, 1 - around / height)
        engine = ConstrainedLayoutEngine(w_pad=pad, h_pad=pad * 0.8, wspace=0.02, hspace=0.02, rect=rect)
        self.figure.set_layout_engine(engine)
        if head:
            self._text(head, 1 - pad / height, LARGE, INK, weight="bold")
        if foot:
            self._text(foot, (below - pad / 2) / height, SMALL, SOFT)
        if legend is not None:
            place = (pad / self.width, (below + legend_inches - pad / 3) / height)
            legend.set_bbox_to_anchor(place, self.figure.transFigure)
        self._panels(x_log=x_log, y_log=y_log)
        self.figure.align_ylabels()

    def _inches(self, words: str, points: float = POINTS, weight: str = "normal") -> float:
        """Width of one line of text."""
        from matplotlib.font_manager import FontProperties

        font = FontProperties(size=points * self.scale, weight=weight)
        return self.renderer.get_text_width_height_descent(words, font, False)[0] / self.figure.dpi

    def _wrapped(self, words: str, inches: float, points: float = POINTS, weight: str = "normal") -> str:
        """Lines of at most that width, broken at spaces, within a word where that is longer."""
        lines = [""]
        for word in words.split(" "):
            joined = f"{lines[-1]} {word}".strip()
            if self._inches(joined, points, weight) <= inches:
                lines[-1] = joined
                continue
            if lines[-1]:
                lines.append("")
            for sign in word:
                if lines[-1] and self._inches(lines[-1] + sign, points, weight) > inches:
                    lines.append("")
                lines[-1] += sign
        return "\n".join(lines)

    def _cut(self, words: str, inches: float, weight: str = "normal") -> str:
        """The words, without their middle where they are longer than that."""
        if self._inches(words, weight=weight) <= inches:
            return words
        for kept in range(len(words) - 1, 1, -1):
            cut = f"{words[: -(-kept // 2)]}…{words[len(words) - kept // 2 :]}"
            if self._inches(cut, weight=weight) <= inches:
                return cut
        return "…"

    def _block(self, words: str, points: float, weight: str) -> tuple[float, str]:
        """(height in inches with its padding, lines) of a paragraph as wide as the image."""
        lines = self._wrapped(words, self.width - 2.5 * PAD * self.scale, points, weight)
        return (lines.count("\n") + 1) * points * self.scale * 1.25 / 72 + 1.5 * PAD * self.scale, lines

    def _text(self, words: str, y: float, points: float, colour: str, **more: Any) -> None:
        made = self.figure.text(PAD * self.scale / self.width, y, words, va="top", ha="left", color=colour,
                                fontsize=points * self.scale, linespacing=1.25, **more)  # fmt: skip
        made.set_in_layout(False)

    def _entries(self) -> list[tuple[str, dict[str, Any]]]:
        """(label, style) of each line of the legend: one for each run and mean, whatever the number of panels."""
        from watcher.report.plot_axes import style_of

        first = {curve.label: curve for panel in reversed(self.panels) for curve in reversed(panel.series)}
        entries = []
        for label in self.names:
            best = best_words(first[label], self.x) if len(self.panels) == 1 and len(self.names) <= BEST_MAX else ""
            entries.append((f"{label}  {best}".rstrip(), style_of(first[label])))
        return entries

    def _legend(self) -> tuple[Any, float]:
        """The legend below the panels, in as many columns as there is room for, and its height."""
        from matplotlib.lines import Line2D

        from watcher.report.plot_axes import INK

        entries = self._entries()
        handle = 0.64 * self.scale  # inches: line and gaps of an entry
        room = self.width - 2 * PAD * self.scale + 0.22 * self.scale
        labels = [self._cut(label, room - handle) for label, _ in entries]
        widest = max(self._inches(label) for label in labels) + handle
        columns = max(1, min(len(labels), int(room / widest)))
        columns = -(-len(labels) // -(-len(labels) // columns))  # as even as can be
        size = POINTS * self.scale / 72  # matplotlib's unit for what follows
        legend = self.figure.legend(
            [Line2D([], [], lw=1.8 * self.scale, **style) for _, style in entries], labels, loc="upper left",
            ncols=columns, frameon=False, borderpad=0, borderaxespad=0, handlelength=0.36 * self.scale / size,
            handletextpad=0.06 * self.scale / size, columnspacing=0.22 * self.scale / size, labelspacing=0.3,
            labelcolor=INK,
        )  # fmt: skip
        legend.set_in_layout(False)
        return legend, legend.get_window_extent(self.renderer).height / self.figure.dpi + PAD * self.scale

    def _names_fit(self) -> bool:
        """Whether the names can stand at the ends of the curves: each is short, and each curve has an end."""
        curves = [curve for curve in self.panels[0].series if curve.label in self.names]
        return all(curve.ys and self._inches(curve.label) < self._beside() for curve in curves)

    def _beside(self) -> float:
        """Inches for names at the ends of curves."""
        return 0.3 * self.width

    def _panels(self, *, x_log: bool, y_log: bool) -> None:
        from watcher.report.plot_axes import INK, SOFT, draw_curves, set_axes

        every = {curve.label for panel in self.panels for curve in panel.series}
        standing_out = None if len(every) == len(self.names) else self.names
        logged = logged_is_drawn(self.panels)
        limits = _x_limits(self.panels, log=x_log)
        beside = self._beside() + 0.5 * self.scale if self.direct else 0.0
        inches = (self.width / self.columns - 0.7 * self.scale - beside, self.panel_inches - 0.6 * self.scale)
        for place, panel in enumerate(self.panels):
            axes = self.figure.add_subplot(self.rows, self.columns, place + 1)
            draw_curves(axes, panel, standing_out, self.scale, logged=logged)
            set_axes(axes, panel, limits, (inches[0] / self.scale, inches[1] / self.scale), x_log=x_log, y_log=y_log)
            axes.set_title(self._cut(panel.eval_set, inches[0], "bold"), loc="left", color=INK, weight="bold")
            left = self.panels[place - 1] if place % self.columns else None
            if left is None or left.label != panel.label:
                axes.set_ylabel(self._wrapped(panel.label, self.panel_inches - 0.3 * self.scale), color=SOFT)
            if place + self.columns < len(self.panels):
                axes.tick_params(labelbottom=False)
            else:
                axes.set_xlabel(AXES[self.x], color=SOFT)
            if self.direct:
                self._label_ends(axes, panel, standing_out)

    def _label_ends(self, axes: Any, panel: Panel, names: Sequence[str] | None) -> None:
        """Names at the right of the panel, each at the height where its curve ends and apart from the others."""
        from matplotlib.transforms import ScaledTranslation

        from watcher.report.plot_axes import INK, style_of

        curves = [curve for curve in panel.series if curve.ys and (names is None or curve.label in names)]
        beside = axes.transAxes + ScaledTranslation(0.42 * self.scale, 0, self.figure.dpi_scale_trans)
        texts = [axes.text(1, 0.5, end, transform=beside, va="center", color=INK) for end in self._end_words(curves)]
        self.figure.draw_without_rendering()
        box = axes.get_window_extent()
        last = axes.transData.transform([(curve.xs[-1], curve.ys[-1]) for curve in curves])
        ends = (last - (box.x0, box.y0)) / box.size
        height = max(text.get_window_extent().height for text in texts) / box.height * 1.12
        heights = apart([min(1.0, max(0.0, float(y))) for _, y in ends], height)
        unit = self.figure.dpi * self.scale / box.width  # an inch, scaled, as a part of the panel's width
        for curve, text, (x, y), at in zip(curves, texts, ends, heights, strict=True):
            text.set_y(at)
            xs, ys = [1 + 0.17 * unit, 1 + 0.38 * unit], [at, at]
            style = {**style_of(curve), "clip_on": False, "transform": axes.transAxes}
            axes.plot(xs, ys, lw=1.8 * self.scale, **style)
            if x > 0.9 and math.isfinite(y):
                axes.plot([max(float(x), 1.0) + 0.03 * unit, xs[0]], [y, at], **{**style, "linestyle": "-"},
                          lw=0.7 * self.scale, alpha=0.6)  # fmt: skip

    def _end_words(self, curves: Sequence[Series]) -> list[str]:
        """For each curve its name, with the best value where there is room for all of them."""
        between = "\n" if len(curves) <= TWO_LINES_MAX else "  "
        whole = [f"{curve.label}{between}{best_words(curve, self.x)}".rstrip() for curve in curves]
        widest = max(self._inches(line) for words in whole for line in words.split("\n"))
        return whole if widest <= self._beside() else [curve.label for curve in curves]


def apart(places: Sequence[float], height: float) -> list[float]:
    """The places moved as little as can be so that neighbours are at least `height` apart, all between 0 and 1."""
    height = min(height, 1.0 / max(1, len(places) - 1)) if len(places) > 1 else height
    order = sorted(range(len(places)), key=lambda n: places[n])
    groups: list[list[float]] = []  # [middle, members]
    for n in order:
        groups.append([places[n], 1])
        while True:
            for group in groups:
                half = (group[1] - 1) * height / 2
                group[0] = min(1 - half, max(half, group[0]))
            near = len(groups) > 1 and (
                groups[-1][0] - groups[-2][0] < (groups[-1][1] + groups[-2][1]) / 2 * height - 1e-9
            )
            if not near:
                break
            last, before = groups.pop(), groups.pop()
            members = last[1] + before[1]
            groups.append([(last[0] * last[1] + before[0] * before[1]) / members, members])
    moved = [middle + (place - (count - 1) / 2) * height for middle, count in groups for place in range(int(count))]
    return [at for _, at in sorted(zip(order, moved, strict=True))]


def _x_limits(panels: Sequence[Panel], *, log: bool) -> tuple[float, float]:
    """Of the x axis that all panels share."""
    xs = [at for panel in panels for curve in panel.series for at in (*curve.xs, *curve.diverged)]
    if log:
        xs = [at for at in xs if at > 0] or [1.0]
        share = (max(xs) / min(xs)) ** 0.03 if max(xs) > min(xs) else 1.5
        return min(xs) / share, max(xs) * share
    room = (max(xs) - min(xs)) * 0.03 or abs(min(xs)) * 0.05 or 1.0
    return min(xs) - room, max(xs) + room
