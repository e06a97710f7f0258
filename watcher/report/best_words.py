"""The sentence about the best checkpoint of a run and set: which value is best, and which earliest step equals it."""

from __future__ import annotations

from watcher.domain.checkpoint import printable
from watcher.domain.metrics import LOSS
from watcher.report.comparison import CONFIDENCE
from watcher.report.curves import Best, Row
from watcher.report.format import decimal

_METHODS = {"paired": "over the same windows", "McNemar": "over the same items"}


def best_words(best: Best) -> str:
    """Without the name of run and set."""
    is_loss = best.metric == LOSS
    value = f"{best.metric.key} is {decimal(best.metric.value_of(best.lowest))}"
    value = f"the {'highest' if best.metric.higher_is_better else 'lowest'} {value}"
    if best.difference is None and best.again:
        return f"{value} at {_place(best.row)}, and at {best.again} later checkpoint{'s' * (best.again > 1)}"
    if best.difference is None:
        return f"{value} at {_place(best.row)}; no earlier checkpoint equals it within noise"
    how = _METHODS.get(best.difference.method, "from standard errors: no per-window sums stored")
    if best.difference.method == "paired" and (not is_loss or best.row.get("task") is not None):
        how = "over the same items"
    return (
        f"{value} at {_place(best.lowest)}; the earliest that equals it within noise is {_place(best.row)} "
        f"({best.difference.difference:+.4f}{' nats' if is_loss else ''}, p = {best.difference.p:.2f} > "
        f"{1 - CONFIDENCE:.2f}, {how})"
    )


def _place(row: Row) -> str:
    """`step 200`, or the checkpoint's name where it has no step."""
    return f"step {row['step']}" if row["step"] is not None else printable(row["checkpoint"])
