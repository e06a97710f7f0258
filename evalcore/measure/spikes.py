"""Keeps the windows with the highest loss while they are scored, and describes them afterwards.

Owns which windows are spikes and which passage of each is shown. The nats of other windows' tokens are not kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evalcore.data.stream import TokenStream
from evalcore.data.windows import Window
from evalcore.measure.process_group import ProcessGroup
from evalcore.spikes import Spike, SpikeDocument

SPIKES = 5
DOCUMENTS_MAX = 8  # of one spike
PASSAGE_TOKENS = 96
TEXT_MAX = 600  # characters

Kept = tuple[float, int, np.ndarray]  # (-mean nats, index of the window, nats of its targets)


class SpikeKeeper:
    """The SPIKES highest windows of one rank, with the nats of their targets."""

    def __init__(self) -> None:
        self._kept: list[Kept] = []

    def add(self, windows: Sequence[Window], rows: np.ndarray) -> None:
        """rows (B, targets) float64: nats of these windows. A window that is not finite counts as the highest."""
        means = rows.mean(axis=1)
        means[~np.isfinite(means)] = np.inf
        lowest = -self._kept[-1][0] if len(self._kept) == SPIKES else -np.inf
        for place in np.flatnonzero((means > lowest) | (len(self._kept) < SPIKES)).tolist():
            self._kept.append((-float(means[place]), windows[place].index, rows[place].copy()))
            self._kept = _highest(self._kept)

    def reduced(self, group: ProcessGroup) -> list[tuple[int, np.ndarray]]:
        """(index, nats) of the highest windows of all ranks, highest first; all ranks must call."""
        return [
            (index, row) for _, index, row in _highest([kept for each in group.gather(self._kept) for kept in each])
        ]


def _highest(kept: list[Kept]) -> list[Kept]:
    return sorted(kept, key=lambda each: each[:2])[:SPIKES]


def describe(
    kept: Sequence[tuple[int, np.ndarray]], windows: Sequence[Window], stream: TokenStream
) -> tuple[Spike, ...]:
    """What the outcome says of these windows."""
    starts = None if stream.document_starts is None else np.unique(stream.document_starts)
    return tuple(_described(windows[index], row, stream, starts) for index, row in kept)


def _described(window: Window, row: np.ndarray, stream: TokenStream, starts: np.ndarray | None) -> Spike:
    first = window.start + window.skip + 1
    at, length = _passage(row)
    documents = [] if starts is None else _documents(first, row, starts)
    most = sorted(documents, key=lambda each: -each.nats if np.isfinite(each.nats) else -np.inf)[:DOCUMENTS_MAX]
    return Spike(
        window=window.index,
        first=first,
        targets=len(row),
        nats=float(row.sum()),
        n_documents=None if starts is None else len(documents),
        text_first=first + at,
        text_tokens=length,
        text_nats=float(row[at : at + length].sum()),
        documents=tuple(sorted(most, key=lambda each: each.document)),
        text=_text(stream, first + at, length),
    )


def _passage(row: np.ndarray) -> tuple[int, int]:
    """(start, length) of the run of tokens with the most nats, or from the first token that is not finite."""
    length = min(PASSAGE_TOKENS, len(row))
    bad = np.flatnonzero(~np.isfinite(row))
    if bad.size:
        return min(int(bad[0]), len(row) - length), length
    sums = np.convolve(row, np.ones(length), "valid")
    return int(sums.argmax()), length


def _documents(first: int, row: np.ndarray, starts: np.ndarray) -> list[SpikeDocument]:
    """The documents with targets in a window whose first target is at this position of the stream."""
    begin = int(np.searchsorted(starts, first, side="right")) - 1
    stop = int(np.searchsorted(starts, first + len(row) - 1, side="right"))
    cuts = np.maximum(starts[begin:stop], first) - first
    nats, ends = np.add.reduceat(row, cuts), [*cuts[1:].tolist(), len(row)]
    return [
        SpikeDocument(begin + place + 1, int(first + cut - starts[begin + place]), end - int(cut), float(nats[place]))
        for place, (cut, end) in enumerate(zip(cuts, ends, strict=True))
    ]


def _text(stream: TokenStream, first: int, length: int) -> str:
    if stream.decode is None:
        return ""
    return stream.decode(stream.read(first, first + length).tolist())[:TEXT_MAX]
