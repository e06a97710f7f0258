"""Saving whole or not at all, and keeping a checkpoint from the trainer's own rotation."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import evalcore
from evalcore.archive import probe, summarise
from tests.support import checkpoints as make

ROOT = Path(__file__).resolve().parents[2]


def test_saved_checkpoint_is_complete_and_leaves_nothing_else(tmp_path):
    path = evalcore.save_checkpoint({"model": make.rosellm_state(), "step": 3}, tmp_path / "a.pt")
    assert summarise(path).step == 3 and [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_a_save_that_fails_leaves_the_earlier_one_as_it_was(tmp_path):
    path = evalcore.save_checkpoint({"step": 1}, tmp_path / "a.pt")
    before = path.read_bytes()
    with pytest.raises((AttributeError, TypeError, Exception), match=r"pickle|lambda|local"):
        evalcore.save_checkpoint({"step": 2, "bad": lambda: None}, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_a_reader_beside_a_saving_trainer_never_sees_a_part(tmp_path):
    path = tmp_path / "a.pt"
    evalcore.save_checkpoint({"w.weight": torch.zeros(20_000), "step": 0}, path)
    done = threading.Event()

    def trainer():
        for step in range(1, 40):
            evalcore.save_checkpoint({"w.weight": torch.full((20_000,), float(step)), "step": step}, path)
        done.set()

    thread = threading.Thread(target=trainer)
    thread.start()
    looks = 0
    while not done.is_set():
        probe(path)
        looks += 1
    thread.join()
    assert looks > 10 and summarise(path).step == 39


def test_a_trainer_killed_while_saving_leaves_the_earlier_checkpoint(tmp_path):
    code = (
        "import torch, evalcore, itertools, sys\n"
        "for step in itertools.count():\n"
        "    evalcore.save_checkpoint({'w.weight': torch.zeros(400_000), 'step': step}, sys.argv[1])\n"
        "    print(step, flush=True)\n"
    )
    path = tmp_path / "a.pt"
    trainer = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    for _ in range(5):
        trainer.stdout.readline()
    trainer.send_signal(signal.SIGKILL)
    trainer.wait()
    trainer.stdout.close()
    assert summarise(path).step >= 4
    assert all(p.name == "a.pt" or (p.name.startswith(".") and p.name.endswith(".tmp")) for p in tmp_path.iterdir())


def test_pinned_checkpoint_outlives_removal_and_replacement(tmp_path):
    path = make.save_rosellm(tmp_path / "a.pt", step=1)
    digest = probe(path).digest
    pin = evalcore.pin_checkpoint(path)
    evalcore.save_checkpoint({"model": make.rosellm_state(seed=1)}, path)
    assert probe(pin).digest == digest and Path(pin).parent.name == "pinned"
    path.unlink()
    assert probe(pin).digest == digest
    pin.release()
    assert not Path(pin).exists()


def test_a_copied_pin_outlives_a_rewrite_in_place_which_a_link_follows(tmp_path):
    path = make.save_rosellm(tmp_path / "a.pt", step=1)
    digest = probe(path).digest
    copied = evalcore.pin_checkpoint(path, tmp_path / "copies", copy=True)
    linked = evalcore.pin_checkpoint(path, tmp_path / "links")
    make.save_rosellm(path, step=2, seed=1)
    assert probe(copied).digest == digest and probe(linked).digest != digest
    assert sorted(p.name for p in (tmp_path / "copies").iterdir()) == ["a.pt"]


def test_pinning_twice_is_one_pin_and_another_content_gets_a_number(tmp_path):
    path = make.save_rosellm(tmp_path / "a.pt", step=1)
    first, again = evalcore.pin_checkpoint(path), evalcore.pin_checkpoint(path)
    assert first.path == again.path
    evalcore.save_checkpoint({"step": 2}, path)
    assert evalcore.pin_checkpoint(path).path.name == "a.1.pt"
    with evalcore.pin_checkpoint(path) as pin:
        assert summarise(pin).step == 2
    assert not os.path.exists(pin)


def test_pinning_what_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError):
        evalcore.pin_checkpoint(tmp_path / "gone.pt")
