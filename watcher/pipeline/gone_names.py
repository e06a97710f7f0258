"""Removes rejections (of a FIFO, a link, an unreadable file) whose path no longer exists."""

from __future__ import annotations

import os
from collections.abc import Container

from watcher.settings.schema import RunSettings
from watcher.store.engine import Store
from watcher.store.write import rejections


def names_that_are_gone(store: Store, run: RunSettings, settling: Container[str]) -> set[str]:
    """Withdraw them in the store; returns their stored paths. settling: paths that are still waited for."""
    gone = set()
    for path in rejections.rejected_by_name(store, run.name):
        if "\\udc" in path or path in settling:
            continue  # the name itself is not UTF-8: it cannot be looked at from what is stored
        if not os.path.lexists(os.path.join(run.dir, path)):
            rejections.withdraw(store, run.name, path)
            gone.add(path)
    return gone
