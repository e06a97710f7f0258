"""Folders that are checkpoints, on a real disk: found by event or scan, settled when complete, pinned as a whole."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from evalcore.archive import summarise
from tests.support import checkpoints
from tests.watcher.detect.test_scan import Folder
from watcher.detect import scan as scan_module
from watcher.detect.events import FolderWatch
from watcher.detect.observation import Irregular, fingerprint_at, look
from watcher.detect.settle import Settler
from watcher.detect.spool import NotPinned, Spool
from watcher.domain.checkpoint import DEFAULT_INCLUDE, NamePattern

CONFIG = {"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 4, "vocab_size": 8, "n_positions": 8}


def save_pretrained(folder: Path, value: float = 0.0, shards: int = 1) -> Path:
    """As transformers leaves it: config.json, then the weights, then the index where they are sharded."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    tensors = {f"t{n}": torch.full((2, 2), value + n) for n in range(shards)}
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    names = {key: f"model-{n + 1:05d}-of-{shards:05d}.safetensors" for n, key in enumerate(tensors)}
    for key, name in names.items():
        save_file({key: tensors[key]}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    (tmp_path / "out").mkdir()
    watched = Folder(tmp_path / "out", include=DEFAULT_INCLUDE)
    watched.until(lambda: watched.prober.scans)
    yield watched
    watched.watch.stop()


def test_a_trainer_s_folder_is_one_checkpoint_and_complete_with_its_last_file(folder: Folder) -> None:
    place = save_pretrained(folder.root / "checkpoint-500")
    (place / "training_args.bin").write_bytes(b"x")
    torch.save({}, place / "optimizer.pt")
    folder.until(lambda: folder.rejections)
    assert (folder.rejections[0].path, folder.rejections[0].final) == ("checkpoint-500", False)
    assert "trainer_state.json, which the Trainer writes last" in folder.rejections[0].reason
    (place / "trainer_state.json").write_text('{"global_step": 512}')
    folder.until(lambda: folder.settled)
    assert folder.paths() == ["checkpoint-500"]  # and no file of it
    assert folder.settled[0].step.value == 512 and folder.settled[0].name_step.value == 500


def test_a_folder_renamed_into_place_is_one_checkpoint_under_its_final_name(folder: Folder) -> None:
    save_pretrained(folder.root / "tmp-checkpoint-500")
    folder.until(lambda: not folder.watch.hints.qsize())
    os.rename(folder.root / "tmp-checkpoint-500", folder.root / "checkpoint-500")
    folder.until(lambda: folder.settled)
    assert folder.paths() == ["checkpoint-500"] and not folder.rejections


def test_a_folder_that_is_a_candidate_goes_on_under_its_new_name(folder: Folder) -> None:
    save_pretrained(folder.root / "saving")
    folder.until(lambda: "saving" in folder.prober.settler.candidates)
    os.rename(folder.root / "saving", folder.root / "step-5")
    folder.until(lambda: folder.settled)
    assert folder.paths() == ["step-5"] and not folder.rejections


def test_one_rewritten_shard_is_another_version_of_the_folder(folder: Folder) -> None:
    place = save_pretrained(folder.root / "latest", shards=2)
    folder.until(lambda: folder.settled)
    save_file({"t1": torch.full((2, 2), 9.0)}, place / "model-00002-of-00002.safetensors")
    folder.until(lambda: len(folder.settled) == 2)
    first, second = folder.settled
    assert (first.path, second.path) == ("latest", "latest")
    assert first.summary.digest != second.summary.digest and first.fingerprint != second.fingerprint


def test_a_missing_shard_is_named_and_given_up_with_that_reason_in_the_end(tmp_path: Path) -> None:
    place = save_pretrained(tmp_path / "out" / "step-5", shards=3)
    (place / "model-00002-of-00003.safetensors").unlink()
    watched = Folder(tmp_path / "out", include=DEFAULT_INCLUDE)
    watched.prober.settler = Settler(0.1, 0.3)
    watched.until(lambda: any(rejection.final for rejection in watched.rejections))
    watched.watch.stop()
    assert [rejection.kind for rejection in watched.rejections] == ["incomplete", "corrupt"]
    assert all("lacks model-00002-of-00003.safetensors" in rejection.reason for rejection in watched.rejections)


def test_a_registered_folder_that_is_deleted_file_by_file_is_no_failure(folder: Folder) -> None:
    place = save_pretrained(folder.root / "checkpoint-5", shards=3)
    folder.until(lambda: folder.settled)
    for name in ("config.json", "model-00001-of-00003.safetensors"):
        (place / name).unlink()
    folder.until(lambda: "checkpoint-5" in folder.prober.settler.candidates)
    shutil.rmtree(place)
    scans = folder.prober.scans
    folder.watch.scan_soon()
    folder.until(lambda: folder.prober.scans > scans and not folder.prober.settler.candidates)
    assert len(folder.settled) == 1 and not [rejection for rejection in folder.rejections if rejection.final]


def test_folders_of_one_file_settle_with_what_describes_the_model(folder: Folder) -> None:
    place = folder.root / "step-00000040"
    place.mkdir()
    saved = checkpoints.save_rosellm(place / "lit_model.pth", step=40)
    folder.until(lambda: folder.rejections)
    assert "model_config.yaml, which litgpt writes last" in folder.rejections[0].reason
    (place / "model_config.yaml").write_text("n_layer: 2\n")
    folder.until(lambda: folder.settled)
    assert (folder.paths(), folder.settled[0].summary.format) == (["step-00000040"], "litgpt-folder")
    assert folder.settled[0].summary.digest != summarise(saved).digest


@pytest.mark.parametrize(
    ("include", "taken", "passed"),
    [
        (DEFAULT_INCLUDE, ["a.pt", "checkpoint-5", "model.safetensors"], [".bin file", ".pt file in subfolders"]),
        (("checkpoint-*",), ["checkpoint-5"], [".bin file", ".pt file", ".pt file in subfolders", ".safetensors file"]),
        (("*.pt",), ["a.pt"], [".bin file", ".pt file in subfolders", ".safetensors file", "Hugging Face folder"]),
        (("**/*.pt", "b*.bin"), ["a.pt", "b.bin", "exp/c.pt"], [".safetensors file", "Hugging Face folder"]),
    ],
)
def test_globs_match_the_folder_and_never_what_is_in_it(tmp_path, include, taken, passed) -> None:
    save_pretrained(tmp_path / "checkpoint-5")
    save_pretrained(tmp_path)
    (tmp_path / "exp").mkdir()
    for name in ("a.pt", "b.bin", "val.bin", "exp/c.pt", "checkpoint-5/x.pt", "checkpoint-5/optimizer.pt"):
        (tmp_path / name).write_bytes(b"x")
    report = FolderWatch(str(tmp_path), NamePattern(include), 3600.0, threading.Event()).scan()
    assert sorted(path for path, _ in report.observations) == taken
    assert sorted(why.partition(", not taken")[0] for why in report.ignored) == passed


def test_globs_that_name_the_file_in_a_folder_take_the_file_as_before(tmp_path) -> None:
    (tmp_path / "step_5").mkdir()
    (tmp_path / "step_5" / "model.pt").write_bytes(b"x")
    for include, path in ((("**/*.pt",), "step_5/model.pt"), (("*/",), "step_5"), (("**/*.pt", "*/"), "step_5")):
        report = FolderWatch(str(tmp_path), NamePattern(include), 3600.0, threading.Event()).scan()
        assert [path for path, _ in report.observations] == [path]


def test_a_folder_that_is_no_checkpoint_is_listed_again_only_when_it_changed(tmp_path, monkeypatch) -> None:
    for n in range(3):
        (tmp_path / f"logs{n}").mkdir()
        (tmp_path / f"logs{n}" / "x.bin").write_bytes(b"x")
        os.utime(tmp_path / f"logs{n}", (1e9, 1e9))
    watch = FolderWatch(str(tmp_path), NamePattern(DEFAULT_INCLUDE), 3600.0, threading.Event())
    counts = []
    listed = scan_module.os.scandir
    monkeypatch.setattr(scan_module.os, "scandir", lambda fd: counts.append(fd) or listed(fd))
    for expected in (4, 1):
        counts.clear()
        assert watch.scan().ignored == {".bin file in subfolders, not taken by `include`": 3}
        assert len(counts) == expected
    save_pretrained(tmp_path / "logs1")
    assert [path for path, _ in watch.scan().observations] == ["logs1"]


def test_a_link_to_a_folder_is_never_evaluated_itself(tmp_path) -> None:
    save_pretrained(tmp_path / "out" / "step-5")
    save_pretrained(tmp_path / "elsewhere")
    (tmp_path / "out" / "latest.pt").symlink_to("step-5")
    (tmp_path / "out" / "away.pt").symlink_to(tmp_path / "elsewhere")
    root, pattern = str(tmp_path / "out"), NamePattern(DEFAULT_INCLUDE)
    alias, away = look(root, "latest.pt", pattern), look(root, "away.pt", pattern)
    assert isinstance(alias, Irregular) and alias.alias
    assert isinstance(away, Irregular) and away.reason.startswith("a link to a folder outside the watched folder")


def test_a_folder_is_pinned_as_a_whole_without_the_optimizer(tmp_path) -> None:
    place = save_pretrained(tmp_path / "checkpoint-5", shards=2)
    (place / "trainer_state.json").write_text('{"global_step": 5}')
    (place / "tokenizer.json").write_text("{}")
    torch.save({}, place / "optimizer.pt")
    (tmp_path / "spool").mkdir()
    spool, version, digest = Spool(tmp_path / "spool", 1 << 20), fingerprint_at(str(place)), summarise(place).digest
    copy = spool.pin(str(place), "1-a", digest, version.size_bytes)
    shutil.rmtree(place)
    assert summarise(copy).digest == digest and summarise(copy).step == 5
    assert (copy / "tokenizer.json").exists() and not (copy / "optimizer.pt").exists()
    assert spool.used_bytes() >= version.size_bytes and spool.locate(str(copy)) == copy
    with pytest.raises(NotPinned, match="it was deleted before it was copied"):
        spool.pin(str(place), "2-a", digest, version.size_bytes)
    (tmp_path / "spool" / "9-left.1.tmp").mkdir()
    spool.sweep({str(copy)})
    assert os.listdir(tmp_path / "spool") == ["1-a"]
    spool.release(copy)
    assert not copy.exists()
