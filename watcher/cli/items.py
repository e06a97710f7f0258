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
    from watcher.cli.item_texts import ItemTexts, texts_of
    from watcher.report.curves import curves_of
    from watcher.report.item_comparison import mcnemar
    from watcher.report.items import flip_columns, flip_rows
    from watcher.report.pairs import matching_pairs, parse_selection
    from watcher.store.read import results as questions
    from watcher.store.read.tasks import KeptItems

    runs, _ = questions.known_names(store)
    selections = parse_selection(a, runs), parse_selection(b, runs)
    rows = questions.result_rows(store, questions.Wanted(run, eval_set, standing=True))
    by, kept, texts, found = METRICS[metric], KeptItems(store), ItemTexts(store), 0
    chosen, correct = ("chosen_norm", "correct_norm") if metric == "accuracy_norm" else ("chosen", "correct")
    items: list[Row] = []
    for name, left, right in matching_pairs(*selections, curves_of(rows)):
        of_a, of_b = kept.get(left["id"]), kept.get(right["id"])
        if of_a is None or of_b is None or list(of_a.index) != list(of_b.index):
            continue
        found += 1
        flipped = flip_rows(by, of_a, of_b)
        gained = sum(row["correct_at"] == "B" for row in flipped)
        p = mcnemar(gained, len(flipped) - gained)
        where = f"{name}, step {left['step']} and {right['step']}"
        say(
            f"{where}: {len(flipped)} of {len(of_a)} items flipped: {gained} correct only at B, "
            f"{len(flipped) - gained} only at A (McNemar's exact p = {p:.3g})"
        )
        about = {"run": left["run"], "eval_set": name, "steps": f"{left['step']} {right['step']}"}
        known = texts.of(right) if flipped else {}
        for row in flipped:
            item = known.get(row["item"] - 1)
            of_each = [texts_of(item, row["gold"], row[side][chosen], bool(row[side][correct])) for side in "ab"]
            shown = {"context": of_each[0]["context"], "gold_text": of_each[0]["gold_text"]}
            shown |= {f"{side}_text": answer["chosen_text"] for side, answer in zip("ab", of_each, strict=True)}
            items.append({**about, **row, **shown})
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
