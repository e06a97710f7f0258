"""`ckptwatch model try`: a factory and one forward pass in a process of their own, with the user's own traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from evalcore.loading import factory_trial

ROOT = Path(__file__).resolve().parents[3]
MODEL = """import torch


class Table(torch.nn.Module):
    block_size = 12

    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(weight)

    def forward(self, tokens):
        return self.weight[tokens]


class Peeks(Table):
    def forward(self, tokens):
        return self.weight[tokens] + self.weight[tokens].mean(1, keepdim=True)


def build(config, state):
    return Table(state["table.weight"])


def peeking(config, state):
    return Peeks(state["table.weight"])


def broken(config, state):
    return Table(state["tabel.weight"])


def leaves(config, state):
    import os

    os._exit(0)


def crashes(config, state):
    import os

    os.kill(os.getpid(), 11)
"""


def tried(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "watcher.cli", "model", "try", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_factory_that_works_one_that_is_not_causal_and_one_that_fails(tmp_path):
    (tmp_path / "trial_model.py").write_text(MODEL)
    torch.save({"model": {"table.weight": torch.randn(7, 7)}, "step": 40}, tmp_path / "a.pt")
    done = tried(tmp_path, "trial_model:build", "a.pt", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    told = [facts[key] for key in ("model", "parameters", "step", "context_length", "vocab_size", "logits", "causal")]
    assert told == ["Table", 49, 40, 12, 7, [1, 12, 7], True]
    done = tried(tmp_path, "trial_model:peeking", "a.pt")
    assert (done.returncode, "it is not causal" in done.stderr) == (8, True)
    done = tried(tmp_path, "trial_model:broken", "a.pt")
    lines = done.stderr.splitlines()
    assert done.returncode == 8
    assert lines[:2] == [
        "Traceback (most recent call last):",
        f'  File "{tmp_path}/trial_model.py", line 29, in broken',
    ]
    assert "KeyError: 'tabel.weight'" in lines
    assert "model.factory trial_model:broken failed: KeyError" in lines[-1]


def test_a_factory_that_ends_the_process_is_no_factory_that_works(tmp_path):
    (tmp_path / "trial_model.py").write_text(MODEL)
    torch.save({"model": {"table.weight": torch.randn(7, 7)}}, tmp_path / "a.pt")
    left = tried(tmp_path, "trial_model:leaves", "a.pt")
    assert left.returncode == 8 and "ended inside your code: it exited with status 0" in left.stderr
    crashed = tried(tmp_path, "trial_model:crashes", "a.pt")
    assert crashed.returncode == 8 and "it was ended by SIGSEGV" in crashed.stderr


def test_a_checkpoint_that_is_not_there_is_status_4(tmp_path):
    done = tried(tmp_path, "trial_model:build", "absent.pt")
    assert (done.returncode, "there is no checkpoint absent.pt" in done.stderr) == (4, True)


def test_a_device_or_a_configuration_that_is_none_is_refused_in_one_sentence(capsys):
    assert factory_trial.main(["a.pt", "--factory", "a:b", "--device", "foo"]) == 2
    assert capsys.readouterr().err.startswith("error: 'foo' is no device")
    with pytest.raises(SystemExit):
        factory_trial.main(["a.pt", "--factory", "a:b", "--model-config", "5"])
    assert "5 is no JSON object" in capsys.readouterr().err
