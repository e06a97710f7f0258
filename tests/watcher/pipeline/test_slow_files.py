"""Files that are slow to probe: the watchdog hears of every one, and a tick ends after a while."""

from __future__ import annotations

import time

from evalcore.progress import Progress
from tests.support.tiny import write_tiny
from tests.watcher.pipeline.test_backfill import World
from watcher.pipeline import intake


def test_a_tick_reports_before_every_probe_and_leaves_the_rest_to_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "PROBING_MAX_S", 0.0)
    world = World(tmp_path, "all")
    for step in range(5):
        write_tiny(world.folder / f"step_{step}.pt", step)
    reports: list[Progress] = []
    world.intake = world.begin()
    world.intake.report = reports.append
    try:
        deadline_s = time.monotonic() + 60
        while world.intake.registered < 5:
            assert time.monotonic() < deadline_s
            before = world.intake.registered
            reports.clear()
            world.intake.tick(time.monotonic())
            assert world.intake.registered - before <= 1, "one probe was as much as the tick had time for"
            probing = [work for work in reports if work.phase == "probing"]
            assert len(probing) >= world.intake.registered - before
            world.wake.wait(0.02)
    finally:
        world.intake.stop()
        world.store.close()


def test_a_path_that_is_copied_again_is_new_work_with_its_own_start(tmp_path):
    world = World(tmp_path, "all")
    world.intake = world.begin()
    reports: list[Progress] = []
    world.intake.report = reports.append
    try:
        for done in (1, 2, 4):  # the first copy, in three reports
            world.intake.show_work("copying", "ckpt.pt", done, 4)
        for done in (2, 4):  # the next version under the same name
            world.intake.show_work("copying", "ckpt.pt", done, 4)
    finally:
        world.intake.stop()
    starts = [report.since for report in reports]
    assert starts[0] == starts[1] == starts[2]
    assert starts[3] == starts[4] == reports[3].at > starts[2]
