"""Sums of nats per window, per document, per position and of text alone: float64.

Owns the vector that the ranks reduce: each entry is filled by one rank, so the sum over ranks is exact. The sums of a
position, which no loss is made of, are the exception: they add up over ranks and differ in their last bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evalcore.data.stream import TokenStream
from evalcore.data.windows import Window
from evalcore.measure.process_group import ProcessGroup
from evalcore.measure.spikes import SpikeKeeper


class LossAccumulator:
    """window_nats, window_targets, window_scored (W,); text_nats and bytes where bytes per id are known; pieces.

    position_nats, position_targets (longest window,): over all windows, by the place in the window.

    window_scored: how often each window was added; a sum is valid only where all are 1.

    A piece is the part of one document in one window: (first piece, last piece + 1) per window in `_first`.
    """

    def __init__(self, stream: TokenStream, windows: Sequence[Window]) -> None:
        self._stream = stream
        self.window_nats = np.zeros(len(windows))
        self.window_targets = np.array([window.targets for window in windows], dtype=np.int64)
        self.window_scored = np.zeros(len(windows))
        self.position_targets = _targets_of_positions(windows)
        self.position_nats = np.zeros(len(self.position_targets))
        self.spikes = SpikeKeeper()
        self._text = np.zeros((2, len(windows)))  # nats of text, bytes of text
        starts = stream.document_starts
        self._starts = np.zeros(1, dtype=np.int64) if starts is None else np.unique(starts)
        begins = np.array([window.start + window.skip + 1 for window in windows])  # position of the first target
        ends = np.array([window.stop for window in windows])  # position of the last target
        self._first_document = np.searchsorted(self._starts, begins, side="right") - 1
        last_document = np.searchsorted(self._starts, ends, side="right") - 1
        counts = last_document - self._first_document + 1
        self._first = np.concatenate(([0], np.cumsum(counts)))
        self._piece_nats = np.zeros(int(self._first[-1]))
        self._piece_targets = np.zeros(int(self._first[-1]))
        self.n_documents = 0 if starts is None else int(last_document[-1] - self._first_document[0] + 1)

    def add(self, windows: Sequence[Window], nats: Any) -> None:
        """nats (B, T - skip) of these windows, a tensor on the host."""
        rows = nats.double().numpy()
        self.position_nats[windows[0].skip : windows[0].length] += rows.sum(axis=0)  # windows of a batch have one shape
        self.spikes.add(windows, rows)
        for window, row in zip(windows, rows, strict=True):
            self.window_nats[window.index] = row.sum()
            self.window_scored[window.index] += 1
            if self._stream.id_bytes is not None:
                self._add_text(window, row)
            if self.n_documents > 1:
                self._add_pieces(window, row)

    def _add_text(self, window: Window, row: np.ndarray) -> None:
        ids = self._stream.read(window.start + window.skip + 1, window.stop + 1)
        counts = self._stream.target_bytes(ids)
        assert counts is not None  # only called where bytes per id are known
        if self._stream.prefix_bytes:
            first, stop = np.searchsorted(self._starts, (window.start + window.skip + 1, window.stop + 1))
            counts[self._starts[first:stop] - (window.start + window.skip + 1)] -= self._stream.prefix_bytes
        is_text = counts >= 0
        self._text[0, window.index] = row[is_text].sum()
        self._text[1, window.index] = counts[is_text].sum()

    def _add_pieces(self, window: Window, row: np.ndarray) -> None:
        first, last = self._first[window.index], self._first[window.index + 1]
        document = self._first_document[window.index]
        begin = window.start + window.skip + 1
        cuts = self._starts[document : document + last - first] - begin
        cuts[0] = 0  # the first document began before this window, or with it
        self._piece_nats[first:last] = np.add.reduceat(row, cuts)
        self._piece_targets[first:last] = np.diff(np.append(cuts, len(row)))

    def reduced(self, group: ProcessGroup) -> LossAccumulator:
        """This accumulator with every rank's entries in it."""
        parts = [self.window_nats, self.window_scored, self._text.reshape(-1), self._piece_nats, self._piece_targets]
        parts.append(self.position_nats)
        whole = group.sum(np.concatenate(parts))
        sizes = np.cumsum([len(part) for part in parts])[:-1]
        self.window_nats, self.window_scored, text, self._piece_nats, self._piece_targets, self.position_nats = (
            np.split(whole, sizes)
        )
        self._text = text.reshape(2, -1)
        return self

    @property
    def bytes(self) -> int | None:
        return None if self._stream.id_bytes is None else int(self._text[1].sum())

    @property
    def text_nats(self) -> float:
        return float(np.sum(self._text[0]))

    def documents(self) -> tuple[np.ndarray, np.ndarray]:
        """(nats, targets) of each document that has targets."""
        counts = np.diff(self._first)
        offset = np.arange(len(self._piece_nats)) - np.repeat(self._first[:-1], counts)
        document = np.repeat(self._first_document, counts) + offset
        nats = np.zeros(int(document.max()) + 1)
        targets = np.zeros_like(nats)
        np.add.at(nats, document, self._piece_nats)
        np.add.at(targets, document, self._piece_targets)
        return nats[targets > 0], targets[targets > 0]


def _targets_of_positions(windows: Sequence[Window]) -> np.ndarray:
    """int64 (longest window,): how many windows score the target at each place."""
    changes = np.zeros(1 + max(window.length for window in windows), dtype=np.int64)
    np.add.at(changes, [window.skip for window in windows], 1)
    np.add.at(changes, [window.length for window in windows], -1)
    return np.cumsum(changes)[:-1]
