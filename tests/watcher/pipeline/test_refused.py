"""Refused is not lost: a version refused as `unsupported` keeps its pinned copy, and new [model] settings use it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.checkpoints import save_bare
from tests.support.daemon import Site
from tests.support.database import Database
from watcher.detect.spool import Spool
from watcher.pipeline.pins import make_room, release_pins
from watcher.store.migrate import open_for_writing

FACTORY = "def make(config, state):\n    return None\n"


@pytest.fixture
def here(tmp_path):
    site = Site(tmp_path, run={"pin": "always"}, rules=[{"match": "*", "do": "fail", "kind": "unsupported"}])
    yield site
    site.end()


def test_a_file_refused_and_rotated_away_is_evaluated_once_a_factory_is_there(here: Site) -> None:
    import torch

    for step in (1, 2):
        save_bare(here.folder / f"step_{step}.pt", {"encoder.weight": torch.full((3, 3), float(step))})
    here.start()
    here.wait_for_job("failed", 2)
    here.stop()
    (here.folder / "step_1.pt").unlink()  # its trainer keeps one file
    assert len(os.listdir(here.state / "spool")) == 2
    (here.root / "mine.py").write_text(FACTORY)
    here.rules = []
    here.configure()
    with open(here.config, "a") as config:
        config.write(f'\n[model]\nfactory = "mine:make"\npython_path = ["{here.root}"]\n')
    here.start()
    rows = here.wait_for_results(2)
    assert sorted(rows) == ["step_1.pt", "step_2.pt"] and [len(losses) for losses in rows.values()] == [1, 1]
    assert "step_1.pt  from its pinned copy" in here.log()
    assert here.failures() == {}
    here.stop()
    here.assert_sound()


def test_refused_copies_give_way_to_new_ones_the_oldest_first_and_after_those_that_nothing_needs(
    tmp_path: Path,
) -> None:
    database, folder = Database(tmp_path / "r.db"), tmp_path / "spool"
    folder.mkdir()
    database.run(folder=tmp_path)
    database.eval_set()
    kinds = ("unsupported", None, "unsupported", "corrupt")
    for number, kind in enumerate(kinds, 1):
        copy = folder / f"{number}-a.pt"
        copy.write_bytes(bytes(8192))
        of = database.checkpoint(number, spool_path=str(copy))
        database.job(of, **({"state": "failed", "kind": kind} if kind else {"state": "succeeded"}))
    store = open_for_writing(str(tmp_path / "r.db"))
    left = lambda: sorted(path.name for path in folder.iterdir())  # noqa: E731
    make_room(store, Spool(folder, 40_000), 4096)
    assert left() == ["1-a.pt", "2-a.pt", "3-a.pt", "4-a.pt"]  # it fits beside all of them
    make_room(store, Spool(folder, 32_768), 8192)
    assert left() == ["1-a.pt", "3-a.pt", "4-a.pt"]  # the evaluated one first
    release_pins(store, folder, 1 << 20)
    assert left() == ["1-a.pt", "3-a.pt"]
    make_room(store, Spool(folder, 16_384), 8192)
    assert left() == ["3-a.pt"]
    store.close()
