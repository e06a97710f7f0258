"""The windows with the highest loss of one result, with the documents and the text behind each where recorded. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from evalcore.spikes import Spike

SPIKES = 5
Row = dict[str, Any]


def recorded(spikes: Sequence[Spike]) -> list[Row]:
    """As the evaluation recorded them. Positions and documents count from 1; a loss that is not finite is None."""
    return [_row(spike) for spike in spikes]


def of_windows(losses: Sequence[float], targets: Sequence[int]) -> list[Row]:
    """For a result without recorded spikes: number, loss, and which tokens of the stream are the targets."""
    firsts, total = [], 1
    for count in targets:
        firsts.append(total + 1)
        total += count
    order = sorted(range(len(losses)), key=lambda place: -losses[place] if math.isfinite(losses[place]) else -math.inf)
    return [
        {
            "window": place,
            "loss": _finite(losses[place]),
            "documents": None,
            "n_documents": None,
            "text": "",
            "first": firsts[place],
            "last": firsts[place] + targets[place] - 1,
        }
        for place in order[:SPIKES]
    ]


def _row(spike: Spike) -> Row:
    documents = [
        {
            "document": each.document,
            "first": each.first + 1,
            "last": each.first + each.targets,
            "loss": _finite(each.nats / each.targets),
        }
        for each in spike.documents
        if each.targets
    ]
    return {
        "window": spike.window,
        "loss": _finite(spike.nats / spike.targets) if spike.targets else None,
        "first": spike.first + 1,
        "last": spike.first + spike.targets,
        "n_documents": spike.n_documents,
        "documents": documents,
        "text": spike.text,
        "text_first": spike.text_first + 1,
        "text_last": spike.text_first + spike.text_tokens,
        "text_loss": _finite(spike.text_nats / spike.text_tokens) if spike.text_tokens else None,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
