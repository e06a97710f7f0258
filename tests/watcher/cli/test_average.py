"""`ckptwatch average` hands the terminal and the arguments to a process that has torch, and its status back."""

import json
import subprocess
import sys

import torch

from tests.support import checkpoints as make


def average(*arguments, cwd):
    command = [sys.executable, "-m", "watcher.cli", "average", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_average_writes_the_mean_of_checkpoints_whatever_their_names(tmp_path):
    paths = [make.save_nanogpt(tmp_path / name, step=i, seed=i) for i, name in enumerate(("-a.pt", "b c.pt"))]
    done = average("--out", "m.pt", "--", "-a.pt", "b c.pt", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "m.pt\n"), done.stderr
    states = [torch.load(path, weights_only=True)["model"] for path in paths]
    written = torch.load(tmp_path / "m.pt", weights_only=True)["model"]
    for name in written:
        torch.testing.assert_close(written[name], (states[0][name] + states[1][name]) / 2)


def test_average_tells_programs_the_weights(tmp_path):
    for i, name in enumerate(("a.pt", "b.pt")):
        make.save_nanogpt(tmp_path / name, step=i, seed=i)
    done = average("a.pt", "b.pt", "--ema", "0.5", "--out", "m.pt", "--json", cwd=tmp_path)
    assert json.loads(done.stdout) == {"out": "m.pt", "weights": {"b.pt": 2 / 3, "a.pt": 1 / 3}}


def test_average_of_one_checkpoint_or_into_a_missing_folder_is_refused(tmp_path):
    make.save_nanogpt(tmp_path / "a.pt")
    done = average("a.pt", "--out", "m.pt", cwd=tmp_path)
    assert done.returncode == 2 and "at least two" in done.stderr and not (tmp_path / "m.pt").exists()
    done = average("a.pt", "b.pt", "--out", "nodir/m.pt", cwd=tmp_path)
    assert done.returncode == 4 and "there is no folder nodir to write nodir/m.pt in" in done.stderr
