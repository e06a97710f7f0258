"""Results on their way out: outbox, alerts, deliveries (step 11 of the way). Wires store/ to sinks/.

`tick` never waits and sends nothing itself: deliveries run in processes of their own, and only their results are
written down here, by the one writer.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from watcher.alerts import rules as rules
from watcher.domain.job import backoff_s
from watcher.domain.timestamps import iso, seconds
from watcher.log import Log
from watcher.report.comparison import Difference, compare_rows
from watcher.settings.schema import AlertSettings, SinkSettings
from watcher.sinks.deliver import Result
from watcher.sinks.delivery_process import DeliveryProcesses
from watcher.sinks.registry import named
from watcher.state.folder import StateFolder
from watcher.store.engine import Store
from watcher.store.read import results
from watcher.store.write import outbox

ALERTS = "alerts"  # the name under which the rules themselves take rows from the outbox
BATCH = 500
EVERY_S = 1.0
TIMED_EVERY_S = 30.0
FIRST_PAUSE_S = 10.0
TRIES_MAX = {"sink": 200, "alert": 8}  # with pauses of up to half an hour: four days, two hours


@dataclass
class Delivery:
    """All sinks and alerts of one daemon. Raises StoreUnavailable like everything that uses the store."""

    store: Store
    state: StateFolder
    log: Log
    sink_sections: Sequence[SinkSettings]
    alert_sections: Sequence[AlertSettings]
    runs: Sequence[str]
    deliveries: DeliveryProcesses = field(init=False)
    _signature: tuple[Any, ...] | None = None
    _ticked_s: float = -1e9
    _timed_s: float = -1e9
    _said: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.deliveries = DeliveryProcesses(self.state.root / "sinks")
        self.sinks = named(self.sink_sections)
        self.alerts = {_alert_name(section): section for section in self.alert_sections}

    @property
    def wanted(self) -> bool:
        return bool(self.sinks or self.alerts)

    def boot(self, at_s: float) -> None:
        """Make new sinks known, and apply what an earlier daemon's deliveries left. at_s: seconds since the epoch."""
        if not self.wanted:
            return
        at = iso(at_s)
        with self.store.write() as tx:
            outbox.adopt(tx, self._fed(), at, failures=[ALERTS])
            outbox.adopt(tx, self.alerts, at)
        for name, result in self.deliveries.leftovers():
            self._apply(name, result, at_s)

    def tick(self, now_s: float, at_s: float) -> None:
        """One round, at most once a second. now_s: monotonic; at_s: seconds since the epoch."""
        if not self.wanted or now_s - self._ticked_s < EVERY_S:
            return
        self._ticked_s = now_s
        for name, result in self.deliveries.arrived(now_s):
            self._apply(name, result, at_s)
        self._sweep(at_s)
        if self.alerts:
            self._decide(at_s)
            if now_s - self._timed_s >= TIMED_EVERY_S:
                self._timed_s = now_s
                self._decide_timed(at_s)
        self._send(now_s, at_s)

    def idle(self, at_s: float) -> bool:
        """Nothing is under way and nothing is due: what `run --once` waits for, within reason."""
        if not self.wanted:
            return True
        with self.store.read() as tx:
            if outbox.signature(tx) != self._signature:
                return False
            return not self.deliveries.busy and not outbox.due(tx, [*self._fed(), *self.alerts], iso(at_s))

    @property
    def busy(self) -> bool:
        return self.deliveries.busy

    def stop(self) -> None:
        self.deliveries.stop()

    def _fed(self) -> list[str]:
        """Who gets results straight from the table."""
        return [*self.sinks, *([ALERTS] if self.alerts else [])]

    def _sweep(self, at_s: float) -> None:
        with self.store.read() as tx:
            signature = outbox.signature(tx)
        if signature != self._signature:
            with self.store.write() as tx:
                outbox.sweep(tx, self._fed(), iso(at_s), failures=[ALERTS])
            self._signature = signature

    def _send(self, now_s: float, at_s: float) -> None:
        with self.store.read() as tx:
            due = outbox.due(tx, [*self.sinks, *self.alerts], iso(at_s))
            ready = [name for name in due if self.deliveries.free(name)]
            batches = {name: outbox.pending(tx, name, BATCH, iso(at_s)) for name in ready}
        for name, owed in batches.items():
            if not owed or not self.deliveries.free(name):
                continue
            section: dict[str, Any] = (
                {"sink": self.sinks[name].model_dump(mode="json")}
                if name in self.sinks
                else {"alert": self.alerts[name].model_dump(mode="json")}
            )
            rows = [(one.id, _subject(one)) for one in owed]
            try:
                self.deliveries.start(name, rows, now_s, unsure=any(one.tries for one in owed), **section)
            except OSError as error:
                self._complain(name, f"no delivery can be started: {error.strerror or error}")

    def _apply(self, name: str, result: Result, at_s: float) -> None:
        at = iso(at_s)
        with self.store.write() as tx:
            outbox.mark_done(tx, result.done, at)
            if result.failed:
                tries = outbox.tries_of(tx, result.failed)
                pause_s = FIRST_PAUSE_S if result.busy else backoff_s(FIRST_PAUSE_S, tries + 1, 0.5)
                given_up = tries + 1 >= TRIES_MAX["alert" if name in self.alerts else "sink"]
                outbox.mark_failed(tx, result.failed, result.error, None if given_up else iso(at_s + pause_s))
        self.deliveries.applied(name, result)
        if result.failed:
            self._complain(name, result.error)
        else:
            self._said.pop(name, None)

    def _complain(self, name: str, why: str) -> None:
        """Once for each reason, not once for each try."""
        if self._said.get(name) != why:
            self._said[name] = why
            self.log.event("sink_failed", sink=name, reason=why)

    # -- alerts ----------------------------------------------------------------------------------------------------

    def _decide(self, at_s: float) -> None:
        with self.store.read() as tx:
            owed = outbox.pending(tx, ALERTS, BATCH, iso(at_s))
        if not owed:
            return
        told: list[tuple[str, rules.Alert]] = []
        for one in owed:
            if one.kind == "result":
                facts = self._result_facts(one.subject)
                told += [(n, a) for n, rule in self.alerts.items() for a in rules.decide(rule, facts)]
            else:
                told += [(n, a) for n, rule in self.alerts.items() for a in rules.decide_failure(rule, one.subject)]
        with self.store.write() as tx:
            for name, alert in told:
                self._enqueue(tx, name, alert, at_s)
            outbox.mark_done(tx, [one.id for one in owed], iso(at_s))

    def _decide_timed(self, at_s: float) -> None:
        """Stalled trainings and late queues: told once for each last checkpoint, each oldest job."""
        with self.store.read() as tx:
            saves = {run: outbox.last_saves(tx, run) for run in self.runs}
            oldest = outbox.oldest_waiting(tx)
        found: list[tuple[str, str, int, rules.Alert]] = []
        waiting = None
        if oldest is not None:
            age_s = at_s - seconds(oldest["enqueued_at"])
            waiting = rules.QueueFacts(oldest["id"], oldest["run"], oldest["checkpoint"], age_s)
        for name, rule in self.alerts.items():
            for run, rows in saves.items():
                if rows:
                    times = [seconds(row["saved_at"]) for row in rows]
                    facts = rules.RunFacts(run, rows[-1]["id"], rows[-1]["path"], times)
                    alerts = rules.decide_stalled(rule, facts, at_s)
                    found += [(name, "stalled", facts.last_checkpoint_id, alert) for alert in alerts]
            if waiting is not None:
                found += [(name, "lag", waiting.job_id, alert) for alert in rules.decide_lag(rule, waiting)]
        if not found:
            return
        with self.store.write() as tx:
            for name, kind, subject_id, alert in found:
                if outbox.enqueue_once(tx, name, kind, subject_id, iso(at_s)):
                    self._enqueue(tx, name, alert, at_s)

    def _result_facts(self, row: dict[str, Any]) -> rules.ResultFacts:
        asked = {kind for rule in self.alerts.values() for kind in rule.on}
        best = earlier = None
        with self.store.read() as tx:
            if "best" in asked and row["finite"]:
                best = outbox.best_before(tx, row, lower_step=False)
            if "regression" in asked and row["finite"]:
                earlier = outbox.best_before(tx, row, lower_step=True)
        if earlier is None:
            return rules.ResultFacts(row, best)
        found = compare_rows(earlier, row, results.KeptWindows(self.store))
        if not isinstance(found, Difference):
            return rules.ResultFacts(row, best, earlier)
        return rules.ResultFacts(row, best, earlier, found.difference, found.stderr)

    def _enqueue(self, tx: Any, name: str, alert: rules.Alert, at_s: float) -> None:
        """The alert as an event, and one row of the outbox for its channel, in one transaction."""
        event = alert.as_json()
        if alert.kind == "best" and alert.result is not None and (place := outbox.place_of(tx, alert.result)):
            below = os.fsdecode(place["raw_path"]) if place["raw_path"] else place["path"]
            event |= {"dir": place["dir"], "source": os.path.join(place["dir"], below)}
            event |= {"size_bytes": place["size_bytes"], "mtime_ns": place["mtime_ns"]}
        number = outbox.add_event(tx, "alert", alert.run, json.dumps(event), iso(at_s))
        outbox.enqueue(tx, [name], "event", number, iso(at_s))
        self.log.event("alert", text=alert.text)


def _subject(owed: outbox.Owed) -> dict[str, Any]:
    """What travels in the request: a result's row, or an alert's event."""
    return json.loads(owed.subject["detail"]) if owed.kind == "event" else owed.subject


def _alert_name(section: AlertSettings) -> str:
    """The same section has the same name after a restart, wherever it stands in the file."""
    said = json.dumps(section.model_dump(mode="json"), sort_keys=True)
    return f"alert-{hashlib.sha256(said.encode()).hexdigest()[:10]}"
