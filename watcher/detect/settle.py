"""When is a file ready to be read? Pure: observations and time go in, paths that are due come out.

A changed stat restarts that path's own quiet timer and no other's. Times are monotonic seconds given by the caller;
a file's own mtime is never compared with a clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from watcher.domain.checkpoint import Fingerprint

CLOSED_SETTLE_S = 0.5  # after a close or a rename was seen, no further write is expected
PROBE_AGAIN_MAX_S = 30.0
DOUBLINGS_MAX = 64  # of the pause between probes: 2.0 ** 1024 is an OverflowError


@dataclass
class Candidate:
    """A path that has not settled: its newest fingerprint, since when that is unchanged, and when to look again.

    gone_since_s: since when there is no file of that name; the next whole scan shows whether it was renamed.
    """

    path: str
    fingerprint: Fingerprint
    changed_s: float
    closed: bool = False
    due_s: float = 0.0
    probes: int = 0
    reason: str = ""
    gone_since_s: float | None = None


@dataclass
class Settler:
    """All candidates of one run. settle_s: quiet time. incomplete_timeout_s: an incomplete file is
    given up after this time without a change."""

    settle_s: float
    incomplete_timeout_s: float
    candidates: dict[str, Candidate] = field(default_factory=dict)

    def observe(self, path: str, fingerprint: Fingerprint, now_s: float, *, closed: bool = False) -> bool:
        """Take in one stat. True when it started or restarted the path's timer."""
        candidate = self.candidates.get(path)
        if candidate is None:
            candidate = Candidate(path, fingerprint, now_s, closed)
            self.candidates[path] = candidate
        elif candidate.fingerprint != fingerprint:
            candidate.fingerprint, candidate.changed_s, candidate.probes = fingerprint, now_s, 0
            candidate.closed = closed
        elif closed and not candidate.closed:
            candidate.closed = True
        elif candidate.gone_since_s is None:
            return False
        candidate.gone_since_s = None
        quiet_s = min(CLOSED_SETTLE_S, self.settle_s) if candidate.closed else self.settle_s
        candidate.due_s = candidate.changed_s + quiet_s
        return True

    def due(self, now_s: float) -> Iterator[Candidate]:
        """Candidates whose quiet time is over: stat them once more, then probe."""
        return iter([c for c in self.candidates.values() if c.due_s <= now_s])

    def next_due_s(self) -> float | None:
        due_s = min((c.due_s for c in self.candidates.values()), default=math.inf)
        return None if due_s == math.inf else due_s

    def wait(self, candidate: Candidate, now_s: float, reason: str) -> None:
        """Quiet but not complete, or not readable yet: look again, at doubling intervals."""
        candidate.reason = reason
        candidate.probes += 1
        doublings = min(candidate.probes - 1, DOUBLINGS_MAX)
        candidate.due_s = now_s + min(self.settle_s * 2.0**doublings, PROBE_AGAIN_MAX_S)

    def suspend(self, candidate: Candidate, now_s: float) -> None:
        """There is no file of that name now: do not look again until a scan has completed."""
        candidate.gone_since_s, candidate.due_s = now_s, math.inf

    def gone_before(self, at_s: float) -> list[Candidate]:
        """Candidates whose name was missing already at that time."""
        return [c for c in self.candidates.values() if c.gone_since_s is not None and c.gone_since_s <= at_s]

    def is_renamed(self, candidate: Candidate) -> bool:
        """Is the same file a candidate under another name?"""
        same = same_file(candidate.fingerprint)
        return any(c is not candidate and same_file(c.fingerprint) == same for c in self.candidates.values())

    def given_up(self, candidate: Candidate, now_s: float) -> bool:
        """Has an incomplete file been unchanged for `incomplete_timeout_s`?"""
        return now_s - candidate.changed_s >= self.incomplete_timeout_s

    def drop(self, path: str) -> Candidate | None:
        return self.candidates.pop(path, None)


def same_file(version: Fingerprint) -> tuple[int, int, int, int]:
    """What a rename leaves as it is (it changes ctime)."""
    return version.dev, version.inode, version.size_bytes, version.mtime_ns
