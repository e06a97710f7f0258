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

    ready: has scanned once. work: the daemon's own long work (hashing data, scanning).
    """

    state: str
    reasons: tuple[str, ...]
    ready: bool
    heartbeat_at: str | None
    work: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.state in ("ok", "starting")

    def as_json(self) -> dict[str, Any]:
        more = {"reasons": list(self.reasons), "work": list(self.work), "heartbeat_at": self.heartbeat_at}
        return {"ok": self.ok, "state": self.state, **more}


def page_health(status: dict[str, Any] | None, lock: LockFacts, database: str | None, now_s: float) -> Health:
    """status: the daemon's status file; database: why it cannot be read, if so."""
    status = status or {}
    at = status.get("at") if isinstance(status.get("at"), str) else None
    runs = [run for run in status.get("runs") or [] if isinstance(run, dict)]
    held = lock.state is LockState.HELD
    ready = held and database is None and any(run.get("last_scan_age_s") is not None for run in runs)
    health = judge_from_outside(status, lock, now_s, database)
    work = (
        tuple(words(record, now_s) for record in status.get("work") or [] if isinstance(record, dict)) if held else ()
    )
    return Health(str(health.state), tuple(map(sentence, health.reasons)), ready, at, work)
