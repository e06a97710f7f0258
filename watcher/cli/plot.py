"""`ckptwatch plot`: curves in the terminal, as an image, or as one self-contained HTML page."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import click

from watcher.cli.completing import complete_runs, complete_sets
from watcher.cli.options import Globals, db_option, examples, json_option, print_json, reading, say
from watcher.domain.metrics import ACCURACY, LOSS, SCORES, Metric, headline
from watcher.errors import EnvironmentProblem, NothingFound, UsageError


@click.command(
    "plot",
    epilog=examples(
        "ckptwatch plot",
        "ckptwatch plot --run a --run b --out curve.html",
        "ckptwatch plot --metric accuracy --eval-set hellaswag --out accuracy.png",
    ),
)
@click.option("--out", metavar="FILE", help="Write FILE.png, .svg, .pdf or .html instead of drawing in the terminal.")
@click.option("--run", "runs", multiple=True, metavar="NAME", help="Only these runs.  [default: all]",
              shell_complete=complete_runs)  # fmt: skip
@click.option("--eval-set", "sets", multiple=True, metavar="NAME", help="Only these sets.  [default: all]",
              shell_complete=complete_sets)  # fmt: skip
@click.option("--metric", "--value", "y", type=click.Choice(list(SCORES)),
              help="Y axis.  [default: loss of the token sets; accuracy where there are only tasks]")  # fmt: skip
@click.option("--by", "x", type=click.Choice(["step", "tokens", "time"]), default="step", show_default=True,
              help="X axis.")  # fmt: skip
@click.option("--log", is_flag=True, help="Logarithmic Y axis.")
@click.option("--title", metavar="TEXT", help="Title of the image or page.")
@click.option(
    "--size", metavar="WxH", help="Size of an image in inches.  The height grows by the legend.  [default: 6.4x4.2]"
)
@json_option
@db_option
@click.pass_obj
def command(
    flags: Globals, out: str | None, runs: tuple[str, ...], sets: tuple[str, ...], y: str | None, x: str, log: bool,
    title: str | None, size: str | None, as_json: bool, db: str | None,
) -> None:  # fmt: skip
    """Draw loss curves in the terminal, or write an image or HTML page.

    Shows the 95 % interval (in the terminal as bars, up to 30 points in all), the loss logged by the trainer (dotted)
    and the best point.
    """
    from watcher.report.plot_series import AXES, VALUES, series_of
    from watcher.store.read.results import run_numbers

    curves, notes, y = read_curves(flags, db, runs, sets, y, by_time=x != "step")
    if as_json:
        print_json([_plain(curve) for curve in curves])
        return
    series = series_of(curves, x, y, run_numbers(reading(flags, db)))
    if not any(line.xs for line in series):
        raise NothingFound(f"no result has {VALUES[y]} by {AXES[x]}", hint=_other_axis(curves, x))
    if out is None:
        from watcher.cli.showing import in_colour
        from watcher.report import plot_terminal

        space = shutil.get_terminal_size((80, 24))
        click.echo(
            plot_terminal.draw(series, x, y, space.columns, min(space.lines - 2, 30), log=log, colour=in_colour())
        )
    else:
        _write(series, x, y, Path(out), log, title, size)
    for words in notes:
        say(f"note: {words}")
    for line in series:
        if line.diverged:
            say(f"note: {line.name} has no finite value at {', '.join(f'{at:g}' for at in line.diverged[:10])}")


def read_curves(
    flags: Globals, db: str | None, runs: tuple[str, ...], sets: tuple[str, ...], y: str | None, *,
    by_time: bool = False,
) -> tuple[list, list[str], str]:  # fmt: skip
    """The standing curves of these runs and sets that have the metric, with their best points; notes; the metric.

    by_time: results without a step count too.
    """
    from watcher.report.curves import curves_of, mixtures
    from watcher.report.lookup import expect
    from watcher.store.read import results as questions
    from watcher.store.read.tasks import KeptItems, with_scores

    store = reading(flags, db)
    known_runs, known_sets = questions.known_names(store)
    for name in runs:
        expect("run", name, known_runs)
    for name in sets:
        expect("eval set", name, known_sets)
    rows = questions.result_rows(store, questions.Wanted(standing=True))
    rows = [row for row in rows if (not runs or row["run"] in runs) and (not sets or row["eval_set"] in sets)]
    curves = curves_of(with_scores(store, rows), by_time=by_time)
    if not curves:
        without = sum(row["step"] is None for row in rows)
        cause = f"none of the {without} result(s) has a step" if without else "there are no results"
        hint = "ckptwatch plot --by time" if without else "ckptwatch status shows what is queued or failed"
        raise NothingFound(cause, hint=hint)
    windows = questions.KeptWindows(store)
    if y is None:
        by = LOSS if any(headline(curve.rows[0]) == LOSS for curve in curves) else ACCURACY
        curves = [curve for curve in curves if headline(curve.rows[0]) == by]
    else:
        by = SCORES[y]
        curves = [curve for curve in curves if _has(curve, by)]
    if not curves:
        raise NothingFound(f"no result has {by.label}", hint="ckptwatch results shows what there is")
    best_by = LOSS if by.key == "ppl" else by
    return [curve.with_best(windows, KeptItems(store), best_by) for curve in curves], mixtures(rows), by.key


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


def _write(series: list, x: str, y: str, out: Path, log: bool, title: str | None, size: str | None) -> None:
    from watcher.report.plot_image import SIZE, SUFFIXES, save

    if out.suffix not in (*SUFFIXES, ".html"):
        raise UsageError(f"--out {out}: unknown suffix", hint="curve.png, curve.svg, curve.pdf or curve.html")
    inches = _inches(size) if size is not None else SIZE
    try:
        if out.suffix == ".html":
            from watcher.report.plot_page import render

            title = title or "ckptwatch: " + ", ".join(dict.fromkeys(line.name for line in series))
            temporary = out.with_name(f".{out.name}.{os.getpid()}")
            temporary.write_text(render(series, x, y, title, log=log), encoding="utf-8")
            os.replace(temporary, out)
        else:
            save(series, x, y, out, log=log, title=title or "", size=inches)
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
