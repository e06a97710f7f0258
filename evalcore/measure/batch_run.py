"""One rank's pass over its share of the windows: batches, halved where memory does not suffice.

Owns which windows a rank scores. Never reduces over ranks, never makes a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from evalcore.data.errors import DataError
from evalcore.data.stream import TokenStream
from evalcore.data.windows import Window
from evalcore.measure import accelerator, memory
from evalcore.measure.accumulator import LossAccumulator
from evalcore.measure.agreement import OutOfMemory
from evalcore.measure.process_group import ProcessGroup
from evalcore.measure.scorer import Scorer


class BatchRun:
    """One pass over this rank's batches; `accumulator` holds its sums."""

    def __init__(
        self,
        scorer: Scorer,
        stream: TokenStream,
        windows: Sequence[Window],
        group: ProcessGroup,
        batch_size: int,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self.scorer, self.stream, self.windows, self.group = scorer, stream, windows, group
        self.batch_size = batch_size
        self.accumulator = LossAccumulator(stream, windows)
        self._on_progress = on_progress or (lambda done, total: None)

    def fit_batch_size(self, seq_len: int) -> None:
        """Fewer windows per pass where this rank or another has not the memory for as many; all ranks must call."""
        try:
            with self.scorer.running():
                fitting = memory.fitted_batch_size(
                    self.batch_size, seq_len, self.group.device, lambda count: self._forward(list(self.windows[:count]))
                )
        except Exception:  # score() meets it again and reports it, or halves the batch
            fitting = max(1, self.batch_size // 2)
        self.batch_size = min(self.group.gather(fitting))

    def score(self) -> BaseException | None:
        """Score this rank's share; an error is returned, so that no rank waits alone in the reduction."""
        done = 0
        waiting: tuple[list[Window], Callable[[], torch.Tensor]] | None = None
        try:
            with self.scorer.running():
                for batch in self._own_batches():
                    for part, nats in self._pieces(batch):
                        copied = accelerator.download(nats)
                        if waiting is not None:  # one behind: the device computes while the host adds and reads
                            self.accumulator.add(waiting[0], waiting[1]())
                        waiting = (part, copied)
                    done += len(batch)
                    self._on_progress(min(done * self.group.world_size, len(self.windows)), len(self.windows))
                if waiting is not None:
                    self.accumulator.add(waiting[0], waiting[1]())
        except (DataError, OutOfMemory) as error:
            return error
        except Exception as error:  # foreign model code may raise anything; the caller shares it with the other ranks
            return error
        return None

    def _own_batches(self) -> Iterator[list[Window]]:
        """Whole batches go to ranks in turn: a batch has the same windows on any number of ranks, so the same bits."""
        for number, batch in enumerate(batches(self.windows, self.batch_size)):
            if number % self.group.world_size == self.group.rank:
                yield batch

    def _pieces(self, batch: list[Window]) -> Iterator[tuple[list[Window], torch.Tensor]]:
        """The batch, or its halves where memory does not suffice; what did not fit is not tried again."""
        size = min(len(batch), self.batch_size)
        start = 0
        while start < len(batch):
            part = batch[start : start + size]
            try:
                nats = self._forward(part)
            except Exception as error:
                if not memory.is_out_of_memory(error):
                    raise
                if size == 1:
                    raise OutOfMemory(f"one window of {part[0].length} tokens does not fit: {error}") from None
                nats = None
            if nats is None:  # outside the except block: the traceback would keep the tensors alive
                size = self.batch_size = max(1, size // 2)
                if accelerator.is_accelerator(self.group.device):
                    accelerator.empty_cache(self.group.device)
                continue
            yield part, nats
            start += len(part)

    def _forward(self, part: list[Window]) -> torch.Tensor:
        length = part[0].length
        ids = np.stack([self.stream.read(window.start, window.start + length + 1) for window in part])  # (B, T + 1)
        tokens = accelerator.upload(torch.from_numpy(ids), self.group.device)
        return self.scorer.nats(tokens[:, :-1], tokens[:, 1:], part[0].skip)


def batches(windows: Sequence[Window], batch_size: int) -> Iterator[list[Window]]:
    """Consecutive windows of one shape, batch_size at most: no padding, so a short last window goes alone."""
    batch: list[Window] = []
    for window in windows:
        if batch and (len(batch) == batch_size or (window.length, window.skip) != (batch[0].length, batch[0].skip)):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch
