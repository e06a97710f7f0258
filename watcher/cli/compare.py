"""`ckptwatch compare`: the difference of two checkpoints or runs, with its interval and significance."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, fields
from typing import Any

import click

from watcher.cli.completing import complete_runs
from watcher.cli.options import Globals, db_option, examples, json_option, print_json, reading, say

TASKS_MAX = 3  # tasks whose flipped items are printed


@click.command(
    "compare",
    epilog=examples(
        "ckptwatch compare 1000 2000",
        "ckptwatch compare run-a run-b",
        "ckptwatch compare run-a@1000 run-b@2000 --eval-set val",
        "ckptwatch compare 2000 2000#mean5",
    ),
)
@click.argument("a", shell_complete=complete_runs)
@click.argument("b", shell_complete=complete_runs)
@click.option("--run", metavar="NAME", help="The run of both steps, if the database has several.")
@click.option("--eval-set", metavar="NAME", help="Only this set.")
@json_option
@db_option
@click.pass_obj
def command(
    flags: Globals, a: str, b: str, run: str | None, eval_set: str | None, as_json: bool, db: str | None
) -> None:
    """Compare two checkpoints or two runs: the difference, its interval, its significance.

    A and B are two steps, two runs (compared at equal steps), or RUN@STEP and RUN@STEP. #MEAN after any of them names
    the mean that ends there: 2000#mean5, run-a#mean5, run-a@2000#ema0.9.

    The difference is loss(B) - loss(A) in nats per token, taken window by window over the same targets, with its
    95 % interval and two-sided p. The interval accounts for correlation between neighbouring windows.

    Tasks are compared item by item: accuracies by McNemar's exact test, bits per byte of the gold answers by the
    paired t interval. Flipped items are those that only one of the two answers correctly: the first of them are
    printed with their text, --json has all.
    """
    from watcher.cli.item_texts import ItemTexts
    from watcher.report.curves import curves_of
    from watcher.report.lookup import expect
    from watcher.report.pairs import compare_pairs, matching_pairs, parse_selection
    from watcher.store.read import results as questions
    from watcher.store.read.tasks import KeptItems
    from watcher.store.read.windows import KeptWindows

    store = reading(flags, db)
    runs, sets = questions.known_names(store)
    if run is not None:
        expect("run", run, runs)
    if eval_set is not None:
        expect("eval set", eval_set, sets)
    selections = parse_selection(a, runs), parse_selection(b, runs)
    rows = questions.result_rows(store, questions.ResultFilter(run, eval_set, standing=True))
    every = questions.result_rows(store, questions.ResultFilter(run, eval_set))
    defined = questions.current_definitions(store)
    earlier = [row for row in every if (row["run"], row["eval_set"], row["eval_digest"]) not in defined]
    pairs = matching_pairs(*selections, curves_of(rows), curves_of(earlier))
    kept = KeptItems(store)
    compared = compare_pairs(pairs, KeptWindows(store), kept)
    if as_json:
        texts = ItemTexts(store)
        print_json([_plain(pair) | {"flipped": _flips(pair, kept, texts)} for pair in compared])
        return
    _show(compared)
    _show_flips(compared, kept, ItemTexts(store), _between(a, b, run, db))
    _show_notes(compared)


def _plain(pair: Any) -> dict[str, Any]:
    from watcher.report.comparison import Difference

    keys = ("run", "step", "checkpoint", "weights", "loss", "loss_stderr")
    row: dict[str, Any] = {"eval_set": pair.eval_set, "metric": pair.metric.key}
    for side, of in (("a", pair.a), ("b", pair.b)):
        row[side] = {key: of[key] for key in keys} | {"value": pair.metric.value_of(of)}
    if isinstance(pair.result, Difference):
        row |= asdict(pair.result) | {"significant": pair.result.significant}
    else:
        row |= dict.fromkeys((*(field.name for field in fields(Difference)), "significant"))
    return row | {"verdict": _verdict(pair)}


def _verdict(pair: Any) -> str:
    from watcher.report.comparison import verdict

    return verdict(pair.result, *_names(pair), pair.metric)


def _names(pair: Any) -> tuple[str, str]:
    from watcher.domain.checkpoint import printable

    if pair.a["run"] == pair.b["run"]:
        names = [f"step {row['step']}" for row in (pair.a, pair.b)]
    elif pair.a["step"] == pair.b["step"]:
        names = [printable(row["run"]) for row in (pair.a, pair.b)]
    else:
        names = [f"{printable(row['run'])} at step {row['step']}" for row in (pair.a, pair.b)]
    return names[0] + _kind(pair.a), names[1] + _kind(pair.b)


def _kind(row: dict[str, Any]) -> str:
    """The kind of a mean, as a suffix of its step or name; empty for a single checkpoint."""
    return f" ({row['weights']})" if row.get("weights") else ""


def _flips(pair: Any, kept: Any, texts: Any) -> list[dict[str, Any]] | None:
    """Every flipped item; None for a metric that has none, or where the items are not kept."""
    from watcher.cli.flipped import flipped_items
    from watcher.domain.metrics import ACCURACY, ACCURACY_NORM

    if pair.metric not in (ACCURACY, ACCURACY_NORM):
        return None
    flipped = flipped_items(pair.metric, pair.a, pair.b, kept, texts)
    return None if flipped is None else flipped.rows


def _between(a: str, b: str, run: str | None, db: str | None) -> str:
    """The command that lists every flipped item, without the eval set."""
    import shlex

    options = [*(("--run", run) if run else ()), *(("--db", db) if db else ())]
    return shlex.join(["ckptwatch", "results", "--between", a, b, *options])


def _show_flips(compared: list[Any], kept: Any, texts: Any, command: str) -> None:
    """The first flipped items of each task by accuracy, with their text; of many tasks the command alone."""
    import shlex

    from watcher.cli.flipped import flipped_items, shortened
    from watcher.cli.showing import print_table
    from watcher.domain.checkpoint import printable
    from watcher.domain.metrics import ACCURACY
    from watcher.report.difference import Difference
    from watcher.report.format import p_value
    from watcher.report.items import brief_flip_columns

    of_tasks = [pair for pair in compared if pair.metric == ACCURACY and isinstance(pair.result, Difference)]
    tasks = [pair for pair in of_tasks if pair.result.gained or pair.result.lost]
    if len(tasks) > TASKS_MAX:
        say(f"the flipped items:  {command}")
        return
    for pair in tasks:
        flipped = flipped_items(pair.metric, pair.a, pair.b, kept, texts)
        if flipped is None:
            continue
        shown = shortened(flipped.rows)
        flips = f"{len(flipped.rows)} of {flipped.items} items flipped"
        click.echo(f"\n{printable(pair.eval_set)}: {flips} (McNemar's exact p {p_value(pair.result.p)})")
        print_table(brief_flip_columns(pair.metric, shown), shown)
        if len(shown) < len(flipped.rows):
            more = f"{command} --eval-set {shlex.quote(pair.eval_set)}"
            say(f"and {len(flipped.rows) - len(shown)} more:  {more}")


def _show(compared: list[Any]) -> None:
    """The numbers as a table that may be cut to the terminal, then each verdict on a line of its own, whole."""
    from watcher.cli.showing import print_table
    from watcher.domain.checkpoint import printable
    from watcher.domain.metrics import LOSS
    from watcher.report.columns import Column, text_column
    from watcher.report.comparison import Difference
    from watcher.report.format import decimal, integer, p_value, signed

    rows = []
    for pair in compared:
        row: dict[str, Any] = {"run": pair.a["run"], "set": pair.eval_set, "a": pair.a, "b": pair.b}
        measured = isinstance(pair.result, Difference)
        row |= {"metric": pair.metric}
        empty = dict.fromkeys(("difference", "low", "high", "p", "gained"))
        rows.append(row | (asdict(pair.result) if measured else empty))
    several = len({(pair.a["run"], pair.b["run"]) for pair in compared}) > 1
    columns = [
        *([text_column("run")] if several else []),
        text_column("set"),
        *([Column("metric", lambda row: row["metric"].key)] if any(row["metric"] != LOSS for row in rows) else []),
        Column("A step", lambda row: integer(row["a"]["step"]) + _kind(row["a"]), True),
        Column("B step", lambda row: integer(row["b"]["step"]) + _kind(row["b"]), True),
        Column("B - A", lambda row: signed(row["difference"]), True),
        Column("95 % from", lambda row: signed(row["low"]), True),
        Column("to", lambda row: signed(row["high"]), True),
        Column("p", lambda row: p_value(row["p"]), True),
        Column("A", lambda row: decimal(row["metric"].value_of(row["a"])), True, optional=True),
        Column("B", lambda row: decimal(row["metric"].value_of(row["b"])), True, optional=True),
    ]
    if any(row["gained"] is not None for row in rows):
        columns.append(Column("flipped", lambda row: _flipped(row["gained"], row["lost"]), optional=True))
    print_table(columns, rows)
    click.echo()
    of_set = Counter((pair.eval_set, pair.metric.key) for pair in compared)
    for pair in compared:
        by = "" if pair.metric == LOSS else f" by {pair.metric.label}"
        same = (
            pair.a["run"] != pair.b["run"]
            and pair.a["step"] == pair.b["step"]
            and of_set[(pair.eval_set, pair.metric.key)] > 1
        )
        at = f" at step {integer(pair.a['step'])}" if same else ""  # the verdict names the runs alone
        click.echo(f"{printable(pair.eval_set)}{by}{at}: {_verdict(pair)}")


def _show_notes(compared: list[Any]) -> None:
    from watcher.report.comparison import Difference

    methods = {pair.result.method for pair in compared if isinstance(pair.result, Difference)}
    if "unpaired" in methods:
        say(
            "note: no per-window sums are stored for some of these, or no items; the interval from standard errors is "
            "too wide"
        )
    if len(compared) > 5:
        say(f"note: {len(compared)} comparisons: about one in twenty is significant by chance alone")


def _flipped(gained: int | None, lost: int | None) -> str:
    """Items that only B, and that only A, answers correctly."""
    return "-" if gained is None else f"+{gained} -{lost}"
