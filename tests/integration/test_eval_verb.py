"""`ckptwatch eval` over several files: a bad one stops nothing, equal names are two, known values are marked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.support.checkpoints import save_rosellm

ROOT = Path(__file__).resolve().parents[2]


def evaluated(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "watcher.cli", "eval", *arguments, "--data", "val.npy", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, timeout=170)


def test_a_bad_file_among_several_stops_nothing_and_a_value_of_the_table_is_said_to_be_one(tmp_path):
    np.save(tmp_path / "val.npy", np.random.default_rng(0).integers(0, 64, 200).astype(np.uint16))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_rosellm(tmp_path / name / "x.pt", step=10, seed=ord(name))
    (tmp_path / "bad.pt").write_bytes((tmp_path / "a/x.pt").read_bytes()[:-400])
    done = evaluated(tmp_path, "a/x.pt", "bad.pt", "absent.pt", "b/x.pt", "--db", "r.db", "--json")
    rows = json.loads(done.stdout)
    assert done.returncode == 5
    assert sorted(row["checkpoint"] for row in rows) == ["a/x.pt", "b/x.pt"]
    assert rows[0]["loss"] != rows[1]["loss"]
    for words in ("error: bad.pt: ", "error: there is no checkpoint absent.pt", "2 of the checkpoints could not be"):
        assert words in done.stderr
    again = evaluated(tmp_path, "a/x.pt", "b/x.pt", "--db", "r.db")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("from the table: evaluated ") == 2
    anew = evaluated(tmp_path, "a/x.pt", "b/x.pt", "--db", "r.db", "--again")
    assert (anew.returncode, "from the table" in anew.stdout) == (0, False), anew.stderr
