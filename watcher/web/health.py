"""The health strip and /healthz: the answer of watcher/domain/health.py in the words and fields of the page. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from watcher.domain.health import LockFacts, LockState, judge_from_outside
from watcher.log import sentence
from watcher.report.progress import words


@dataclass(frozen=True)
class Health:
    """state: one of watcher.domain.health.HealthState. reasons: sentences, the worst first.

    ready: has scanned once. work: what the daemon itself does that takes long (hashing data, scanning).
    """

    state: str
    reasons: tuple[str, ...]
    ready: bool
    said_at: str | None
    work: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.state in ("ok", "starting")

    def as_json(self) -> dict[str, Any]:
        said = {"reasons": list(self.reasons), "work": list(self.work), "said_at": self.said_at}
        return {"ok": self.ok, "state": self.state, **said}


def judge(said: dict[str, Any] | None, lock: LockFacts, database: str | None, now_s: float) -> Health:
    """said: the daemon's status file; database: why it cannot be read, if so."""
    said = said or {}
    at = said.get("at") if isinstance(said.get("at"), str) else None
    runs = [run for run in said.get("runs") or [] if isinstance(run, dict)]
    held = lock.state is LockState.HELD
    ready = held and database is None and any(run.get("last_scan_age_s") is not None for run in runs)
    health = judge_from_outside(said, lock, now_s, database)
    work = tuple(words(one, now_s) for one in said.get("work") or [] if isinstance(one, dict)) if held else ()
    return Health(str(health.state), tuple(map(sentence, health.reasons)), ready, at, work)
