"""Results to sinks and alerts: outbox, alert rules, delivery processes. Wires store/ to sinks/.

`tick` never waits and sends nothing itself: each delivery runs in its own process, and only its result is recorded
here, by the one writer.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from watcher.alerts import rules
from watcher.domain.job import backoff_s
from watcher.domain.metrics import Metric
from watcher.domain.timestamps import iso, seconds
from watcher.log import Log
from watcher.pipeline.isolation import Isolation
from watcher.report.comparison import Difference, compare
from watcher.settings.schema import AlertSettings, SinkSettings
from watcher.sinks.delivery_folder import Result
from watcher.sinks.delivery_process import DeliveryProcesses
from watcher.sinks.registry import named
from watcher.store.engine import Store
from watcher.store.read.tasks import KeptItems
from watcher.store.read.windows import KeptWindows
from watcher.store.write import outbox

ALERTS = "alerts"  # the name under which the rules themselves take rows from the outbox
WORKER = "watcher.pipeline.delivery_worker"  # the module that a delivery process runs
BATCH = 500
EVERY_S = 1.0
TIMED_EVERY_S = 30.0
FIRST_PAUSE_S = 10.0
TRIES_MAX = {"sink": 200, "alert": 8}  # with pauses of up to half an hour: four days, two hours


@dataclass
class Delivery:
    """All sinks and alerts of one set of settings. Raises StoreUnavailable like everything that uses the store.

    deliveries: the daemon's delivery processes, which outlive a change of the settings.
    """

    store: Store
    log: Log
    isolation: Isolation
    sink_sections: Sequence[SinkSettings]
    alert_sections: Sequence[AlertSettings]
    runs: Sequence[str]
    deliveries: DeliveryProcesses
    _signature: tuple[Any, ...] | None = None
    _ticked_s: float = -1e9
    _timed_s: float = -1e9
    _logged_failures: dict[str, str] = field(default_factory=dict)  # sink -> its last logged reason

    def __post_init__(self) -> None:
        self.sinks = named(self.sink_sections)
        self.alerts = {_alert_name(section): section for section in self.alert_sections}

    def adopt(self, at_s: float) -> None:
        """Register new sinks and alerts with the outbox. at_s: seconds since the epoch."""
        with self.store.write() as tx:
            outbox.adopt(tx, self._fed(), iso(at_s), failures=[ALERTS])
            outbox.adopt(tx, self.alerts, iso(at_s))

    def apply_leftovers(self, at_s: float) -> None:
        """At boot: record the results of deliveries that an earlier daemon did not live to record."""
        for name, result in self.deliveries.leftovers():
            self._apply(name, result, at_s)

    def tick(self, now_s: float, at_s: float) -> None:
        """One round, at most once a second. now_s: monotonic; at_s: seconds since the epoch."""
        if now_s - self._ticked_s < EVERY_S:
            return
        self._ticked_s = now_s
        for name, result in self.deliveries.collect(now_s):
            self.isolation.run(f"sink {name}", now_s, partial(self._apply, name, result, at_s))
        self.isolation.run("outbox", now_s, partial(self._sweep, at_s))
        if self.alerts:
            self.isolation.run("alerts", now_s, partial(self._decide, at_s))
            if now_s - self._timed_s >= TIMED_EVERY_S:
                self._timed_s = now_s
                self.isolation.run("timed alerts", now_s, partial(self._decide_timed, at_s))
        self._send(now_s, at_s)

    def idle(self, at_s: float) -> bool:
        """Nothing is under way and nothing is due: what `run --once` waits for, within reason."""
        with self.store.read() as tx:
            if outbox.signature(tx) != self._signature:
                return False
            return not self.deliveries.busy and not outbox.due(tx, [*self._fed(), *self.alerts], iso(at_s))

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
        for name in due:
            if self.deliveries.free(name):
                self.isolation.run(f"sink {name}", now_s, partial(self._start, name, now_s, at_s))

    def _start(self, name: str, now_s: float, at_s: float) -> None:
        with self.store.read() as tx:
            batch = outbox.pending(tx, name, BATCH, iso(at_s))
        if not batch:
            return
        section: dict[str, Any] = (
            {"sink": self.sinks[name].model_dump(mode="json")}
            if name in self.sinks
            else {"alert": self.alerts[name].model_dump(mode="json")}
        )
        rows = [(owed.id, _payload(owed)) for owed in batch]
        try:
            self.deliveries.start(name, rows, now_s, unsure=any(owed.tries for owed in batch), **section)
        except OSError as error:
            self._log_failure(name, f"no delivery can be started: {error.strerror or error}")

    def _apply(self, name: str, result: Result, at_s: float) -> None:
        at = iso(at_s)
        with self.store.write() as tx:
            outbox.mark_done(tx, result.done, at)
            if result.torn:
                outbox.send_again(tx, name, BATCH)
            if result.failed:
                tries = outbox.tries_of(tx, result.failed)
                pause_s = FIRST_PAUSE_S if result.busy else backoff_s(FIRST_PAUSE_S, tries + 1, 0.5)
                given_up = tries + 1 >= TRIES_MAX["alert" if name in self.alerts else "sink"]
                outbox.mark_failed(tx, result.failed, result.error, None if given_up else iso(at_s + pause_s))
        self.deliveries.applied(name, result)
        if result.failed:
            self._log_failure(name, result.error)
        else:
            self._logged_failures.pop(name, None)

    def _log_failure(self, name: str, reason: str) -> None:
        """Once for each reason, not once for each try."""
        if self._logged_failures.get(name) != reason:
            self._logged_failures[name] = reason
            self.log.event("sink_failed", sink=name, reason=reason)

    # -- alerts ----------------------------------------------------------------------------------------------------

    def _decide(self, at_s: float) -> None:
        with self.store.read() as tx:
            owed = outbox.pending(tx, ALERTS, BATCH, iso(at_s))
        if not owed:
            return
        alerts: list[tuple[str, rules.Alert]] = []
        for item in owed:
            if item.kind == "result":
                known: dict[str, rules.ResultFacts] = {}
                for name, rule in self.alerts.items():
                    metric = rules.metric_of(rule, item.subject)
                    if metric.key not in known:
                        known[metric.key] = self._result_facts(item.subject, metric)
                    alerts += [(name, alert) for alert in rules.decide(rule, known[metric.key])]
            else:
                alerts += [(n, a) for n, rule in self.alerts.items() for a in rules.decide_failure(rule, item.subject)]
        with self.store.write() as tx:
            for name, alert in alerts:
                self._enqueue(tx, name, alert, at_s)
            outbox.mark_done(tx, [item.id for item in owed], iso(at_s))

    def _decide_timed(self, at_s: float) -> None:
        """Stalled trainings and late queues: one alert for each last checkpoint, each oldest job."""
        with self.store.read() as tx:
            saves = {run: outbox.last_saves(tx, run) for run in self.runs}
            oldest = outbox.oldest_waiting(tx, self.runs)
        due: list[tuple[str, str, int, rules.Alert]] = []
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
                    due += [(name, "stalled", facts.last_checkpoint_id, alert) for alert in alerts]
            if waiting is not None:
                due += [(name, "lag", waiting.job_id, alert) for alert in rules.decide_lag(rule, waiting)]
        if not due:
            return
        with self.store.write() as tx:
            for name, kind, subject_id, alert in due:
                if outbox.enqueue_once(tx, name, kind, subject_id, iso(at_s)):
                    self._enqueue(tx, name, alert, at_s)

    def _result_facts(self, row: dict[str, Any], metric: Metric) -> rules.ResultFacts:
        kinds = {kind for rule in self.alerts.values() for kind in rule.on}
        best = earlier = None
        with self.store.read() as tx:
            if kinds & {"best", "logged_loss"} and row["finite"]:
                best = outbox.best_before(tx, row, metric, lower_step=False)
            if "regression" in kinds and row["finite"]:
                earlier = outbox.best_before(tx, row, metric, lower_step=True)
        if earlier is None:
            return rules.ResultFacts(row, best, metric=metric)
        compared = compare(metric, earlier, row, KeptWindows(self.store), KeptItems(self.store))
        if not isinstance(compared, Difference):
            return rules.ResultFacts(row, best, earlier, metric=metric)
        return rules.ResultFacts(row, best, earlier, compared.difference, compared.stderr, metric)

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


def _payload(owed: outbox.Export) -> dict[str, Any]:
    """What the delivery's request holds: a result's row, or an alert's event."""
    return json.loads(owed.subject["detail"]) if owed.kind == "event" else owed.subject


def _alert_name(section: AlertSettings) -> str:
    """The same section has the same name after a restart, wherever it stands in the file."""
    text = json.dumps(section.model_dump(mode="json"), sort_keys=True)
    return f"alert-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
