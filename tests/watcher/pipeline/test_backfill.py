"""`backfill`: what lay in the folder before the first start is left aside, and nothing else is."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from evalcore.messages import EvalSetSpec, ModelSpec
from tests.support.checkpoints import save_rosellm
from watcher.detect.spool import Spool
from watcher.domain.timestamps import iso
from watcher.log import Log
from watcher.pipeline.intake import Intake
from watcher.settings.schema import RunSettings
from watcher.store.migrate import open_for_writing
from watcher.store.write.round_robin import waiting_steps


class World:
    """A folder, a database, and one run's intake, ticked by hand; scans come only at the start."""

    def __init__(self, root: Path, backfill: str) -> None:
        self.folder = root / "gpt"
        self.folder.mkdir()
        (root / "spool").mkdir()
        self.store = open_for_writing(os.fspath(root / "r.db"))
        run = RunSettings(name="gpt", dir=self.folder, backfill=backfill, settle_s=0.05, scan_s=3600)
        self.wake = threading.Event()
        self.intake: Intake
        spool, sets = Spool(root / "spool", 1 << 30), [(EvalSetSpec("val", ("val.npy",)), "sha256:1")]
        self.begin = lambda: Intake.begin(run, self.store, spool, Log(0), self.wake.set, ModelSpec(), sets)

    def save(self, step: int) -> None:
        path = save_rosellm(self.folder / f"step_{step}.pt", step=step, seed=step)
        os.utime(path, (1_760_000_000 + step, 1_760_000_000 + step))

    def tick_until_registered(self, count: int) -> None:
        deadline_s = time.monotonic() + 60
        while self.intake.registered < count or not self.intake.idle():
            assert time.monotonic() < deadline_s, "the files were never registered"
            self.intake.tick(time.monotonic())
            self.wake.wait(0.02)
            self.wake.clear()

    def queued(self) -> list[int]:
        return sorted(waiting_steps(self.store, "gpt", iso(time.time())))


@pytest.mark.parametrize(("backfill", "at_once"), [("all", [1, 2, 3]), ("latest", [3]), ("none", [])])
def test_the_first_scan_decides_what_is_left_aside(tmp_path, backfill, at_once):
    world = World(tmp_path, backfill)
    for step in (1, 2, 3):
        world.save(step)
    world.intake = world.begin()
    try:
        world.tick_until_registered(3)
        assert world.queued() == at_once
        world.save(4)  # long before a second scan
        world.tick_until_registered(4)
        assert world.queued() == [*at_once, 4]
        save_rosellm(world.folder / "step_1.pt", step=1, seed=99)  # rewritten by now, so new
        world.tick_until_registered(5)
        assert set(world.queued()) == {*at_once, 1, 4}
    finally:
        world.intake.stop()
        world.store.close()
