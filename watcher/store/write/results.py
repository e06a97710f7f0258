"""The verb `record`: what a worker found becomes a row in `results`, guarded by state and token, in one transaction."""

from __future__ import annotations

import math
import zlib
from typing import Any

from sqlalchemy import Connection, insert, select, update

from evalcore.messages import Measurement
from evalcore.spikes import spikes_text
from watcher.domain.job import State, Transition
from watcher.store.engine import Store
from watcher.store.packed import packed
from watcher.store.schema import checkpoints, eval_sets, exports, jobs, results, task_items, windows
from watcher.store.write import copies, versions
from watcher.store.write.attempts import OpenAttempt, end_attempt
from watcher.store.write.runs import run_lock
from watcher.store.write.task_items import DAMAGED, item_values


def record(
    store: Store, attempt: OpenAttempt, move: Transition, measured: Measurement, now: str, *, run: str = ""
) -> int | None:
    """End the attempt and insert its result. None: the token was stale, and nothing was written but that.

    A non-finite loss is a row like any other, with finite = 0. A value that the same content has already stays as it
    is, unless the job was to measure it again: then the new row takes its place.
    """
    with store.write(alone=run_lock(run)) as tx:
        if not end_attempt(tx, attempt.id, attempt.token, attempt.job.id, move, None, now):
            return None
        row = version_of(tx, attempt.job.id)
        items = item_values(measured)
        values = _values(row, measured, attempt.job.charged + attempt.job.orphaned + 1, now)
        if measured.task is not None and items is None:
            values["note"] = "; ".join(filter(None, (values["note"], DAMAGED)))
        existing = _same_row(tx, values)
        if existing is not None and not row.again:
            result_id = existing.id
        else:
            if existing is not None:
                _replace(tx, existing, values)
            result_id = tx.execute(insert(results).values(values).returning(results.c.id)).scalar_one()
            _keep_parts(tx, result_id, measured, items)
        stand(tx, row, measured.content_digest or None, now)
        return result_id


def record_known(
    store: Store, attempt: OpenAttempt, move: Transition, content_digest: str, now: str, *, run: str = ""
) -> int | None:
    """The worker has read the bytes, and their value is known: it is copied where this version has none of its own.

    None: the token was stale, or the value has been deleted meanwhile; then the job is queued to be evaluated.
    """
    with store.write(alone=run_lock(run)) as tx:
        if not end_attempt(tx, attempt.id, attempt.token, attempt.job.id, move, None, now):
            return None
        row = version_of(tx, attempt.job.id)
        result_id = copies.copy_value(tx, row, content_digest)
        if result_id is None:
            _queue_again(tx, row.job_id, again=1)
            return None
        stand(tx, row, content_digest, now)
        return result_id


def version_of(tx: Connection, job_id: int) -> Any:
    """The job's version of a checkpoint, with its eval set."""
    return tx.execute(
        select(checkpoints)
        .add_columns(eval_sets.c.name.label("eval_set"), eval_sets.c.digest.label("eval_digest"))
        .add_columns(eval_sets.c.spec.label("eval_spec"))
        .add_columns(jobs.c.id.label("job_id"), jobs.c.again, jobs.c.claimed_at)
        .add_columns(jobs.c.model_digest.label("evaluated_as"))
        .select_from(jobs.join(checkpoints).join(eval_sets))
        .where(jobs.c.id == job_id)
    ).one()


def stand(tx: Connection, row: Any, content_digest: str | None, now: str) -> None:
    """Set what stands at the path; where the file changed while this was evaluated, its bytes are read again."""
    if row.changed_at is not None and row.claimed_at is not None and row.changed_at > row.claimed_at:
        _queue_again(tx, row.job_id, again=0)
        return
    if row.again:
        tx.execute(update(jobs).where(jobs.c.id == row.job_id).values(again=0))
    if content_digest is not None:
        versions.confirm(tx, row.id, content_digest)
    versions.restand(tx, row.run, row.path, now)


def _queue_again(tx: Connection, job_id: int, again: int) -> None:
    afresh = {"state": State.QUEUED, "finished_at": None, "kind": None, "reason": None, "hint": None, "again": again}
    tx.execute(update(jobs).where(jobs.c.id == job_id, jobs.c.state == State.SUCCEEDED).values(afresh))


def _keep_parts(tx: Connection, result_id: int, measured: Measurement, items: dict[str, Any] | None) -> None:
    """The windows of a loss, or the items of a task, for paired comparisons."""
    for table in (windows, task_items):
        tx.execute(table.delete().where(table.c.result_id == result_id))  # of a result that was deleted by hand
    if measured.task is None:
        tx.execute(insert(windows).values(result_id=result_id, **_window_columns(measured)))
    elif items is not None:
        tx.execute(insert(task_items).values(result_id=result_id, **items))


def _same_row(tx: Connection, values: dict[str, Any]) -> Any:
    """The result of the same version, made and measured in the same way."""
    key = ("run", "checkpoint", "checkpoint_digest", "content_digest", "model_digest", "eval_set", "eval_digest")
    where = [results.c[name].is_not_distinct_from(values[name]) for name in key]
    return tx.execute(select(results.c.id, results.c.loss, results.c.accuracy).where(*where)).first()


def _replace(tx: Connection, existing: Any, values: dict[str, Any]) -> None:
    """Delete the row of the earlier measurement; the note of the new one, which sinks get, has its value."""
    accuracy = f", accuracy {existing.accuracy!r}" if existing.accuracy is not None else ""
    before = f"measured again on demand; before: loss {existing.loss!r}{accuracy}"
    values["note"] = "; ".join(filter(None, (before, values["note"])))
    owed = (exports.c.kind == "result", exports.c.subject_id == existing.id, exports.c.state == "pending")
    tx.execute(exports.delete().where(*owed))
    for table in (windows, task_items):
        tx.execute(table.delete().where(table.c.result_id == existing.id))
    tx.execute(results.delete().where(results.c.id == existing.id))


_SHARES = ("accuracy", "accuracy_norm", "accuracy_stderr", "random_baseline")


def _values(row: Any, measured: Measurement, attempt: int, now: str) -> dict[str, Any]:
    def number(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    loss = number(measured.loss)
    notes = [part for note in (measured.note, row.note) if note for part in note.split("; ")]
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
        "model_digest": row.evaluated_as or None,
        "content_digest": measured.content_digest or None,
        "family": row.family,
        "assumed": row.assumed,
        "weights": row.weights,
        "task": measured.task,
        "items": measured.items,
        **{name: number(getattr(measured, name)) for name in _SHARES},
        "attempt": attempt,
        "saved_at": row.saved_at,
        "evaluated_at": now,
        **{name: getattr(measured, name) for name in (*same, *more)},
    }


def _window_columns(measured: Measurement) -> dict[str, bytes | None]:
    """Nats (float64) and targets (uint32) of windows and positions, little-endian; the highest windows; deflated."""
    columns: dict[str, bytes | None] = dict.fromkeys(("position_nats", "position_targets", "spikes"))
    columns |= {"nats": packed("d", measured.window_nats), "targets": packed("I", measured.window_targets)}
    if measured.position_nats:
        columns["position_nats"] = packed("d", measured.position_nats)
        columns["position_targets"] = packed("I", measured.position_targets)
    if measured.spikes:
        columns["spikes"] = zlib.compress(spikes_text(measured.spikes).encode())
    return columns
