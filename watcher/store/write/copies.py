"""Equal content under another path has the same number: the value is copied, nothing is evaluated again."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, insert, select, update

from watcher.domain.job import State
from watcher.store.schema import checkpoints, eval_sets, jobs, results, windows

#: What a copy takes over; the rest of the row is the copying checkpoint's own.
MEASURED = (
    *("loss", "ppl", "bits_per_byte", "loss_stderr", "finite", "tokens", "bytes", "seq_len", "stride", "batch_size"),
    *("dtype", "device", "world_size", "load_seconds", "eval_seconds", "tokens_per_second", "peak_memory_bytes"),
    *("eval_digest", "evalcore_version", "torch_version", "attempt", "evaluated_at", "checkpoint_digest"),
)

# Built once: every checkpoint that is registered, and every result, asks these.
_WANTED = (
    select(checkpoints, eval_sets.c.name.label("eval_set"), eval_sets.c.digest.label("eval_digest"))
    .select_from(jobs.join(checkpoints).join(eval_sets))
    .where(jobs.c.id == bindparam("of"))
)
_SOURCE = (
    select(results)
    .where(results.c.run == bindparam("of_run"), results.c.checkpoint_digest == bindparam("content"))
    .where(results.c.eval_digest == bindparam("measured_as"))
    .order_by(results.c.id)
    .limit(1)
)
_EQUAL = select(checkpoints.c.id).where(
    checkpoints.c.run == bindparam("of_run"), checkpoints.c.digest == bindparam("content")
)
_WAITING = (
    select(jobs.c.id)
    .where(jobs.c.checkpoint_id.in_(_EQUAL), jobs.c.state == State.QUEUED)
    .with_for_update(of=jobs, skip_locked=True)  # one that is being claimed elsewhere is evaluated there
)


def from_equal_content(tx: Connection, job_id: int, now: str) -> bool:
    """Where the run has a result for the same content and set under another path, finish the queued job with it."""
    wanted = tx.execute(_WANTED, {"of": job_id}).one()
    same = {"of_run": wanted.run, "content": wanted.digest, "measured_as": wanted.eval_digest}
    source = tx.execute(_SOURCE, same).first()
    if source is None:
        return False
    if source.checkpoint != wanted.path or source.eval_set != wanted.eval_set:
        _insert_copy(tx, source, wanted)
    over = {"state": State.SUCCEEDED, "finished_at": now, "kind": None, "reason": None}
    tx.execute(update(jobs).where(jobs.c.id == job_id, jobs.c.state == State.QUEUED).values(over))
    return True


def to_equal_content(tx: Connection, digest: str, run: str, now: str) -> int:
    """After a result: finish every queued job of the run that waits with the same content. Returns how many."""
    waiting = tx.execute(_WAITING, {"of_run": run, "content": digest}).scalars()
    return sum(from_equal_content(tx, job_id, now) for job_id in waiting.all())


def _insert_copy(tx: Connection, source, wanted) -> None:
    there = select(results.c.id).where(
        results.c.run == wanted.run,
        results.c.checkpoint == wanted.path,
        results.c.checkpoint_digest == wanted.digest,
        results.c.eval_set == wanted.eval_set,
        results.c.eval_digest == wanted.eval_digest,
    )
    if tx.execute(there).first() is not None:
        return
    note = f"same content as {source.checkpoint}, evaluated once" + (f"; {source.note}" if source.note else "")
    own = {"run": wanted.run, "checkpoint": wanted.path, "step": wanted.step, "eval_set": wanted.eval_set, "note": note}
    own |= {"logged_val_loss": wanted.logged_val_loss, "tokens_seen": wanted.tokens_seen, "saved_at": wanted.saved_at}
    measured = {name: getattr(source, name) for name in MEASURED}
    copy = tx.execute(insert(results).values(**own, **measured).returning(results.c.id)).scalar_one()
    kept = tx.execute(select(windows).where(windows.c.result_id == source.id)).first()
    if kept is not None:
        tx.execute(insert(windows).values(result_id=copy, nats=kept.nats, targets=kept.targets))
