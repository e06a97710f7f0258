"""When is a file ready to be read? Pure: observations and time go in, paths that are due come out.

A changed stat restarts that path's own quiet timer and no other's. Times are monotonic seconds given by the caller;
a file's own mtime is never compared with a clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from watcher.domain.checkpoint import Fingerprint

CLOSED_SETTLE_S = 0.5  # after a close or a rename was seen, nobody is expected to write on
PROBE_AGAIN_MAX_S = 30.0


@dataclass
class Candidate:
    """A path that has not settled: its newest fingerprint, since when that is unchanged, and when to look again."""

    path: str
    fingerprint: Fingerprint
    first_seen_s: float
    changed_s: float
    closed: bool = False
    due_s: float = 0.0
    probes: int = 0
    reason: str = ""


@dataclass
class Settler:
    """All candidates of one run. settle_s: quiet time; incomplete_timeout_s: how long a half file is waited for."""

    settle_s: float
    incomplete_timeout_s: float
    candidates: dict[str, Candidate] = field(default_factory=dict)

    def observe(self, path: str, fingerprint: Fingerprint, now_s: float, *, closed: bool = False) -> bool:
        """Take in one stat. True when it started or restarted the path's timer."""
        candidate = self.candidates.get(path)
        if candidate is None:
            candidate = Candidate(path, fingerprint, now_s, now_s, closed)
            self.candidates[path] = candidate
        elif candidate.fingerprint != fingerprint:
            candidate.fingerprint, candidate.changed_s, candidate.probes = fingerprint, now_s, 0
            candidate.closed = closed
        elif closed and not candidate.closed:
            candidate.closed = True
        else:
            return False
        quiet_s = min(CLOSED_SETTLE_S, self.settle_s) if candidate.closed else self.settle_s
        candidate.due_s = candidate.changed_s + quiet_s
        return True

    def due(self, now_s: float) -> Iterator[Candidate]:
        """Candidates whose quiet time is over: stat them once more, then probe."""
        return iter([c for c in self.candidates.values() if c.due_s <= now_s])

    def next_due_s(self) -> float | None:
        return min((c.due_s for c in self.candidates.values()), default=None)

    def wait(self, candidate: Candidate, now_s: float, reason: str) -> None:
        """Quiet but not complete, or not readable yet: look again, ever more seldom."""
        candidate.reason = reason
        candidate.probes += 1
        candidate.due_s = now_s + min(self.settle_s * 2 ** (candidate.probes - 1), PROBE_AGAIN_MAX_S)

    def given_up(self, candidate: Candidate, now_s: float) -> bool:
        """Has a half-written file been unchanged so long that its writer must be gone?"""
        return now_s - candidate.changed_s >= self.incomplete_timeout_s

    def drop(self, path: str) -> Candidate | None:
        return self.candidates.pop(path, None)
