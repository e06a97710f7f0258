"""What a claim gives to a launch: one version of a checkpoint, and the jobs on it. Values only, no statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from watcher.domain.job import JobFacts


@dataclass(frozen=True)
class ClaimedJob:
    """A job that this launch may run: answer with the token.

    known_contents: content digests whose value is known: where the file holds one of them, nothing is evaluated.
    """

    id: int
    attempt: int
    token: str
    eval_set_id: int
    eval_set: str
    facts: JobFacts
    known_contents: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClaimedMember:
    """One checkpoint of a mean; its fields as in ClaimedCheckpoint."""

    path: str
    shown_path: str
    digest: str
    size_bytes: int
    spool_path: str | None
    weight: float


@dataclass(frozen=True)
class ClaimedCheckpoint:
    """One checkpoint and the jobs claimed for it. path: bytes-exact name below the run's folder.

    members: of a mean, the newest first.
    """

    id: int
    run: str
    path: str
    shown_path: str
    digest: str
    size_bytes: int
    step: int | None
    spool_path: str | None
    jobs: tuple[ClaimedJob, ...]
    members: tuple[ClaimedMember, ...] = ()


def claimed_checkpoint(row: Any, claimed: tuple[ClaimedJob, ...], members: Sequence[Any] = ()) -> ClaimedCheckpoint:
    return ClaimedCheckpoint(
        *(row.id, row.run, _exact(row), row.path, row.digest, row.size_bytes, row.step, row.spool_path, claimed),
        tuple(ClaimedMember(_exact(m), m.path, m.digest, m.size_bytes, m.spool_path, m.weight) for m in members),
    )


def _exact(row: Any) -> str:
    return row.raw_path.decode("utf-8", "surrogateescape") if row.raw_path else row.path
