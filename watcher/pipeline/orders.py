"""Carries out users' orders to the queue: those in the inbox of a running daemon, or one given at once.

Wires state/commands.py to store/. An order that cannot be carried out is set aside and never blocks the next one.
"""

from __future__ import annotations

import os
import time

from watcher.domain.timestamps import iso
from watcher.errors import CkptwatchError
from watcher.log import Log
from watcher.pipeline.isolation import Isolation
from watcher.state import commands
from watcher.state.folder import StateFolder
from watcher.store.engine import Store
from watcher.store.write import requests
from watcher.store.write.annotations import annotate, remove_annotation


def apply_order(store: Store, state: StateFolder, order: commands.Order) -> int:
    """Returns how many jobs, notes or tags changed."""
    if order.action == "pause":
        state.paused.touch()
        return 0
    if order.action == "resume":
        state.paused.unlink(missing_ok=True)
        return 0
    if order.annotation is not None:
        note, now = order.annotation, iso(time.time())
        if note.remove is not None:
            return int(remove_annotation(store, note.remove))
        return int(annotate(store, note.run, note.checkpoint_id, note.kind, note.text, now))
    return requests.change(store, order.action, order.jobs, iso(time.time()))


def apply_inbox(store: Store, state: StateFolder, log: Log, isolation: Isolation, now_s: float) -> None:
    """All waiting orders, oldest first. Raises StoreUnavailable; the order then waits in the inbox."""
    for path, order in commands.take(state.inbox):
        try:
            changed = apply_order(store, state, order)
        except CkptwatchError:
            raise
        except Exception as error:
            refused = state.root / "refused_orders"
            refused.mkdir(exist_ok=True)
            os.replace(path, refused / path.name)
            isolation.note(f"order {order.action}", error, now_s)
            log.event("order_refused", file=path.name, folder=os.fspath(refused), error=str(error)[:200])
            continue
        path.unlink(missing_ok=True)
        if order.action in ("pause", "resume"):
            log.event("queue_paused" if order.action == "pause" else "queue_resumed")
        elif order.annotation is not None:
            log.event("annotated", run=order.annotation.run, kind=order.annotation.kind or "removal", changed=changed)
        else:
            log.event("queue_changed", action=order.action, jobs=changed)
