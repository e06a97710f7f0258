"""What all ranks of an evaluation must agree on: the plan, any failure, and that every window was scored once.

Owns the errors of an evaluation. Every function here is collective: each rank of the group calls it.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np

from evalcore.data.errors import DataError
from evalcore.measure.process_group import ProcessGroup
from evalcore.models.plan import CheckpointError


class OutOfMemory(Exception):
    """Not even one window fits."""


class RankFailed(Exception):
    """Another rank failed unexpectedly; the message has its rank and its error."""


class RanksDisagree(Exception):
    """The ranks do not measure one thing once: other windows, other data, or a window not scored exactly once."""


@dataclass(frozen=True)
class Plan:
    """What must be the same on every rank for the sum over ranks to mean anything.

    checksum: of the tokens: a trainer that passes each rank its own shard would mix windows of unlike data.
    """

    tokens: int
    smallest_id: int
    largest_id: int
    checksum: int
    windows: int
    seq_len: int
    stride: int
    dtype: str


def share(group: ProcessGroup, failure: BaseException | None, value: Any = None) -> list[Any]:
    """Every rank's value, in order of rank; where any rank failed, every rank raises: its own error, or that rank's."""
    shared = failure if failure is None or group.world_size == 1 else _portable(failure)
    answers = group.gather((shared, value))
    if failure is not None:
        raise failure
    for rank, (error, _) in enumerate(answers):
        if error is not None:
            raise RankFailed(f"rank {rank}: {error[1]}") if error[0] is None else error[0](error[1], *error[2:])
    return [value for _, value in answers]


def agreed_batch_size(group: ProcessGroup, failure: BaseException | None, wanted: int, plan: Any) -> int:
    """The smallest batch size that any rank wants; raises RanksDisagree unless all ranks have the same plan.

    plan: a dataclass of plain values.

    A batch belongs to a rank by its number, so ranks that cut unequal batches would leave windows out. They do want
    unequal ones: the default follows the number of threads, which affinity and OMP_NUM_THREADS set for each rank.
    """
    answers = share(group, failure, (wanted, plan))
    first = answers[0][1]
    for rank, (_, other) in enumerate(answers):
        if other != first:
            pairs = zip(fields(first), astuple(first), astuple(other), strict=True)
            differing = [f"{field.name} {a} on rank 0, {b} on rank {rank}" for field, a, b in pairs if a != b]
            raise RanksDisagree(f"the ranks do not measure the same: {'; '.join(differing)}")
    return min(size for size, _ in answers)


def refuse_gaps(window_scored: np.ndarray, world_size: int, unit: str = "window") -> None:
    """Raise RanksDisagree unless every window was scored exactly once. window_scored (W,): counts over all ranks."""
    wrong = np.flatnonzero(window_scored != 1)
    if wrong.size:
        raise RanksDisagree(
            f"{wrong.size} of {len(window_scored)} {unit}s were not scored exactly once by {world_size} rank(s): "
            f"{unit} {wrong[0]} was scored {int(window_scored[wrong[0]])} times"
        )


def _portable(error: BaseException) -> tuple[Any, ...]:
    """(type to raise elsewhere or None, arguments): an arbitrary exception may not survive pickling."""
    if isinstance(error, DataError):
        return DataError, error.reason, error.hint, error.kind
    if isinstance(error, CheckpointError):
        return CheckpointError, error.kind, error.reason, error.hint
    if isinstance(error, OutOfMemory):
        return OutOfMemory, str(error)
    return None, f"{type(error).__name__}: {error}"
