"""What looks like a checkpoint and is none: said by the scan, the preview, `init` and `status`, never passed over."""

from __future__ import annotations

import json
import os
import shutil
import threading

import pytest
import torch
from safetensors.torch import save_file

from watcher.detect.events import FolderWatch
from watcher.detect.observation import Irregular
from watcher.domain.checkpoint import DEFAULT_INCLUDE, WITHOUT_WEIGHTS, NamePattern
from watcher.domain.passed_by import passed_by
from watcher.setup.discover import look_at

LINK = "a link to a folder outside the watched folder"


@pytest.fixture
def folder(tmp_path):
    """A link to a folder outside, a link to one inside, and two folders of an optimizer alone."""
    for place in (tmp_path / "elsewhere" / "checkpoint-7", tmp_path / "run" / "checkpoint-9"):
        place.mkdir(parents=True)
        save_file({"wte.weight": torch.zeros(8, 4)}, place / "model.safetensors")
        (place / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    os.symlink("../elsewhere/checkpoint-7", tmp_path / "run" / "checkpoint-7")
    os.symlink("checkpoint-9", tmp_path / "run" / "latest")
    for name, file in (("checkpoint-5", "optimizer.pt"), ("global_step6", "zero_pp_rank_0_mp_rank_00_optim_states.pt")):
        (tmp_path / "run" / name).mkdir()
        torch.save({}, tmp_path / "run" / name / file)
    return tmp_path / "run"


@pytest.mark.parametrize("include", [DEFAULT_INCLUDE, ("**/*.pt", "**/")])
def test_a_scan_says_links_to_folders_and_folders_without_weights(folder, include):
    report = FolderWatch(str(folder), NamePattern(include), 3600.0, threading.Event()).scan()
    seen = dict(report.observations)
    assert set(seen) == {"checkpoint-7", "checkpoint-9"} and isinstance(seen["checkpoint-7"], Irregular)
    assert LINK in seen["checkpoint-7"].reason and "ckptwatch eval" in seen["checkpoint-7"].reason
    assert report.ignored[WITHOUT_WEIGHTS] == 2 and report.ignored["a link to a watched file of the same folder"] == 1
    assert passed_by(report.ignored) == [f"2 {WITHOUT_WEIGHTS.replace('folder', 'folders')}"]


def test_init_and_the_preview_say_them(folder, ckptwatch, tmp_path, monkeypatch):
    assert look_at(folder).ignored[WITHOUT_WEIGHTS] == 2
    monkeypatch.chdir(tmp_path)
    (tmp_path / "val.bin").write_bytes(b"\1\0\2\0" * 50)
    said = ckptwatch("run", "--dir", folder, "--data", "val.bin", "--token-dtype", "uint16", "--dry-run", "--json")
    plans = {row["checkpoint"]: row["plan"] for row in said.json if row["checkpoint"]}
    assert LINK in plans["checkpoint-7"] and plans["checkpoint-9"] == "would be evaluated"
    assert any("2 folders of a step without weights" in row["plan"] for row in said.json)
    shutil.rmtree(folder / "checkpoint-9")
    os.unlink(folder / "latest")
    said = ckptwatch("init", folder, "--yes")
    assert "2 folders of a step without weights" in said.err and "a link to a checkpoint folder" in said.err
