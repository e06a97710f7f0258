"""What trainers really leave behind, evaluated with one command and no settings file; and a Trainer that rotates."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.checkpoints import save_rosellm
from tests.support.daemon import ROOT, Site, wait_until

TOKENS = [(7 * n) % 64 for n in range(200)]


def test_a_pth_trainer_and_a_hugging_face_trainer_under_one_parent_have_rows_by_one_command(tmp_path: Path) -> None:
    """Real torchrun. The folder's number is the one that transformers computes."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=64, n_positions=32)
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path / "runs" / "gpt2" / "checkpoint-10")
    (tmp_path / "runs" / "gpt2" / "checkpoint-10" / "trainer_state.json").write_text('{"global_step": 10}')
    (tmp_path / "runs" / "small" / "out").mkdir(parents=True)
    save_rosellm(tmp_path / "runs" / "small" / "out" / "model_pg_500.pth", step=500)
    (tmp_path / "val.bin").write_bytes(struct.pack("<200H", *TOKENS))
    command = [sys.executable, "-m", "watcher.cli", "run", "--dir", "runs/gpt2", "--dir", "runs/small/out", "--once"]
    command += [
        "--data",
        "val.bin",
        "--token-dtype",
        "uint16",
        "--seq-len",
        "32",
        "--device",
        "cpu",
        "--settle-s",
        "0.2",
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = sqlite3.connect(tmp_path / "ckptwatch.db").execute(
        "SELECT run, checkpoint, step, loss FROM results ORDER BY run"
    )
    (first, second) = rows.fetchall()
    assert first[:3] == ("gpt2", "checkpoint-10", 10) and second[:3] == ("small", "model_pg_500.pth", 500)
    nats = 0.0
    for at in range(0, 199, 32):
        end = min(at + 32, 199)
        logits = model(torch.tensor([TOKENS[at:end]])).logits[0].double()
        nats += torch.nn.functional.cross_entropy(
            logits, torch.tensor(TOKENS[at + 1 : end + 1]), reduction="sum"
        ).item()
    assert first[3] == pytest.approx(nats / 199, rel=1e-6)


def save_as_the_trainer_does(folder: Path, step: int) -> None:
    """Config, weights, the Trainer's arguments and optimizer, and trainer_state.json last."""
    from safetensors.torch import save_file

    place = folder / f"checkpoint-{step}"
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 4}))
    save_file({"wte.weight": torch.full((8, 4), float(step))}, place / "model.safetensors")
    (place / "training_args.bin").write_bytes(b"x")
    torch.save({"step": step}, place / "optimizer.pt")
    (place / "trainer_state.json").write_text(json.dumps({"global_step": step}))


def test_a_trainer_with_save_total_limit_2_gets_a_row_for_every_checkpoint(tmp_path: Path) -> None:
    """The daemon is killed once on the way, and every evaluation is slower than the trainer's rotation."""
    here = Site(tmp_path, rules=[{"match": "*", "pause_s": 0.5}])
    try:
        here.start()
        for number, step in enumerate(range(5, 35, 5), 1):
            save_as_the_trainer_does(here.folder, step)
            shutil.rmtree(here.folder / f"checkpoint-{step - 10}", ignore_errors=True)
            wait_until(lambda number=number: len(here.query("SELECT id FROM checkpoints")) >= number)
            if step == 15:
                wait_until(lambda: here.query("SELECT id FROM checkpoints WHERE step = 15 AND spool_path IS NOT NULL"))
                here.kill()
                here.start()
        rows = here.wait_for_results(6)
        assert sorted(rows) == sorted(f"checkpoint-{step}" for step in range(5, 35, 5))
        assert all(len(losses) == 1 for losses in rows.values()) and here.failures() == {}
        assert sorted(os.listdir(here.folder)) == ["checkpoint-25", "checkpoint-30"]
        wait_until(lambda: not os.listdir(here.state / "spool"))
        here.stop()
        here.assert_sound()
    finally:
        here.end()
