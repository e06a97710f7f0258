"""Orders to the queue, carried out: very long ones too."""

from __future__ import annotations

from types import SimpleNamespace

from tests.support.database import small_run
from watcher.pipeline.orders import apply_inbox, apply_order
from watcher.state.commands import Order, send
from watcher.state.folder import StateFolder
from watcher.store.schema import jobs


def test_an_order_for_300_000_jobs_is_one_change(tmp_path):
    database = small_run(tmp_path / "r.db")
    waiting = [database.job(database.checkpoint(step), "queued") for step in (400, 500)]
    state = StateFolder(tmp_path / "state")
    state.create()
    order = Order("cancel", (*range(1_000_000, 1_300_000), *waiting))
    assert apply_order(database.store, state, order) == 2
    with database.store.read() as tx:
        states = {row.id: row.state for row in tx.execute(jobs.select())}
    assert [states[job] for job in waiting] == ["cancelled", "cancelled"]
    database.close()


def test_pause_and_resume_are_logged_as_such(tmp_path):
    database = small_run(tmp_path / "r.db")
    state = StateFolder(tmp_path / "state")
    state.create()
    for action in ("pause", "resume"):
        send(state.inbox, Order(action, ()))
    lines: list[tuple[str, dict]] = []
    log = SimpleNamespace(event=lambda name, **facts: lines.append((name, facts)))
    apply_inbox(database.store, state, log, None, 0.0)
    assert lines == [("queue_paused", {}), ("queue_resumed", {})]
    database.close()
