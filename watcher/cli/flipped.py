"""The items that flipped between two results of a task, with their text: for `compare` and `results --between`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from watcher.domain.metrics import Metric

Row = dict[str, Any]
SHOWN_MAX = 5  # items of each task that `compare` prints; --json and `results --between` have all


@dataclass(frozen=True)
class FlippedItems:
    """rows: one for each item that only one of the two results has right, in the order of the file.

    item: row of the data file, from 1. correct_at: A or B. a, b: the scores of the item. context, gold_text, a_text,
    b_text: None where the file is not the one that was measured.
    """

    items: int
    rows: list[Row]

    @property
    def gained(self) -> int:
        return sum(row["correct_at"] == "B" for row in self.rows)

    @property
    def lost(self) -> int:
        return len(self.rows) - self.gained


def flipped_items(metric: Metric, a: Row, b: Row, kept: Any, texts: Any) -> FlippedItems | None:
    """a, b: rows of results. kept: a KeptItems. texts: an ItemTexts. None where the items of both are not kept."""
    from watcher.cli.item_texts import texts_of
    from watcher.report.items import flip_rows

    of_a, of_b = kept.get(a["id"]), kept.get(b["id"])
    if of_a is None or of_b is None or list(of_a.index) != list(of_b.index):
        return None
    norm = "_norm" if metric.key == "accuracy_norm" else ""
    flipped = flip_rows(metric, of_a, of_b)
    known = texts.of(b) if flipped else {}
    rows = []
    for row in flipped:
        item = known.get(row["item"] - 1)
        of_each = [
            texts_of(item, row["gold"], row[side][f"chosen{norm}"], bool(row[side][f"correct{norm}"])) for side in "ab"
        ]
        shown = {"context": of_each[0]["context"], "gold_text": of_each[0]["gold_text"]}
        shown |= {f"{side}_text": answer["chosen_text"] for side, answer in zip("ab", of_each, strict=True)}
        rows.append({**row, **shown})
    return FlippedItems(len(of_a), rows)


def shortened(rows: list[Row]) -> list[Row]:
    """At most SHOWN_MAX of the rows, of both directions where there are both; in the order of the file."""
    gained = [row for row in rows if row["correct_at"] == "B"]
    lost = [row for row in rows if row["correct_at"] == "A"]
    taken = gained[: max(SHOWN_MAX // 2 + 1, SHOWN_MAX - len(lost))]
    taken += lost[: SHOWN_MAX - len(taken)]
    return sorted(taken, key=lambda row: row["item"])
