"""One rank's pass over its share of a task's batches: nats per request, halved batches where memory does not suffice.

Owns which sequences a rank scores, and the vectors that the ranks reduce: each entry is filled by one rank, so the sum
over ranks is exact. Never makes a result.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from evalcore.measure import accelerator, memory
from evalcore.measure.agreement import OutOfMemory
from evalcore.measure.process_group import ProcessGroup
from evalcore.measure.scorer import RowBatch, Scorer
from evalcore.tasks.packing import PackedSequence


class ScoringRun:
    """region_nats, whole_nats, misses (N,) over all requests: nats of the scored region and of the whole continuation,
    and scored tokens that are not the likeliest; scored (S,): how often each sequence was scored."""

    def __init__(
        self,
        scorer: Scorer,
        batches: Sequence[Sequence[PackedSequence]],
        n_requests: int,
        group: ProcessGroup,
        wants_likeliest: bool,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self.scorer, self.group = scorer, group
        self._batches, self._wants_likeliest = batches, wants_likeliest
        self._on_progress = on_progress or (lambda done, total: None)
        self.region_nats, self.whole_nats, self.misses = (np.zeros(n_requests) for _ in range(3))
        self.n_sequences = sum(map(len, batches))
        self.scored = np.zeros(self.n_sequences)
        self.batch_size = max(map(len, batches), default=0)

    def fit(self) -> None:
        """Smaller batches where this rank or another has not the memory for as many; all ranks must call."""
        longest = self._batches[0]
        try:
            with self.scorer.running():
                fitting = memory.fitted_batch_size(
                    len(longest),
                    len(longest[0]),
                    self.group.device,
                    lambda count: self.scorer.row_nats(self._row_batch(longest[:count])),
                )
        except Exception:  # score() meets it again and reports it, or halves the batch
            fitting = max(1, len(longest) // 2)
        share = min(self.group.gather(fitting)) / len(longest)
        cut = [(batch, max(1, int(len(batch) * share))) for batch in self._batches]
        self._batches = [batch[at : at + size] for batch, size in cut for at in range(0, len(batch), size)]
        self.batch_size = max(map(len, self._batches))

    def score(self) -> BaseException | None:
        """Score this rank's share; an error is returned, so that no rank waits alone in the reduction."""
        done = first = 0
        try:
            with self.scorer.running():
                for number, batch in enumerate(self._batches):
                    if number % self.group.world_size == self.group.rank:
                        for part, at in self._fitting(batch, first):
                            self.scored[at : at + len(part)] += 1
                        done += len(batch)
                        self._on_progress(min(done * self.group.world_size, self.n_sequences), self.n_sequences)
                    first += len(batch)
        except Exception as error:  # foreign model code may raise anything; the caller shares it with the other ranks
            return error
        return None

    def reduced(self) -> None:
        """Add every rank's entries."""
        parts = [self.region_nats, self.whole_nats, self.misses, self.scored]
        whole = self.group.sum(np.concatenate(parts))
        self.region_nats, self.whole_nats, self.misses, self.scored = np.split(
            whole, np.cumsum([len(part) for part in parts])[:-1]
        )

    def _fitting(self, batch: Sequence[PackedSequence], first: int) -> Iterator[tuple[Sequence[PackedSequence], int]]:
        """Score the batch, or its halves where memory does not suffice; (part, number of its first sequence)."""
        size, start = len(batch), 0
        while start < len(batch):
            part = batch[start : start + size]
            try:
                self._score(part)
                fits = True
            except Exception as error:
                if not memory.is_out_of_memory(error):
                    raise
                if size == 1:
                    raise OutOfMemory(f"one item of {len(part[0])} tokens does not fit: {error}") from None
                fits = False
            if not fits:  # outside the except block: the traceback would keep the tensors alive
                size = max(1, size // 2)
                self.batch_size = min(self.batch_size, size)
                if accelerator.is_accelerator(self.group.device):
                    accelerator.empty_cache(self.group.device)
                continue
            yield part, first + start
            start += len(part)

    def _score(self, part: Sequence[PackedSequence]) -> None:
        parallel = min(self.scorer.n_parallel, len(part))
        cuts = [len(part) * at // parallel for at in range(parallel + 1)]
        pieces = [part[a:b] for a, b in itertools.pairwise(cuts)]
        batches = [self._row_batch(piece) for piece in pieces]
        # read before anything is added: a part that fails must leave nothing behind
        read = [
            _on_host(*answer, batch) for answer, batch in zip(self.scorer.row_nats_of(batches), batches, strict=True)
        ]
        for piece, (nats, missed) in zip(pieces, read, strict=True):
            self._add(piece, nats, missed)

    def _add(self, piece: Sequence[PackedSequence], nats: np.ndarray, missed: np.ndarray | None) -> None:
        owner, in_region, in_whole = (
            np.concatenate([getattr(sequence, name) for sequence in piece])
            for name in ("owner", "in_region", "in_whole")
        )
        np.add.at(self.region_nats, owner[in_region], nats[in_region])
        np.add.at(self.whole_nats, owner[in_whole], nats[in_whole])
        if missed is not None:
            np.add.at(self.misses, owner, missed)

    def _row_batch(self, piece: Sequence[PackedSequence]) -> RowBatch:
        """Padded on the right, where no causal position sees it."""
        length = len(piece[0])
        tokens, positions, branch = (np.zeros((len(piece), length), dtype=np.int64) for _ in range(3))
        branch -= 1  # padding: a branch of its own
        for at, sequence in enumerate(piece):
            tokens[at, : len(sequence)] = sequence.inputs
            positions[at, : len(sequence)] = sequence.positions
            branch[at, : len(sequence)] = sequence.branch
        rows = np.concatenate([sequence.rows + at * length for at, sequence in enumerate(piece)])
        targets = np.concatenate([sequence.targets for sequence in piece])
        batch = RowBatch(
            self._tensor(tokens), self._tensor(rows), self._tensor(targets), wants_likeliest=self._wants_likeliest
        )
        if not any(sequence.branch[-1] for sequence in piece):
            return batch
        kinds = self._tensor(branch)
        mask = (kinds[:, None, :] == 0) | (kinds[:, None, :] == kinds[:, :, None])  # (B, T, T)
        mask &= torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
        return replace(batch, positions=self._tensor(positions), mask=mask[:, None])

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return accelerator.upload(torch.from_numpy(array.astype(np.int64, copy=False)), self.group.device)


def _on_host(
    nats: torch.Tensor, likeliest: torch.Tensor | None, batch: RowBatch
) -> tuple[np.ndarray, np.ndarray | None]:
    """(nats float64 (R,), whether the likeliest id is another than the target (R,)): one copy, for each waits."""
    if likeliest is None:
        return nats.cpu().double().numpy(), None
    both = torch.stack((nats, (likeliest != batch.targets).to(nats.dtype))).cpu()
    return both[0].double().numpy(), both[1].numpy()
