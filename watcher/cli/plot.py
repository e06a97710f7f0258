"""`ckptwatch plot`: curves in the terminal, as an image, or as one self-contained HTML page."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from watcher.cli.completing import complete_runs, complete_sets
from watcher.cli.options import Globals, db_option, examples, json_option, print_json, reading, say
from watcher.domain.metrics import ACCURACY, LOSS, SCORES, Metric, best_by, headline
from watcher.errors import EnvironmentProblem, NothingFound, UsageError


@click.command(
    "plot",
    epilog=examples(
        "ckptwatch plot",
        "ckptwatch plot --run a --run b --out curve.html",
        "ckptwatch plot --metric accuracy --eval-set hellaswag --out accuracy.png",
        "ckptwatch plot --metric loss --metric bits_per_byte --log --title 'Two runs' --size 7x5 --out paper.pdf",
    ),
)
@click.option("--out", metavar="FILE", help="Write FILE.png, .svg, .pdf or .html instead of drawing in the terminal.")
@click.option("--run", "runs", multiple=True, metavar="NAME", help="Only these runs.  [default: all]",
              shell_complete=complete_runs)  # fmt: skip
@click.option("--eval-set", "sets", multiple=True, metavar="NAME", help="Only these sets.  [default: all]",
              shell_complete=complete_sets)  # fmt: skip
@click.option("--metric", "--value", "metrics", type=click.Choice(list(SCORES)), multiple=True,
              help="Y axis; repeat it for several.  [default: loss of the token sets; accuracy where there are only "
              "tasks]")  # fmt: skip
@click.option("--by", "x", type=click.Choice(["step", "tokens", "time"]), default="step", show_default=True,
              help="X axis.")  # fmt: skip
@click.option("--log", is_flag=True, help="Logarithmic Y axis.")
@click.option("--log-x", is_flag=True, help="Logarithmic X axis.")
@click.option("--title", metavar="TEXT", help="Title of the image or page.")
@click.option("--size", metavar="WxH", help="Width and height of an image in inches.  It gets higher where its panels "
              "would be too low.  [default: 6.4 wide, as high as the panels need]")  # fmt: skip
@json_option
@db_option
@click.pass_obj
def command(
    flags: Globals, out: str | None, runs: tuple[str, ...], sets: tuple[str, ...], metrics: tuple[str, ...], x: str,
    log: bool, log_x: bool, title: str | None, size: str | None, as_json: bool, db: str | None,
) -> None:  # fmt: skip
    """Draw loss curves in the terminal, or write an image or HTML page.

    An image or page has a panel for each metric and eval set. Shows the 95 % interval (in the terminal as bars, up to
    30 points in all), the loss logged by the trainer and the best point.
    """
    from watcher.report.plot_series import AXES, VALUES, series_of
    from watcher.store.read.results import run_numbers

    numbers = run_numbers(reading(flags, db))
    series: list = []
    curves: list[dict[str, Any]] = []
    notes: list[str] = []
    for metric in dict.fromkeys(metrics or (None,)):
        of_metric, notes, y = read_curves(flags, db, runs, sets, metric, by_time=x != "step")
        curves += [{**_plain(curve), "metric": y} for curve in of_metric]
        drawn = series_of(of_metric, x, y, numbers)
        series += drawn
        if not as_json and not any(line.xs for line in drawn):
            raise NothingFound(f"no result has {VALUES[y]} by {AXES[x]}", hint=_other_axis(of_metric, x))
    if as_json:
        print_json(curves)
        return
    if log_x and not any(at > 0 for line in series for at in line.xs):
        raise NothingFound(f"no result lies at {AXES[x]} above 0, which --log-x needs", hint="ckptwatch plot")
    axes = Axes(x, log_x, log)
    if out is None:
        _draw(series, axes)
    else:
        _write(series, axes, Path(out), title, size)
    for words in notes:
        say(f"note: {words}")
    if log_x and any(at <= 0 for line in series for at in line.xs):
        say("note: points at 0 are not drawn on a logarithmic axis")
    for line in series:
        if line.diverged:
            say(f"note: {line.name} has no finite value at {', '.join(f'{at:g}' for at in line.diverged[:10])}")


@dataclass(frozen=True)
class Axes:
    """x: a key of plot_series.AXES; which axes are logarithmic."""

    x: str
    x_log: bool
    y_log: bool


def read_curves(
    flags: Globals, db: str | None, runs: tuple[str, ...], sets: tuple[str, ...], y: str | None, *,
    by_time: bool = False,
) -> tuple[list, list[str], str]:  # fmt: skip
    """The standing curves of these runs and sets that have the metric, with their best points; notes; the metric.

    by_time: results without a step count too.
    """
    from watcher.report.curves import curves_of
    from watcher.report.lookup import expect
    from watcher.report.mixtures import mixtures
    from watcher.store.read import results as questions
    from watcher.store.read.tasks import KeptItems, with_scores
    from watcher.store.read.windows import KeptWindows

    store = reading(flags, db)
    known_runs, known_sets = questions.known_names(store)
    for name in runs:
        expect("run", name, known_runs)
    for name in sets:
        expect("eval set", name, known_sets)
    rows = questions.result_rows(store, questions.ResultFilter(standing=True))
    rows = [row for row in rows if (not runs or row["run"] in runs) and (not sets or row["eval_set"] in sets)]
    curves = curves_of(with_scores(store, rows), by_time=by_time)
    if not curves:
        without = sum(row["step"] is None for row in rows)
        cause = f"none of the {without} result(s) has a step" if without else "there are no results"
        hint = "ckptwatch plot --by time" if without else "ckptwatch status shows what is queued or failed"
        raise NothingFound(cause, hint=hint)
    windows = KeptWindows(store)
    if y is None:
        by = LOSS if any(headline(curve.rows[0]) == LOSS for curve in curves) else ACCURACY
        curves = [curve for curve in curves if headline(curve.rows[0]) == by]
    else:
        by = SCORES[y]
        curves = [curve for curve in curves if _has(curve, by)]
    if not curves:
        raise NothingFound(f"no result has {by.label}", hint="ckptwatch results shows what there is")
    items = KeptItems(store)
    bests = [curve.with_best(windows, items, best_by(by, curve.rows[0]["task"] is not None)) for curve in curves]
    return bests, mixtures(rows), by.key


def _has(curve, metric: Metric) -> bool:
    """Whether the metric belongs to what the set measures: a curve whose values all diverged still does."""
    if curve.rows[0]["task"] is None and metric.key in ("loss", "ppl"):
        return True
    return any(metric.value_of(row) is not None for row in curve.rows)


def _other_axis(curves: list, x: str) -> str:
    """A command that draws these curves by another axis."""
    steps = any(row["step"] is not None for curve in curves for row in curve.rows)
    return f"ckptwatch plot --by {'step' if steps and x != 'step' else 'time'}, or ckptwatch results"


def _plain(curve) -> dict[str, Any]:
    keys = (
        *("step", "loss", "loss_stderr", "ppl", "bits_per_byte", "logged_val_loss", "tokens_seen", "saved_at"),
        *("accuracy", "accuracy_norm", "accuracy_stderr", "weights"),
    )
    return {
        "run": curve.run,
        "eval_set": curve.eval_set,
        "best_step": curve.best["step"] if curve.best else None,
        "points": [{key: row[key] for key in keys} for row in curve.rows],
    }


def _draw(series: list, axes: Axes) -> None:
    """A picture for each metric, one below the other."""
    from watcher.cli.showing import in_colour
    from watcher.report import plot_terminal

    space = shutil.get_terminal_size((80, 24))
    for metric in dict.fromkeys(line.metric for line in series):
        lines = [line for line in series if line.metric == metric]
        click.echo(
            plot_terminal.draw(
                lines, axes.x, metric, space.columns, min(space.lines - 2, 30), x_log=axes.x_log, log=axes.y_log,
                colour=in_colour(),
            )
        )  # fmt: skip


def _write(series: list, axes: Axes, out: Path, title: str | None, size: str | None) -> None:
    from watcher.report.plot_image import SUFFIXES, save
    from watcher.report.plot_series import panels_of

    if out.suffix not in (*SUFFIXES, ".html"):
        raise UsageError(f"--out {out}: unknown suffix", hint="curve.png, curve.svg, curve.pdf or curve.html")
    inches = _inches(size) if size is not None else None
    panels = panels_of(series)
    logs = {"x_log": axes.x_log, "y_log": axes.y_log}
    try:
        if out.suffix == ".html":
            from watcher.report.plot_page import render

            temporary = out.with_name(f".{out.name}.{os.getpid()}")
            temporary.write_text(render(panels, axes.x, title or "ckptwatch", **logs), encoding="utf-8")
            os.replace(temporary, out)
        else:
            for words in save(panels, axes.x, out, title=title or "", size=inches, **logs):
                say(f"note: {words}")
    except OSError as error:
        raise EnvironmentProblem(f"{out} cannot be written: {error.strerror}", hint="--out with another path") from None
    say(f"written: {out}")


def _inches(text: str) -> tuple[float, float]:
    """`9x5.5`: between 1 and 60 inches each."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)", text)
    size = (float(match[1]), float(match[2])) if match else (0.0, 0.0)
    if not all(1 <= side <= 60 for side in size):
        raise UsageError(f"--size {text}: not a size", hint="--size 9x5.5: width and height in inches, 1 to 60 each")
    return size
