"""From the end of an attempt to the database: decide with domain/job.py, write, log.

Writes each transition in one transaction, with its result where it has one. Never looks at launch folders.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

from evalcore.logged_loss import contradicts_log
from evalcore.messages import Outcome
from watcher.domain.job import AttemptEnd, RetryPolicy, State, Transition, after_attempt
from watcher.domain.timestamps import iso
from watcher.failpoints import failpoint
from watcher.log import Log
from watcher.pipeline.claiming import Unavailable
from watcher.pipeline.drain import Drain
from watcher.store.engine import Store
from watcher.store.read.queue import count_unfinished
from watcher.store.write import attempts, results, samples
from watcher.store.write.attempts import Held


@dataclass(frozen=True)
class Recorder:
    """Ends attempts. Raises StoreUnavailable."""

    store: Store
    log: Log
    drain: Drain = field(default_factory=Drain)
    samples_drain: Drain = field(default_factory=Drain)

    def end(self, held: Held, end: AttemptEnd, policy: RetryPolicy, unavailable: Unavailable) -> None:
        """Decide and write the next state of the attempt's job."""
        move = after_attempt(held.attempt.job, end, policy, random.random())
        if move.kind == "vanished" and (why := unavailable(held.checkpoint.run)):
            move = Transition(State.QUEUED, "released", reason=why)  # the whole folder is gone, not this file
        self._write(held, move, end)

    def _write(self, held: Held, move: Transition, end: AttemptEnd) -> None:
        attempt, checkpoint = held.attempt, held.checkpoint
        now_s = time.time()
        now = iso(now_s)
        facts = {"run": checkpoint.run, "path": checkpoint.shown_path, "eval_set": held.eval_set}
        measured = end.outcome.measurement if end.outcome else None
        if move.records and measured is not None:
            failpoint("before_record")
            if results.record(self.store, attempt, move, measured, now, run=checkpoint.run) is None:
                self.log.event("rejected", **facts)
                return
            failpoint("after_record")
            loss = f"{measured.loss:.4f}" if measured.finite else f"{measured.loss} (not finite)"
            if measured.accuracy is not None:
                scores: dict[str, object] = {
                    "accuracy": f"{measured.accuracy:.4f}",
                    "items": measured.items,
                    "loss": loss,
                }
                scores |= {"seconds": measured.eval_seconds, "progress": self._progress()}
                self.log.event("scored", step=checkpoint.step, **facts, **scores)
                return
            ppl = f"{measured.ppl:.2f}" if measured.ppl is not None else "-"
            numbers = {"loss": loss, "ppl": ppl, "tokens": measured.tokens, "seconds": measured.eval_seconds}
            self.log.event("recorded", step=checkpoint.step, progress=self._progress(), **facts, **numbers)
            logged, windows = measured.logged_val_loss, len(measured.window_nats)
            if logged is not None and contradicts_log(measured.loss, logged, measured.loss_stderr, windows):
                self.log.event("contradicts_log", loss=measured.loss, logged=logged, **facts)
            return
        if move.records and end.outcome is not None and end.outcome.samples:
            self._write_samples(held, move, end.outcome, now)
            return
        if move.records and end.outcome is not None:
            content = end.outcome.content_digest
            if results.record_known(self.store, attempt, move, content, now, run=checkpoint.run) is None:
                self.log.event("rejected", **facts)
            else:
                self.log.event("copied", run=checkpoint.run, path=checkpoint.shown_path)
            return
        failpoint("before_end")
        not_before = iso(now_s + move.pause_s) if move.pause_s else None
        attempts.end_attempts(self.store, [(attempt, move, not_before)], now)
        if move.state is State.FAILED:
            hint = f"; next: {move.hint}" if move.hint else ""
            facts["progress"] = self._progress()
            self.log.event("failed", kind=move.kind, reason=move.reason or "", hint=hint, **facts)
        elif move.state is State.CANCELLED:
            self.log.event("cancelled", reason=move.reason or "", **facts)
        elif move.charge:
            self.log.event("retry", pause_s=move.pause_s, kind=move.kind, reason=move.reason or "", **facts)

    def _write_samples(self, held: Held, move: Transition, outcome: Outcome, now: str) -> None:
        checkpoint = held.checkpoint
        facts = {"run": checkpoint.run, "path": checkpoint.shown_path, "eval_set": held.eval_set}
        failpoint("before_record")
        texts, content = outcome.samples, outcome.content_digest
        kept = samples.record_samples(self.store, held.attempt, move, texts, content, now, run=checkpoint.run)
        failpoint("after_record")
        if kept is None:
            self.log.event("rejected", **facts)
        else:
            progress = self._progress(samples=True)
            self.log.event("sampled", step=checkpoint.step, texts=kept, progress=progress, **facts)

    def _progress(self, *, samples: bool = False) -> str:
        drain = self.samples_drain if samples else self.drain
        shown = drain.after_one(count_unfinished(self.store, samples=samples))
        return f"  {shown}" if shown else ""
