"""Reuses a result for a checkpoint with identical content, once a worker has read its bytes.

The directory's digest only says which values are worth comparing with; equal content and model digests decide.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from watcher.store.schema import results, task_items, windows

#: What a copy takes over; the rest of the row is the copying checkpoint's own.
MEASURED = (
    *("loss", "ppl", "bits_per_byte", "loss_stderr", "finite", "tokens", "bytes", "seq_len", "stride", "batch_size"),
    *("dtype", "device", "world_size", "load_seconds", "eval_seconds", "tokens_per_second", "peak_memory_bytes"),
    *("eval_digest", "evalcore_version", "torch_version", "attempt", "evaluated_at", "content_digest", "model_digest"),
    *("task", "items", "accuracy", "accuracy_norm", "accuracy_stderr", "random_baseline", "weights"),
    *("family", "assumed"),
)

# Built once: every claim and every copy asks these.
_KNOWN = (
    select(results.c.eval_digest, results.c.content_digest)
    .where(results.c.run == bindparam("of_run"), results.c.checkpoint_digest == bindparam("claimed"))
    .where(results.c.model_digest == bindparam("made_as"), results.c.content_digest.is_not(None))
    .distinct()
)
_SOURCE = (
    select(results)
    .where(results.c.run == bindparam("of_run"), results.c.checkpoint_digest == bindparam("claimed"))
    .where(results.c.content_digest == bindparam("content"), results.c.model_digest == bindparam("made_as"))
    .where(results.c.eval_digest == bindparam("measured_as"))
    .order_by(results.c.id)
)


def known_contents(tx: Connection, run: str, digest: str, model_digest: str) -> dict[str, tuple[str, ...]]:
    """eval digest -> contents that claim this digest and have a value, made into a model in the same way."""
    known: dict[str, tuple[str, ...]] = {}
    for row in tx.execute(_KNOWN, {"of_run": run, "claimed": digest, "made_as": model_digest}):
        known[row.eval_digest] = (*known.get(row.eval_digest, ()), row.content_digest)
    return known


def copy_value(tx: Connection, row: Any, content_digest: str) -> int | None:
    """The id of the result that this version has from now on: its own where there is one, else a copy.

    row: the version with its eval set. None: no value of this content is left.
    """
    same = {"of_run": row.run, "claimed": row.digest, "content": content_digest}
    same |= {"made_as": row.model_digest, "measured_as": row.eval_digest}
    sources = tx.execute(_SOURCE, same).all()
    for source in sources:
        if (source.checkpoint, source.eval_set) == (row.path, row.eval_set):
            return source.id
    return _insert_copy(tx, sources[0], row) if sources else None


def _insert_copy(tx: Connection, source: Any, row: Any) -> int:
    note = f"same content as {source.checkpoint}, evaluated once" + (f"; {source.note}" if source.note else "")
    own = {"run": row.run, "checkpoint": row.path, "step": row.step, "eval_set": row.eval_set, "note": note}
    own |= {"logged_val_loss": row.logged_val_loss, "tokens_seen": row.tokens_seen, "saved_at": row.saved_at}
    measured = {name: getattr(source, name) for name in MEASURED}
    values = {**own, **measured, "checkpoint_digest": row.digest}
    copy = tx.execute(insert(results).values(values).returning(results.c.id)).scalar_one()
    for table in (windows, task_items):
        kept = tx.execute(select(table).where(table.c.result_id == source.id)).mappings().first()
        tx.execute(table.delete().where(table.c.result_id == copy))  # left behind where a result was deleted by hand
        if kept is not None:
            tx.execute(insert(table).values({**kept, "result_id": copy}))
    return copy
