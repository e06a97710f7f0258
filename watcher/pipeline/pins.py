"""Removes pinned copies that no job needs any more. Wires the spool to store/."""

from __future__ import annotations

from pathlib import Path

from watcher.detect.spool import Spool
from watcher.store.engine import Store
from watcher.store.write import pins


def release_pins(store: Store, folder: Path, max_bytes: int) -> None:
    """folder: this state folder's spool; copies of other hosts' daemons are left alone. Raises StoreUnavailable."""
    if not any(folder.iterdir()):
        return
    spool = Spool(folder, max_bytes)
    for checkpoint_id, recorded in pins.unneeded_pins(store):
        copy = spool.locate(recorded) or Path(recorded)
        if copy.is_relative_to(folder):
            pins.keep_pinned(store, checkpoint_id, None)
            spool.release(copy)
