"""Is one checkpoint better than another on one eval set? The paired difference with its interval. Pure.

The unit is the window, or the item of a task: both checkpoints scored the same targets, so what makes one hard cancels
out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from evalcore.tasks.item_scores import ItemScores
from watcher.domain.metrics import LOSS, Metric
from watcher.report.difference import CONFIDENCE as CONFIDENCE
from watcher.report.difference import Difference, NotComparable, difference_of
from watcher.report.item_comparison import Items, compare_items

Row = dict[str, Any]
NO_ITEMS: Mapping[int, ItemScores] = MappingProxyType({})
#: What must be the same in two results before their losses may be subtracted.
MEASURED_ALIKE = ("eval_digest", "seq_len", "stride", "tokens")


class Windows(Protocol):
    """Result id -> (nats, targets) of each window; None where none are kept. A dict will do."""

    def get(self, result_id: int, /) -> tuple[Sequence[float], Sequence[int]] | None: ...


def compare(metric: Metric, a: Row, b: Row, windows: Windows, items: Items = NO_ITEMS) -> Difference | NotComparable:
    """metric(b) - metric(a): paired over windows or items where they are kept, else from the standard errors."""
    if metric == LOSS:
        return compare_rows(a, b, windows)
    values = metric.value_of(a), metric.value_of(b)
    if values[0] is None or values[1] is None:
        return NotComparable(f"{_name(a if values[0] is None else b)} has no {metric.key}")
    if a["eval_digest"] != b["eval_digest"]:
        return NotComparable("they were measured on different definitions of the set")
    left, right = items.get(a["id"]), items.get(b["id"])
    if left is not None and right is not None:
        return compare_items(metric, left, right)
    errors = metric.error_of(a), metric.error_of(b)
    if errors[0] is None or errors[1] is None:
        return NotComparable("neither items nor standard errors are kept for both")
    return unpaired(values[0], values[1], errors[0], errors[1])


def compare_rows(a: Row, b: Row, windows: Windows) -> Difference | NotComparable:
    """Compare two rows of `results`; windows by result id, from the table `windows`."""
    for row in (a, b):
        if row["loss"] is None or not row["finite"]:
            return NotComparable(f"the loss of {_name(row)} is not finite")
    unlike = [key for key in MEASURED_ALIKE if a[key] != b[key]]
    if unlike:
        differing = ", ".join(f"{key} {_short(a[key])} and {_short(b[key])}" for key in unlike)
        return NotComparable(f"they were measured differently: {differing}")
    left, right = windows.get(a["id"]), windows.get(b["id"])
    if left and right and list(left[1]) == list(right[1]) and len(left[0]) >= 2:
        return paired(left[0], right[0], left[1])
    if a["loss_stderr"] is None or b["loss_stderr"] is None:
        return NotComparable("neither windows nor standard errors are kept for both")
    return unpaired(a["loss"], b["loss"], a["loss_stderr"], b["loss_stderr"])


def paired(a_nats: Sequence[float], b_nats: Sequence[float], targets: Sequence[int]) -> Difference:
    """The ratio estimator over windows: sum of differences over sum of targets.

    With d_k the difference of window k's nats, n_k its targets, R = Σd/Σn and e_k = d_k - R·n_k, the variance of R is
    K/(K-1) · Σe² / (Σn)², and R/stderr follows t with K-1 degrees of freedom. Windows are in the order of the text, so
    neighbours may go up and down together: where the sum with autocovariances is larger than Σe², it takes its place.
    Source: Cochran, Sampling Techniques (3rd ed.), 2.11 and 6.4; Miller, "Adding Error Bars to Evals" (2024), 4.2;
    Newey and West, Econometrica 55 (1987), weights 1 - l/(L+1), with L = 4·(K/100)^(2/9).
    """
    count, total = len(targets), sum(targets)
    differences = [b - a for a, b in zip(a_nats, b_nats, strict=True)]
    ratio = math.fsum(differences) / total
    rests = [d - ratio * n for d, n in zip(differences, targets, strict=True)]
    squares = math.fsum(rest * rest for rest in rests)
    lags = int(4 * (count / 100) ** (2 / 9))
    together = squares
    for lag in range(1, lags + 1):
        products = math.fsum(now * before for now, before in zip(rests[lag:], rests, strict=False))
        together += 2 * (1 - lag / (lags + 1)) * products
    stderr = math.sqrt(count / (count - 1) * max(squares, together)) / total
    return difference_of(ratio, stderr, count - 1, count, "paired")


def unpaired(a_loss: float, b_loss: float, a_stderr: float, b_stderr: float) -> Difference:
    """From two standard errors as if the sets were independent: wider than the truth, never narrower, on one set."""
    return difference_of(b_loss - a_loss, math.hypot(a_stderr, b_stderr), math.inf, 0, "unpaired")


def verdict(result: Difference | NotComparable, a: str, b: str, metric: Metric = LOSS) -> str:
    """The comparison in one sentence. a, b: what the two are called."""
    if isinstance(result, NotComparable):
        return f"cannot be compared: {result.why}"
    if result.difference == 0 and result.stderr == 0:
        return f"{a} and {b} are the same on every {'window' if metric == LOSS else 'item'}"
    if not result.significant:
        return "no significant difference on this set"
    return f"{b if metric.better(result.difference, 0.0) else a} is better"


def _name(row: Row) -> str:
    """Rows of the page's curves have neither run nor checkpoint."""
    if row["step"] is None:
        return str(row.get("checkpoint", "a checkpoint without a step"))
    return f"{row['run']} at step {row['step']}" if "run" in row else f"step {row['step']}"


def _short(value: Any) -> str:
    text = str(value)
    return text[:19] + "..." if text.startswith("sha256:") else text
