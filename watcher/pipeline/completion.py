"""Decides whether any work is left, for `run --once`, `run --until` and the demo.

Raises in a single pass where waiting would never end: a broken executor, a folder that disappeared, a paused queue.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from watcher.domain.health import Fault, Pause, Paused
from watcher.errors import CkptwatchError, EnvironmentProblem
from watcher.log import paused_words
from watcher.pipeline.delivery import Delivery
from watcher.pipeline.dispatch import Dispatch
from watcher.pipeline.intake import Intake
from watcher.store.engine import Store
from watcher.store.write import queue, requests

DELIVERY_GRACE_S = 30.0  # of a single pass, after the last evaluation
LAUNCH_FAILURES_MAX = 3
FAULTS_MAX = 3


@dataclass
class Completion:
    """once: a single pass."""

    store: Store
    once: bool
    _quiet_since_s: float | None = None

    def reached(
        self, intakes: Sequence[Intake], dispatch: Dispatch, delivery: Delivery | None, paused: Paused | None
    ) -> bool:
        """Nothing to settle, to evaluate, to retry or to deliver. Raises EnvironmentProblem, StoreUnavailable."""
        if self.once:
            refuse_to_retry(dispatch.isolation.faults(time.monotonic()))
        if dispatch.live or not all(intake.idle() for intake in intakes):
            return False
        runs = [intake.run.name for intake in intakes]
        if queue.next_due(self.store, runs) is None:
            strided = [intake.run.name for intake in intakes if intake.run.every > 1]
            if any(requests.revive_newest(self.store, name) for name in strided):
                return False
            return delivery is None or self._delivered(delivery)
        if self.once:
            refuse_to_wait(dispatch)
            if missing := next((intake.dir_missing for intake in intakes if intake.dir_missing), None):
                raise EnvironmentProblem(f"the folder disappeared: {missing}", hint="run again once it is back")
            if paused is not None and paused.pause in (Pause.BY_USER, Pause.DATA_MISSING):
                raise EnvironmentProblem(
                    f"the queue is paused: {paused_words(paused)}",
                    hint="ckptwatch queue resume" if paused.pause is Pause.BY_USER else "put the data back, run again",
                )
        return False

    def _delivered(self, delivery: Delivery) -> bool:
        """Have the sinks received everything? A single pass waits for them, within reason."""
        now_s = time.monotonic()
        self._quiet_since_s = self._quiet_since_s or now_s
        return delivery.idle(time.time()) or now_s - self._quiet_since_s > DELIVERY_GRACE_S


def refuse_to_retry(faults: Sequence[Fault]) -> None:
    """Raise where a part of the daemon fails again and again: a single pass would never end."""
    for fault in faults:
        if fault.failures >= FAULTS_MAX:
            raise CkptwatchError(
                f"{fault.part} failed {fault.failures} times: {fault.error}",
                hint="the traceback is above; please report it, and run without this part meanwhile",
            )


def refuse_to_wait(dispatch: Dispatch) -> None:
    """Raise where launches fail again and again."""
    if dispatch.launch_failures >= LAUNCH_FAILURES_MAX:
        lines = dispatch.launch_failure.splitlines()
        raise EnvironmentProblem(
            f"torchrun cannot be started: {lines[-1] if lines else 'no reason given'}",
            tried=f"{dispatch.launch_failures} launches; their logs are in {dispatch.state.launches}",
            hint="ckptwatch doctor",
        )
