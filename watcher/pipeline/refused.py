"""Versions that were refused as `unsupported` and are gone from their path: queued again from their pinned copy when
the `[model]` settings change.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from evalcore.archive import ArchiveError, summarise
from evalcore.messages import ModelSpec
from watcher.detect.observation import fingerprint_at
from watcher.detect.probe import settled_file
from watcher.detect.spool import Spool
from watcher.domain.checkpoint import Fingerprint
from watcher.domain.timestamps import iso
from watcher.log import Log
from watcher.pipeline.registration import as_checkpoint, settings_digest
from watcher.settings.schema import RunSettings
from watcher.store.engine import Store
from watcher.store.write import checkpoints, pins
from watcher.store.write.eval_sets import EvalSetRow


def revive_refused(
    store: Store, run: RunSettings, spool: Spool, model: ModelSpec, sets: Sequence[EvalSetRow], log: Log
) -> None:
    """What is still at its path is found by the scan. Raises StoreUnavailable."""
    for row in pins.refused_under_other_settings(store, run.name, settings_digest(model)):
        copy = spool.locate(row.spool_path)
        path = os.fsdecode(row.raw_path) if row.raw_path is not None else row.path
        original = os.path.join(run.dir, path)
        version = Fingerprint(*(getattr(row, name) for name in Fingerprint._fields))
        if copy is None or _is_at(original, version):
            continue
        try:
            summary = summarise(copy, path=original)
        except (ArchiveError, OSError):
            continue  # the copy is damaged: the refusal stands
        new = as_checkpoint(settled_file(path, version, summary), path, None, model)
        if checkpoints.adopt_model(store, run.name, row.id, new, sets, iso(time.time())):
            log.event("revived", run=run.name, path=path)


def _is_at(path: str, version: Fingerprint) -> bool:
    try:
        return fingerprint_at(path) == version
    except (OSError, ValueError):
        return False
