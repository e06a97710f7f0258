"""The items of a task's results as rows: each item of one result, or those that flipped between two. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalcore.tasks.item_scores import ItemScores
from watcher.domain.metrics import Metric
from watcher.report.columns import Column
from watcher.report.format import NONE, decimal, integer, text
from watcher.report.item_comparison import flips, item_bits

Row = dict[str, Any]
TEXT_MAX = 40  # characters of a text in the table; JSON and CSV have more


def item_rows(scores: ItemScores) -> list[Row]:
    """One row for each item. item: row of the data file, from 1. gold, chosen, chosen_norm: choices, from 0."""
    bits, starts = item_bits(scores), _starts(scores)
    return [
        {
            "item": scores.index[place] + 1,
            "correct": scores.correct[place],
            "correct_norm": scores.correct_norm[place],
            "gold": scores.gold[place],
            "chosen": scores.chosen[place],
            "chosen_norm": scores.chosen_norm[place],
            "bits_per_byte": bits[place] if scores.gold_bytes[place] else None,
            "gold_nats": scores.gold_nats[place],
            "gold_tokens": scores.gold_tokens[place],
            "choice_nats": list(scores.choice_nats[starts[place] : starts[place + 1]]),
        }
        for place in range(len(scores))
    ]


def flip_rows(metric: Metric, a: ItemScores, b: ItemScores) -> list[Row]:
    """One row for each item that only one of the two answers correctly by this accuracy."""
    of_a, of_b = item_rows(a), item_rows(b)
    rows = []
    for flip in flips(metric, a, b):
        left, right = of_a[flip.place], of_b[flip.place]
        row = {"item": left["item"], "correct_at": "B" if flip.gained else "A", "gold": left["gold"]}
        rows.append(row | {"a": left, "b": right})
    return rows


def item_columns(rows: list[Row]) -> list[Column]:
    columns = _named(rows)
    columns.append(Column("item", lambda row: integer(row["item"]), True))
    columns.append(Column("correct", lambda row: _yes(row["correct"])))
    if any(row["correct"] != row["correct_norm"] for row in rows):
        columns.append(Column("normalised", lambda row: _yes(row["correct_norm"])))
    columns.append(Column("gold", lambda row: integer(row["gold"]), True))
    columns.append(Column("chosen", lambda row: integer(row["chosen"]), True))
    columns.append(Column("bits/byte", lambda row: decimal(row["bits_per_byte"]), True))
    columns.append(Column("nats of the choices", lambda row: " ".join(f"{nats:.3f}" for nats in row["choice_nats"])))
    return columns + _texts(rows, (("right answer", "gold_text"), ("the model's", "chosen_text")))


def flip_columns(metric: Metric, rows: list[Row]) -> list[Column]:
    chosen = "chosen_norm" if metric.key == "accuracy_norm" else "chosen"
    texts = _texts(rows, (("right answer", "gold_text"), ("of A", "a_text"), ("of B", "b_text")))
    return [
        *_named(rows),
        Column("item", lambda row: integer(row["item"]), True),
        Column("correct at", lambda row: row["correct_at"]),
        Column("gold", lambda row: integer(row["gold"]), True),
        Column("A chose", lambda row: integer(row["a"][chosen]), True),
        Column("B chose", lambda row: integer(row["b"][chosen]), True),
        Column("bits/byte A", lambda row: decimal(row["a"]["bits_per_byte"]), True),
        Column("bits/byte B", lambda row: decimal(row["b"]["bits_per_byte"]), True),
        *texts,
    ]


def brief_flip_columns(metric: Metric, rows: list[Row]) -> list[Column]:
    """Where texts are known: each item with its right answer and the wrong one that it had or now has."""
    texts = _texts(rows, (("right answer", "gold_text"),))
    if not texts:
        return flip_columns(metric, rows)
    wrong = Column("wrong answer", lambda row: _cell(row["b_text"] if row["correct_at"] == "A" else row["a_text"]))
    found = Column("correct at", lambda row: row["correct_at"])
    return [Column("item", lambda row: integer(row["item"]), True), found, *texts, wrong]


def _named(rows: list[Row]) -> list[Column]:
    """Run, set and step, where the rows have several."""
    columns = []
    for key, head in (("run", "run"), ("eval_set", "set"), ("step", "step"), ("steps", "steps")):
        if len({str(row.get(key)) for row in rows}) > 1:
            columns.append(Column(head, lambda row, key=key: str(row.get(key))))  # type: ignore[misc]
    return columns


def _texts(rows: list[Row], answers: Sequence[tuple[str, str]]) -> list[Column]:
    """The end of the context and the answers, where the rows have texts."""
    if not any(row.get("context") is not None for row in rows):
        return []
    shown = [Column("context", lambda row: _cell(row.get("context"), from_end=True))]
    return shown + [Column(head, lambda row, key=key: _cell(row.get(key))) for head, key in answers]  # type: ignore[misc]


def _cell(words: str | None, *, from_end: bool = False) -> str:
    """At most TEXT_MAX characters on one line."""
    if words is None:
        return NONE
    line = " ".join(words.split())
    if len(line) > TEXT_MAX:
        line = f"...{line[-TEXT_MAX:]}" if from_end else f"{line[:TEXT_MAX]}..."
    return text(line)


def _yes(value: int) -> str:
    return "yes" if value else "no"


def _starts(scores: ItemScores) -> list[int]:
    """Where the choices of each item begin in `choice_nats`, and the end of the last."""
    starts = [0]
    for count in scores.n_choices:
        starts.append(starts[-1] + count)
    return starts
