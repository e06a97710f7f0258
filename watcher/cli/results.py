"""`ckptwatch results`: the table of results, complete or filtered, for people and for programs."""

from __future__ import annotations

from typing import Any

import click

from watcher.cli.completing import complete_runs, complete_sets
from watcher.cli.options import Globals, db_option, examples, json_option, print_json, reading, say
from watcher.errors import NothingFound, UsageError


@click.command(
    "results",
    epilog=examples(
        "ckptwatch results --step 1000:2000",
        "ckptwatch results --best",
        "ckptwatch results --where 'loss < 3 and step > 1000' --sort loss --limit 5",
        "ckptwatch results --format csv > results.csv",
    ),
)
@click.option(
    "--best", is_flag=True, help="Per run and set: the earliest step whose loss equals the lowest within noise."
)
@click.option("--run", metavar="NAME", help="Only this run.", shell_complete=complete_runs)
@click.option("--eval-set", metavar="NAME", help="Only this eval set.", shell_complete=complete_sets)
@click.option("--step", metavar="A:B", help="Only these steps: 1000, 1000:2000, 1000: or :2000.")
@click.option(
    "--where", multiple=True, metavar="CONDITION", help="Only rows where COLUMN OPERATOR VALUE holds; several joined "
    "by `and`. Operators: = != < <= > >= like, is null, is not null. Repeatable.",
)  # fmt: skip
@click.option(
    "--sort", multiple=True, metavar="COLUMN", help="Order by this column, descending with -COLUMN. Repeatable."
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N rows.")
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "jsonl", "csv", "md"]), default="table", show_default=True,
    help="Output format.",
)  # fmt: skip
@json_option
@db_option
@click.pass_obj
def command(
    flags: Globals, best: bool, run: str | None, eval_set: str | None, step: str | None, where: tuple[str, ...],
    sort: tuple[str, ...], limit: int | None, form: str, as_json: bool, db: str | None,
) -> None:  # fmt: skip
    """Print results: one row per checkpoint and eval set.

    JSON and CSV have exactly the columns of the table `results`. Rows of older versions of a file, or of an
    earlier definition of an eval set, are included and marked.
    """
    from watcher.report.conditions import parse_conditions, sorted_rows
    from watcher.report.lookup import expect, parse_steps
    from watcher.store.read import results as questions

    steps = parse_steps(step) if step is not None else (None, None)
    conditions = parse_conditions(where, questions.COLUMN_TYPES)
    if best and (sort or limit is not None):
        raise UsageError("--best has one row per run and set: --sort and --limit do not apply", hint="--run NAME")
    store = reading(flags, db)
    runs, sets = questions.known_names(store)
    if run is not None:
        expect("run", run, runs)
    if eval_set is not None:
        expect("eval set", eval_set, sets)
    wanted = questions.Wanted(run, eval_set, steps, standing=best, conditions=conditions)
    rows = questions.result_rows(store, wanted)
    if not rows:
        raise NothingFound("no result matches", hint="ckptwatch status shows what is queued or failed")
    if best:
        show_best(store, rows, "json" if as_json else form)
        return
    shown = sorted_rows(rows, sort, questions.COLUMN_TYPES)[:limit]
    show_results(shown, "json" if as_json else form, questions.current_definitions(store))
    if len(shown) < len(rows):
        say(f"note: {len(shown)} of {len(rows)} rows (--limit {limit})")


def show_results(rows: list[dict], form: str, current: set[tuple[str, str, str]] | None = None) -> None:
    """Print result rows in one of the formats; notes go to stderr. current: the definitions of the sets."""
    from watcher.cli.showing import print_table
    from watcher.report import curves
    from watcher.report.columns import result_columns
    from watcher.report.tables import as_csv, as_jsonl, as_markdown
    from watcher.store.read.results import RESULT_COLUMNS

    table = [
        {**row, "redefined": current is not None and (row["run"], row["eval_set"], row["eval_digest"]) not in current}
        for row in rows
    ]
    if form == "json":
        print_json(rows)
    elif form == "jsonl":
        click.echo(as_jsonl(rows))
    elif form == "csv":
        click.echo(as_csv(RESULT_COLUMNS, rows))
    elif form == "md":
        click.echo(as_markdown(result_columns(table), table))
    else:
        print_table(result_columns(table), table)
    for words in curves.mixtures(rows):
        say(f"note: {words}")


def show_best(store: Any, rows: list[dict], form: str) -> None:
    """Best within noise of each run and set; stderr names the lowest loss where that is another row."""
    from watcher.domain.checkpoint import printable
    from watcher.report import curves
    from watcher.report.comparison import CONFIDENCE
    from watcher.store.read.results import KeptWindows

    bests = curves.best_of_each(rows, KeptWindows(store))
    if not bests:
        raise NothingFound("no result has a finite loss", hint="ckptwatch results shows all of them")
    show_results([best.row for best in bests], form)
    for best in bests:
        where = f"{printable(best.row['run'])} / {printable(best.row['eval_set'])}"
        if best.difference is None:
            say(f"{where}: step {best.row['step']} has the lowest loss; no earlier step equals it within noise")
            continue
        how = (
            "over the same windows"
            if best.difference.method == "paired"
            else "from standard errors: no per-window sums stored"
        )
        say(
            f"{where}: the lowest loss is {best.lowest['loss']:.4f} at step {best.lowest['step']}, but step "
            f"{best.row['step']} equals it within noise ({best.difference.difference:+.4f} nats, "
            f"p = {best.difference.p:.2f} > {1 - CONFIDENCE:.2f}, {how})"
        )
    for gap in curves.gaps_of(rows):
        error = f" ±{gap.stderr:.4f}" if gap.stderr is not None else ""
        say(
            f"{printable(gap.run)}: generalisation gap at step {gap.step}: {gap.gap:+.4f}{error} nats "
            f"({printable(gap.eval_set)} above {printable(gap.train_set)})"
        )
