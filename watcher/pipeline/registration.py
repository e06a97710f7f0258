"""From a settled file to the row that is registered: names, steps, digests, time of observation.

Pure but for the model digest's inputs, which the caller has read.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass

from evalcore.archive import Summary
from evalcore.archive.model_digest import model_digest
from evalcore.messages import ModelSpec
from watcher.detect.probe import SettledFile
from watcher.domain.checkpoint import Fingerprint, stored
from watcher.domain.timestamps import iso
from watcher.store.write.checkpoints import PLAIN_SETTINGS, NewCheckpoint


def settings_digest(model: ModelSpec) -> str:
    """Of the `[model]` settings: a version registered under others is registered anew."""
    values = {name: getattr(model, name) for name in ("factory", "factory_digest", "config", "state")}
    if not any(values.values()):
        return PLAIN_SETTINGS
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), default=str)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def as_checkpoint(
    settled: SettledFile, path: str, skipped: str | None, model: ModelSpec, observed_at: str | None = None
) -> NewCheckpoint:
    """What is registered of a file. path: relative to the run's folder. skipped: why it is not evaluated."""
    summary: Summary = settled.summary
    shown = stored(path)
    notes = [summary.note] if summary.note else []
    name_step = settled.name_step.value if settled.name_step.source == "name" else None
    if summary.step is not None and name_step is not None and name_step != summary.step:
        notes.append(f"the file says step {summary.step}, its name {name_step}")
    return NewCheckpoint(
        path=shown,
        raw_path=os.fsencode(path) if shown != path else None,
        digest=summary.digest,
        format=summary.format,
        fingerprint=settled.fingerprint,
        family=summary.family,
        parameters=summary.parameters,
        step=settled.step.value,
        step_source=settled.step.source,
        payload_step=summary.step,
        name_step=settled.name_step.value,
        tokens_seen=summary.tokens_seen,
        logged_val_loss=summary.logged_val_loss,
        config=json.dumps(summary.config, default=str)[: 1 << 16] if summary.config else None,
        note="; ".join(notes) or None,
        skipped=skipped,
        model_digest=model_digest(summary, model),
        model_settings=settings_digest(model),
        assumed="; ".join(summary.assumed) or None,
        sidecars=json.dumps([name for name, _ in summary.sidecars]) if _depends_on_others(summary) else None,
        observed_at=observed_at,
    )


def _depends_on_others(summary: Summary) -> bool:
    """Its configuration comes from a file beside it, or would if there were one. A folder's files are its own."""
    if summary.is_folder:
        return False
    return bool(summary.sidecars) or not summary.config


@dataclass(frozen=True)
class Observation:
    """When versions appeared at their paths. started_ns: of the watch; looked_at: when the folder was last known."""

    started_ns: int
    looked_at: str

    def time_of(self, fingerprint: Fingerprint) -> str | None:
        """None: now. What lay there before the watch began came after the last look, and no later than it was written:
        a backlog is in order of its mtimes, and never older than what was observed before."""
        if fingerprint.ctime_ns >= self.started_ns:
            return None
        return max(self.looked_at, iso(max(fingerprint.mtime_ns, 0) / 1e9))


@dataclass
class SidecarWatch:
    """The files beside registered checkpoints that their configuration comes from, as they were then."""

    root: str
    _stamps: dict[str, tuple[Fingerprint, tuple[str, ...], tuple[int, ...]]]

    @classmethod
    def of(cls, root: str) -> SidecarWatch:
        return cls(root, {})

    def remember(self, path: str, fingerprint: Fingerprint, summary: Summary) -> None:
        if _depends_on_others(summary):
            names = tuple(name for name, _ in summary.sidecars)
            self._stamps[path] = (fingerprint, names, self._stamp(path, names))
        else:
            self._stamps.pop(path, None)

    def changed(self) -> list[tuple[str, Fingerprint]]:
        """Checkpoints whose sidecar files were written, removed or added since."""
        return [
            (path, fingerprint)
            for path, (fingerprint, names, stamp) in list(self._stamps.items())
            if self._stamp(path, names) != stamp
        ]

    def _stamp(self, path: str, names: tuple[str, ...]) -> tuple[int, ...]:
        folder = os.path.dirname(os.path.join(self.root, path))
        stamp = []
        for place in [os.path.join(folder, name) for name in names] or [folder]:
            try:
                status = os.stat(place)
                stamp += [status.st_size if names else 0, status.st_mtime_ns, status.st_ctime_ns]
            except OSError:
                stamp.append(-1)
        return tuple(stamp)
