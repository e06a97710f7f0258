"""What the health strip and /healthz say. Pure: the daemon's last words and a few facts in, a verdict out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from watcher.domain.timestamps import seconds
from watcher.report.progress import words

SILENT_S = 60.0  # the daemon writes its health every 5 s
QUEUE_AGE_MAX_S = 6 * 3600.0


@dataclass(frozen=True)
class Health:
    """state: ok | starting | degraded | paused | stalled | down. reasons: sentences, the worst first.

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


def judge(
    said: dict[str, Any] | None, held: bool, database: str | None, oldest_waiting_at: str | None, now_s: float
) -> Health:
    """said: the daemon's health.json; held: a daemon holds the lock; database: why it cannot be read, if so."""
    said = said or {}
    at = said.get("at") if isinstance(said.get("at"), str) else None
    runs = [run for run in said.get("runs") or [] if isinstance(run, dict)]
    ready = held and database is None and any(run.get("last_scan_age_s") is not None for run in runs)
    reasons = [database] if database else []
    if not held:
        reasons.append("no daemon runs on this database; start one with `ckptwatch run`")
        return Health("down", tuple(reasons), False, at)
    silent_s = now_s - seconds(at) if at else 0.0
    if silent_s > SILENT_S:
        reasons.append(f"the daemon has not spoken for {silent_s:.0f} s; look at `ckptwatch doctor` and its log")
        return Health("stalled", tuple(reasons), ready, at)
    state = str(said.get("state") or "ok")
    reasons += [str(reason) for reason in said.get("reasons") or []]
    if oldest_waiting_at and now_s - seconds(oldest_waiting_at) > QUEUE_AGE_MAX_S and state == "ok":
        reasons.append(f"the oldest waiting job is {(now_s - seconds(oldest_waiting_at)) / 3600:.1f} h old")
        state = "degraded"
    if database and state == "ok":
        state = "degraded"
    work = tuple(words(one, now_s) for one in said.get("work") or [] if isinstance(one, dict))
    return Health(state, tuple(reasons), ready, at, work)
