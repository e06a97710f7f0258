"""A model that is not the one that was trained: the logged loss contradicts ours, and every surface says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evalcore.logged_loss import contradicts_log
from tests.support.checkpoints import save_nanogpt

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = """
[[run]]
dir = "out"

[[eval]]
data = "val.bin"

[launch]
device = "cpu"

[[alert]]
on = ["logged_loss"]
command = ["sh", "-c", "cat >> alerts.jsonl"]
"""


def test_a_fork_whose_logged_loss_contradicts_ours_is_warned_about_everywhere(tmp_path):
    """Two files log 3.25; random weights over 64 tokens give about ln 64 = 4.16."""
    (tmp_path / "out").mkdir()
    for step in (10, 20):
        save_nanogpt(tmp_path / f"out/ckpt_{step}.pt", step=step, seed=step)
    np.random.default_rng(0).integers(0, 64, 500).astype(np.uint16).tofile(tmp_path / "val.bin")
    (tmp_path / "ckptwatch.toml").write_text(SETTINGS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def verb(*arguments: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "watcher.cli", *arguments]
        return subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=170)

    done = verb("run", "--once", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["logged_val_loss"] for row in rows] == [3.25, 3.25]
    assert all("logs a validation loss of 3.2500; measured is 4." in row["note"] for row in rows)
    warned = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert len(warned) == 2
    assert all("but the trainer logged 3.2500: it is other data, or not the model" in line for line in warned)
    (alert,) = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]  # once, not twice
    assert (alert["kind"], "not the model that was trained" in alert["text"]) == ("logged_loss", True)
    assert "validation loss of 3.2500" in verb("status").stdout
    assert "validation loss of 3.2500" in verb("eval", "out/ckpt_10.pt", "--data", "val.bin", "--device", "cpu").stdout


@pytest.mark.parametrize(
    ("loss", "logged", "stderr", "windows", "trainer_windows", "contradicts"),
    [
        (2.2657, 1.5751, 0.004, 647, None, True),  # nanoGPT with squared ReLU read as GELU
        (1.5784, 1.5751, 0.004, 647, None, False),  # the same file with its own activation
        (3.30, 3.11, 0.05, 100, None, False),  # 20 windows of the trainer: its error is 0.11
        (3.30, 3.11, 0.01, 100, 2400, True),  # 200 batches of 12: what is left is no sampling
        (3.15, 3.11, 0.0, 1, None, False),  # other dtype, other cut
        (None, 3.11, 0.01, 100, None, False),
        (float("nan"), 3.11, None, 100, None, False),
        (2.0, float("inf"), 0.01, 100, None, False),
    ],
)
def test_a_contradiction_is_beyond_what_both_samples_explain(
    loss, logged, stderr, windows, trainer_windows, contradicts
):
    assert contradicts_log(loss, logged, stderr, windows, trainer_windows) is contradicts
