"""Removes pinned copies that no job needs any more, and those of refused versions where there is no room.

Wires the spool to store/.
"""

from __future__ import annotations

from pathlib import Path

from watcher.detect.spool import Spool
from watcher.store.engine import Store
from watcher.store.write import pins


def release_pins(store: Store, folder: Path, max_bytes: int) -> None:
    """folder: this state folder's spool; copies of other hosts' daemons are left alone. Raises StoreUnavailable."""
    if not folder.is_dir() or not any(folder.iterdir()):  # pinning makes the folder again
        return
    spool = Spool(folder, max_bytes)
    for checkpoint_id, recorded in pins.unneeded_pins(store):
        _release(store, spool, checkpoint_id, recorded)


def make_room(store: Store, spool: Spool, size_bytes: int) -> None:
    """Release copies that nothing waits for until `size_bytes` more fit: the refused ones last, the oldest first.

    Raises StoreUnavailable.
    """
    if spool.used_bytes() + size_bytes <= spool.max_bytes:
        return
    for question in (pins.unneeded_pins, pins.refused_pins):
        for checkpoint_id, recorded in question(store):
            if spool.used_bytes() + size_bytes <= spool.max_bytes:
                return
            _release(store, spool, checkpoint_id, recorded)


def _release(store: Store, spool: Spool, checkpoint_id: int, recorded: str) -> None:
    copy = spool.locate(recorded) or Path(recorded)
    if copy.is_relative_to(spool.folder):
        pins.keep_pinned(store, checkpoint_id, None)
        spool.release(copy)
