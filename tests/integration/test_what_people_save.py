"""What trainers really leave behind, evaluated with one command and no settings file; and a Trainer that rotates."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch

from evalcore.archive import summarise
from tests.support.checkpoints import save_nanogpt, save_rosellm
from tests.support.daemon import ROOT, Site, wait_until
from watcher.detect.spool import Spool

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
    with closing(sqlite3.connect(tmp_path / "ckptwatch.db")) as database:
        (first, second) = database.execute("SELECT run, checkpoint, step, loss FROM results ORDER BY run").fetchall()
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


def test_folders_of_litgpt_deepspeed_and_fsdp_are_found_pinned_and_evaluated_once_each(tmp_path: Path) -> None:
    """Written file by file into their final place; what lies beside them (latest, zero_to_fp32.py) is no checkpoint."""
    here = Site(tmp_path, run={"pin": "always"})
    try:
        here.start()
        for step in (10, 20):
            place = here.folder / f"global_step{step}"
            place.mkdir()
            save_nanogpt(place / "mp_rank_00_model_states.pt", step=step, seed=step)
            torch.save({"optimizer_state_dict": {}}, place / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt")
            (here.folder / "latest").write_text(place.name)
            (here.folder / "zero_to_fp32.py").write_text("# DeepSpeed's script\n")
            place = here.folder / f"step-{step + 100:08d}"
            place.mkdir()
            save_nanogpt(place / "lit_model.pth", step=step, seed=step + 100)
            (place / "model_config.yaml").write_text("name: tiny\nn_layer: 2\n")
            place = here.folder / f"step_{step + 200}"
            place.mkdir()
            save_nanogpt(place / "pytorch_model_fsdp.bin", step=step, seed=step + 200)
            torch.save({"step": step}, place / "optimizer.bin")
        rows = here.wait_for_results(6)
        names = ["global_step10", "global_step20", "step-00000110", "step-00000120", "step_210", "step_220"]
        assert sorted(rows) == names and all(len(losses) == 1 for losses in rows.values()) and here.failures() == {}
        assert len(here.query("SELECT DISTINCT digest FROM checkpoints")) == 6
        spool = Spool(tmp_path / "copies", 1 << 30)
        spool.folder.mkdir()
        for name in names:  # a pinned copy is the same version, without the optimizer
            digest = summarise(here.folder / name).digest
            copy = spool.pin(str(here.folder / name), name, digest, 1 << 20)
            assert summarise(copy).digest == digest and not list(copy.glob("*optim*"))
        here.stop()
        here.assert_sound()
    finally:
        here.end()
