"""The verb `record`: a succeeded outcome becomes a row in `results`, guarded by state and token, in one transaction."""

from __future__ import annotations

import math
import zlib
from array import array

from sqlalchemy import Connection, and_, insert, or_, select, update

from evalcore.messages import Measurement
from watcher.domain.job import Transition
from watcher.store.engine import Store
from watcher.store.schema import checkpoints, eval_sets, jobs, results, windows
from watcher.store.write import copies
from watcher.store.write.checkpoints import run_lock
from watcher.store.write.queue import OpenAttempt, end_attempt


def record(
    store: Store, attempt: OpenAttempt, move: Transition, measured: Measurement, now: str, *, run: str = ""
) -> int | None:
    """End the attempt and insert its result. None: the token was stale, and nothing was written but that.

    A non-finite loss is a row like any other, with finite = 0. Late versions of a step supersede earlier ones.
    """
    with store.write(alone=run_lock(run)) as tx:
        if not end_attempt(tx, attempt.id, attempt.token, attempt.job.id, move, None, now):
            return None
        row = tx.execute(
            select(checkpoints, eval_sets.c.name.label("eval_set"), eval_sets.c.digest.label("eval_digest"))
            .select_from(jobs.join(checkpoints).join(eval_sets))
            .where(jobs.c.id == attempt.job.id)
        ).one()
        values = _values(row, measured, attempt.job.charged + attempt.job.orphaned + 1, now)
        result_id = tx.execute(insert(results).values(values).returning(results.c.id)).scalar_one()
        tx.execute(insert(windows).values(result_id=result_id, **_packed(measured)))
        if row.step is not None:
            _newest_version_stands(tx, row)
        copies.to_equal_content(tx, row.digest, row.run, now)
        return result_id


def _values(row, measured: Measurement, attempt: int, now: str) -> dict:
    def number(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    loss = number(measured.loss)
    notes = [note for note in (measured.note, row.note) if note]
    same = ("tokens", "bytes", "seq_len", "stride", "batch_size", "dtype", "device", "world_size", "load_seconds")
    more = ("eval_seconds", "tokens_per_second", "peak_memory_bytes", "evalcore_version", "torch_version")
    return {
        "run": row.run,
        "checkpoint": row.path,
        "step": row.step,
        "eval_set": row.eval_set,
        "loss": loss,
        "ppl": number(measured.ppl),
        "bits_per_byte": number(measured.bits_per_byte),
        "loss_stderr": number(measured.loss_stderr),
        "finite": int(measured.finite and loss is not None),
        "logged_val_loss": measured.logged_val_loss if row.logged_val_loss is None else row.logged_val_loss,
        "tokens_seen": measured.tokens_seen if row.tokens_seen is None else row.tokens_seen,
        "note": "; ".join(dict.fromkeys(notes)) or None,
        "checkpoint_digest": row.digest,
        "eval_digest": row.eval_digest,
        "attempt": attempt,
        "saved_at": row.saved_at,
        "evaluated_at": now,
        **{name: getattr(measured, name) for name in (*same, *more)},
    }


def _packed(measured: Measurement) -> dict[str, bytes]:
    """Per-window nats (float64) and target counts (uint32), little-endian, deflated."""
    nats, targets = array("d", measured.window_nats), array("I", measured.window_targets)
    return {"nats": zlib.compress(nats.tobytes()), "targets": zlib.compress(targets.tobytes())}


def _newest_version_stands(tx: Connection, row) -> None:
    """A step that came again with other content: only the version saved last stands in the curves."""
    same_cell = and_(
        results.c.run == row.run,
        results.c.eval_set == row.eval_set,
        results.c.eval_digest == row.eval_digest,
        results.c.step == row.step,
    )
    newest = tx.execute(
        select(results.c.checkpoint_digest).where(same_cell).order_by(results.c.saved_at.desc(), results.c.id.desc())
    ).scalar()
    other = results.c.checkpoint_digest != newest
    tx.execute(update(results).where(same_cell, other, results.c.superseded == 0).values(superseded=1))
    back = and_(same_cell, or_(results.c.checkpoint_digest == newest), results.c.superseded == 1)
    tx.execute(update(results).where(back).values(superseded=0))
