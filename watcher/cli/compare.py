"""`ckptwatch compare`: is the difference of two checkpoints, or of two runs, more than noise?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from watcher.cli.options import Globals, db_option, examples, json_option, print_json, reading, say


@click.command(
    "compare",
    epilog=examples(
        "ckptwatch compare 1000 2000",
        "ckptwatch compare run-a run-b",
        "ckptwatch compare run-a@1000 run-b@2000 --eval-set val",
    ),
)
@click.argument("a")
@click.argument("b")
@click.option("--run", metavar="NAME", help="The run that two steps are of, where there are several.")
@click.option("--eval-set", metavar="NAME", help="Only this set.")
@json_option
@db_option
@click.pass_obj
def command(
    flags: Globals, a: str, b: str, run: str | None, eval_set: str | None, as_json: bool, db: str | None
) -> None:
    """Say whether a difference is more than noise.

    A and B are two steps, two runs (compared at equal steps), or RUN@STEP and RUN@STEP.

    The difference is loss(B) - loss(A) in nats per token, taken window by window over the same targets, with its
    95 % interval and two-sided p; that neighbouring windows may be alike is allowed for.
    """
    from watcher.report.curves import curves_of
    from watcher.report.names import expect
    from watcher.report.sides import compare_all, pair_up, parse_side
    from watcher.store.read import results as questions

    store = reading(flags, db)
    runs, sets = questions.known_names(store)
    if run is not None:
        expect("run", run, runs)
    if eval_set is not None:
        expect("eval set", eval_set, sets)
    sides = parse_side(a, runs), parse_side(b, runs)
    rows = questions.result_rows(store, questions.Wanted(run, eval_set, standing=True))
    pairs = pair_up(*sides, curves_of(rows))
    found = compare_all(pairs, questions.KeptWindows(store))
    if as_json:
        print_json([_plain(one) for one in found])
        return
    _show(found)


def _plain(one: Any) -> dict[str, Any]:
    from watcher.report.comparison import Difference, verdict

    keys = ("run", "step", "checkpoint", "loss", "loss_stderr")
    said: dict[str, Any] = {"eval_set": one.eval_set}
    said |= {"a": {key: one.a[key] for key in keys}, "b": {key: one.b[key] for key in keys}}
    if isinstance(one.found, Difference):
        said |= asdict(one.found) | {"significant": one.found.shows}
    else:
        said |= dict.fromkeys(("difference", "stderr", "low", "high", "p", "windows", "method", "significant"))
    return said | {"verdict": verdict(one.found, *_names(one))}


def _names(one: Any) -> tuple[str, str]:
    from watcher.domain.checkpoint import printable

    if one.a["run"] == one.b["run"]:
        return f"step {one.a['step']}", f"step {one.b['step']}"
    if one.a["step"] == one.b["step"]:
        return printable(one.a["run"]), printable(one.b["run"])
    return tuple(f"{printable(row['run'])} at step {row['step']}" for row in (one.a, one.b))  # type: ignore[return-value]


def _show(found: list[Any]) -> None:
    from watcher.cli.showing import print_table
    from watcher.report.columns import Column, integer, text_column
    from watcher.report.comparison import Difference, verdict

    def number(key: str, form: str) -> Any:
        return lambda row: form.format(row[key]) if row[key] is not None else "-"

    rows = []
    for one in found:
        row: dict[str, Any] = {"run": one.a["run"], "set": one.eval_set, "a": one.a, "b": one.b}
        row |= (
            asdict(one.found)
            if isinstance(one.found, Difference)
            else dict.fromkeys(("difference", "low", "high", "p"))
        )
        rows.append(row | {"verdict": verdict(one.found, *_names(one))})
    several = len({(one.a["run"], one.b["run"]) for one in found}) > 1
    columns = [
        *([text_column("run")] if several else []),
        text_column("set"),
        Column("A step", lambda row: integer(row["a"]["step"]), True),
        Column("B step", lambda row: integer(row["b"]["step"]), True, optional=True),
        Column("loss A", lambda row: number("loss", "{:.4f}")(row["a"]), True),
        Column("loss B", lambda row: number("loss", "{:.4f}")(row["b"]), True),
        Column("B - A", number("difference", "{:+.4f}"), True),
        Column("95 % from", number("low", "{:+.4f}"), True),
        Column("to", number("high", "{:+.4f}"), True),
        Column("p", number("p", "{:.2g}"), True),
        text_column("verdict"),
    ]
    print_table(columns, rows)
    methods = {one.found.method for one in found if isinstance(one.found, Difference)}
    if "unpaired" in methods:
        say("note: no windows are kept for some of these; their interval is from the two standard errors, and too wide")
    if len(found) > 5:
        say(f"note: {len(found)} comparisons: about one in twenty is significant by chance alone")
