"""What `ckptwatch results --items` and `--between A B` print: the items of tasks, and those that flipped."""

from __future__ import annotations

from typing import Any

import click

from watcher.cli.options import print_json, say
from watcher.domain.metrics import METRICS
from watcher.errors import NothingFound

Row = dict[str, Any]


def show_items(store: Any, rows: list[Row], form: str) -> None:
    """The items of the newest of these results of each run and task. rows: in order of step."""
    from watcher.cli.item_texts import ItemTexts, texts_of
    from watcher.report.items import item_columns, item_rows
    from watcher.store.read.tasks import KeptItems

    texts = ItemTexts(store)
    newest = {(row["run"], row["eval_set"], row["weights"]): row for row in rows if row["task"] is not None}
    if not newest:
        raise NothingFound("no result of a task matches", hint="ckptwatch results shows what there is")
    kept = KeptItems(store)
    items: list[Row] = []
    for row in newest.values():
        scores = kept.get(row["id"])
        about = {key: row[key] for key in ("run", "eval_set", "step", "checkpoint")}
        if scores is None:
            say(f"note: the items of {row['eval_set']} at step {row['step']} are not kept")
        else:
            known = texts.of(row)
            items += [
                {**about, **item}
                | texts_of(known.get(item["item"] - 1), item["gold"], item["chosen"], bool(item["correct"]))
                for item in item_rows(scores)
            ]
    if not items:
        raise NothingFound("no items are kept for these results", hint="ckptwatch run --again evaluates anew")
    _print(item_columns(items), items, form)


def show_flips(store: Any, a: str, b: str, run: str | None, eval_set: str | None, metric: str, form: str) -> None:
    """The items that only one of A and B answers correctly, for every task that both have a result on."""
    from watcher.cli.flipped import flipped_items
    from watcher.cli.item_texts import ItemTexts
    from watcher.report.curves import curves_of
    from watcher.report.item_comparison import mcnemar
    from watcher.report.items import flip_columns
    from watcher.report.pairs import matching_pairs, parse_selection
    from watcher.store.read import results as questions
    from watcher.store.read.tasks import KeptItems

    runs, _ = questions.known_names(store)
    selections = parse_selection(a, runs), parse_selection(b, runs)
    rows = questions.result_rows(store, questions.ResultFilter(run, eval_set, standing=True))
    by, kept, texts, found = METRICS[metric], KeptItems(store), ItemTexts(store), 0
    items: list[Row] = []
    for name, left, right in matching_pairs(*selections, curves_of(rows)):
        flipped = flipped_items(by, left, right, kept, texts)
        if flipped is None:
            continue
        found += 1
        where = f"{name}, step {left['step']} and {right['step']}"
        say(
            f"{where}: {len(flipped.rows)} of {flipped.items} items flipped: {flipped.gained} correct only at B, "
            f"{flipped.lost} only at A (McNemar's exact p = {mcnemar(flipped.gained, flipped.lost):.3g})"
        )
        about = {"run": left["run"], "eval_set": name, "steps": f"{left['step']} {right['step']}"}
        items += [{**about, **row} for row in flipped.rows]
    if not found:
        raise NothingFound(f"{a} and {b} share no task whose items are kept", hint="ckptwatch results")
    _print(flip_columns(by, items), items, form)


def _print(columns: list[Any], rows: list[Row], form: str) -> None:
    from watcher.cli.showing import print_table
    from watcher.report.tables import as_csv, as_jsonl, as_markdown

    if form == "json":
        print_json(rows)
    elif form == "jsonl":
        click.echo(as_jsonl(rows))
    elif form == "csv":
        flat = [_flat(row) for row in rows]
        click.echo(as_csv(tuple(flat[0]) if flat else ("item",), flat))
    elif form == "md":
        click.echo(as_markdown(columns, rows))
    elif rows:
        print_table(columns, rows)


def _flat(row: Row) -> Row:
    """A row of CSV: nested values as columns of their own, the choices' nats with spaces between them."""
    flat: Row = {}
    for key, value in row.items():
        if isinstance(value, dict):
            flat |= {f"{key}_{inner}": item for inner, item in _flat(value).items()}
        else:
            flat[key] = " ".join(map(repr, value)) if isinstance(value, list) else value
    return flat
