"""Copies registered versions of one run to the spool while its trainer may overwrite or delete them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from watcher.detect.probe import SettledFile
from watcher.detect.spool import NotPinned, Spool, should_pin
from watcher.failpoints import failpoint
from watcher.log import Log
from watcher.pipeline.pins import make_room
from watcher.settings.schema import RunSettings
from watcher.store.engine import Store
from watcher.store.write import pins
from watcher.store.write.checkpoints import Registered


@dataclass(frozen=True)
class Pinning:
    """show_work: gets phase, path, bytes done and in all."""

    run: RunSettings
    store: Store
    spool: Spool
    log: Log
    show_work: Callable[[str, str, int, int], None]

    def pin(self, item: SettledFile, registered: Registered, *, rotates: bool, kept: int) -> None:
        """Copy the version where the policy wants it, and note where the copy is. Raises StoreUnavailable."""
        if not registered.queued or not should_pin(
            self.run.pin, rotates=rotates, overwritten=registered.overwrote, kept=kept
        ):
            if registered.changed:  # an older copy of this version is of the bytes before
                pins.keep_pinned(self.store, registered.id, None)
            return
        failpoint("before_pin")
        source = os.path.join(self.run.dir, item.path)
        version = f"{registered.id}-{item.fingerprint.ctime_ns:x}"
        show_work = partial(self.show_work, "copying", item.path)
        make_room(self.store, self.spool, item.fingerprint.size_bytes)
        try:
            copy = self.spool.pin(source, version, item.summary.digest, item.fingerprint.size_bytes, show_work)
        except NotPinned as error:
            if registered.changed:
                pins.keep_pinned(self.store, registered.id, None)
            self.log.event("not_pinned", run=self.run.name, path=item.path, reason=str(error))
        else:
            pins.keep_pinned(self.store, registered.id, os.fspath(copy))
            self.log.event("pinned", run=self.run.name, path=item.path)
