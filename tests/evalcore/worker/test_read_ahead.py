"""In a backlog the next file is read into the page cache: only what its model needs, only where memory is spare."""

import os
import signal

import numpy as np
import pytest
import torch

from evalcore.archive.container.source import OpenFile
from evalcore.loading.checkpoint import load_checkpoint
from evalcore.measure.evaluate import evaluate
from evalcore.messages import AttemptRequest, EvalSetSpec, Item, Member, ModelSpec
from evalcore.worker import read_ahead
from evalcore.worker.read_ahead import ReadAhead, needed_ranges, spare_bytes
from tests.support.checkpoints import ROSELLM, rosellm_state, save_rosellm
from tests.support.launches import Launch
from tests.support.models import tokens_for


def item_of(path, **more):
    return Item(os.fspath(path), "", 0, (AttemptRequest(1, "t", "val"),), **more)


@pytest.fixture
def advised(monkeypatch):
    """Bytes that the kernel was asked to read, by (offset, size)."""
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, offset, size, advice: asked.append((offset, size)))
    return asked


def read_ahead_of(item):
    ahead = ReadAhead(ModelSpec())
    ahead.begin(item)
    if ahead._thread is not None:
        ahead._thread.join(30)


def test_the_records_of_the_model_are_asked_for_and_not_those_of_the_optimizer(tmp_path, advised):
    path = save_rosellm(tmp_path / "a.pt")
    read_ahead_of(item_of(path))
    model = {t.data_ptr(): t.untyped_storage().nbytes() for t in torch.load(path)["model"].values()}
    assert sum(size for _, size in advised) == sum(model.values()) < path.stat().st_size / 2
    data = path.read_bytes()
    first = rosellm_state(ROSELLM)["token_embedding.weight"].numpy().tobytes()
    assert any(data[offset : offset + size] == first for offset, size in advised)


def test_where_memory_is_not_spare_nothing_is_read_ahead(tmp_path, advised, monkeypatch):
    path = save_rosellm(tmp_path / "a.pt")
    with OpenFile(path) as file:
        needed = sum(size for _, size in needed_ranges(file, None, ModelSpec()))
    for spare, asked in ((2 * needed - 1, False), (2 * needed, True)):
        monkeypatch.setattr(read_ahead, "spare_bytes", lambda spare=spare: spare)
        read_ahead_of(item_of(path))
        assert bool(advised) == asked


def test_what_cannot_be_read_ahead_is_left_to_its_load(tmp_path, advised):
    (tmp_path / "broken.pt").write_bytes(b"no checkpoint")
    os.mkfifo(tmp_path / "pipe.pt")
    for name in ("gone.pt", "pipe.pt", "."):
        read_ahead_of(item_of(tmp_path / name))
    read_ahead_of(None)
    read_ahead_of(item_of(save_rosellm(tmp_path / "a.pt"), members=(Member("a", "", 0, 1.0),)))
    assert advised == []


def test_spare_memory_is_that_of_the_machine_or_of_the_tightest_control_group(tmp_path):
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    (proc / "self/cgroup").write_text("0::/a/b\n")
    (groups / "a/b").mkdir(parents=True)
    assert spare_bytes(proc, groups) == 8000 << 10
    for name, limit in (("a", "5000000"), ("a/b", "max")):
        (groups / name / "memory.max").write_text(f"{limit}\n")
        (groups / name / "memory.current").write_text("4500000\n")
        (groups / name / "memory.stat").write_text("anon 1\ninactive_file 1000000\n")
    assert spare_bytes(proc, groups) == 1_500_000
    (proc / "self/cgroup").write_text("9:memory:/c\n3:cpu:/x\n")
    (groups / "memory/c").mkdir(parents=True)
    for name, value in (("limit_in_bytes", 3_000_000), ("usage_in_bytes", 2_900_000)):
        (groups / f"memory/c/memory.{name}").write_text(f"{value}\n")
    (groups / "memory/c/memory.stat").write_text("total_inactive_file 50000\n")
    assert spare_bytes(proc, groups) == 150_000


def test_killed_while_the_next_file_is_read_ahead_nothing_is_lost_and_only_the_first_attempt_is_charged(tmp_path):
    """The order is that of the failpoints: the second file is read ahead while the first is evaluated."""
    np.save(tmp_path / "val.npy", tokens_for(300, 64))
    launch = Launch(tmp_path / "L", [EvalSetSpec("val", (str(tmp_path / "val.npy"),))])
    paths = [save_rosellm(tmp_path / f"step_{i}.pt", seed=i, step=i) for i in (1, 2)]
    for path in paths:
        launch.add(path)
    assert launch.drain(failpoint="read_ahead:kill9,mid_eval:hang") == -signal.SIGKILL
    assert launch.started() == [1] and launch.outcomes() == {}
    assert launch.drain(failpoint="read_ahead:hang") == 0, "an evaluation never waits for the reading"
    found = launch.outcomes()
    for attempt, path in enumerate(paths, 1):
        expected = evaluate(load_checkpoint(path).model, tokens_for(300, 64)).loss
        assert found[attempt].measurement.loss == pytest.approx(expected, rel=1e-9)
