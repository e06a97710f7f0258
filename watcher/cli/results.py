"""`ckptwatch results`: the table of results, complete or filtered, for people and for programs."""

from __future__ import annotations

from typing import Any

import click

from watcher.cli.completing import complete_runs, complete_sets
from watcher.cli.options import Globals, db_option, examples, json_option, print_json, reading, say
from watcher.domain.metrics import SCORES
from watcher.errors import NothingFound, UsageError

BY = list(SCORES)


@click.command(
    "results",
    epilog=examples(
        "ckptwatch results --step 1000:2000",
        "ckptwatch results --best",
        "ckptwatch results --where 'loss < 3 and step > 1000' --sort loss --limit 5",
        "ckptwatch results --format csv > results.csv",
        "ckptwatch results --between 1000 2000 --eval-set hellaswag",
    ),
)
@click.option("--best", is_flag=True, help="Per run and set: the earliest step that equals the best within noise.")
@click.option(
    "--metric", type=click.Choice(BY), help="Metric of --best and --between.  [default: accuracy of a task, else loss]"
)
@click.option("--items", is_flag=True, help="The items of the newest result of each task.")
@click.option("--between", nargs=2, metavar="A B", help="The items that flipped from A to B: steps, or RUN@STEP.")
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
    flags: Globals, best: bool, metric: str | None, items: bool, between: tuple[str, str] | None, run: str | None,
    eval_set: str | None, step: str | None, where: tuple[str, ...], sort: tuple[str, ...], limit: int | None,
    form: str, as_json: bool, db: str | None,
) -> None:  # fmt: skip
    """Print results: one row per checkpoint and eval set.

    JSON and CSV have exactly the columns of the table `results`. Rows of older versions of a file, or of
    another definition of an eval set than the current one, are included and marked.
    """
    from watcher.report.lookup import expect
    from watcher.store.read import results as questions

    wanted = _filter(run, eval_set, step, where, standing=best or items)
    if best and (sort or limit is not None):
        raise UsageError("--best has one row per run and set: --sort and --limit do not apply", hint="--run NAME")
    store = reading(flags, db)
    runs, sets = questions.known_names(store)
    if run is not None:
        expect("run", run, runs)
    if eval_set is not None:
        expect("eval set", eval_set, sets)
    shape = "json" if as_json else form
    if between is not None:
        from watcher.cli.items import show_flips

        show_flips(store, *between, run, eval_set, metric or "accuracy", shape)
        return
    rows = questions.result_rows(store, wanted)
    if not rows:
        raise NothingFound("no result matches", hint="ckptwatch status shows what is queued or failed")
    if items:
        from watcher.cli.items import show_items

        show_items(store, rows, shape)
        return
    if best:
        show_best(store, rows, shape, metric)
        return
    if sort:
        from watcher.report.conditions import sorted_rows

        rows = sorted_rows(rows, sort, questions.COLUMN_TYPES)
    shown = rows[:limit]
    show_results(shown, shape, questions.current_definitions(store))
    if len(shown) < len(rows):
        say(f"note: {len(shown)} of {len(rows)} rows (--limit {limit})")
    if shape == "table":
        show_suites(store, run)


def _filter(run: str | None, eval_set: str | None, step: str | None, where: tuple[str, ...], *, standing: bool):
    """Which rows the flags ask for. Raises UsageError."""
    from watcher.report.lookup import parse_steps
    from watcher.store.read.results import COLUMN_TYPES, ResultFilter

    steps = parse_steps(step) if step is not None else (None, None)
    conditions: tuple[Any, ...] = ()
    if where:
        from watcher.report.conditions import parse_conditions

        conditions = parse_conditions(where, COLUMN_TYPES)
    return ResultFilter(run, eval_set, steps, standing=standing, conditions=conditions)


def show_results(rows: list[dict], form: str, current: set[tuple[str, str, str]] | None = None) -> None:
    """Print result rows in one of the formats; notes go to stderr. current: the definitions of the sets."""
    from watcher.cli.showing import print_footnotes, print_table
    from watcher.report.columns import footnotes, result_columns
    from watcher.report.mixtures import mixtures
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
        click.echo("\n\n".join([as_markdown(result_columns(table), table), *footnotes(table)]))
    else:
        print_table(result_columns(table), table)
        print_footnotes(table)
    for words in mixtures(rows):
        say(f"note: {words}")


def show_suites(store: Any, run: str | None) -> None:
    """The newest aggregate of each suite, on stderr; members that are missing are named."""
    from watcher.domain.checkpoint import printable
    from watcher.report.suites import newest_of_each, suite_words
    from watcher.store.read.suites import suite_scores

    for score in newest_of_each(suite_scores(store, run)):
        say(f"{printable(score.run)}: {suite_words(score)}")


def show_best(store: Any, rows: list[dict], form: str, by: str | None = None) -> None:
    """Best within noise of each run and set; stderr says which value is best, and how the row equals it."""
    from watcher.domain import metrics
    from watcher.domain.checkpoint import printable
    from watcher.report import curves
    from watcher.report.best_words import best_words
    from watcher.store.read.tasks import KeptItems, with_scores
    from watcher.store.read.windows import KeptWindows

    metric = metrics.METRICS[by] if by is not None else None
    bests = curves.best_of_each(with_scores(store, rows), KeptWindows(store), KeptItems(store), metric)
    if not bests:
        raise NothingFound(f"no result has a finite {by or 'loss'}", hint="ckptwatch results shows all of them")
    chosen = {best.row["id"] for best in bests}
    show_results([row for row in rows if row["id"] in chosen], form)
    for best in bests:
        mean = f" ({best.row['weights']})" if best.row.get("weights") else ""
        where = f"{printable(best.row['run'])} / {printable(best.row['eval_set'])}{mean}"
        say(f"{where}: {best_words(best)}")
    for gap in curves.gaps_of(rows):
        error = f" ±{gap.stderr:.4f}" if gap.stderr is not None else ""
        say(
            f"{printable(gap.run)}: generalisation gap at step {gap.step}: {gap.gap:+.4f}{error} nats "
            f"({printable(gap.eval_set)} above {printable(gap.train_set)})"
        )
