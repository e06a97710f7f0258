"""The main job as a user runs it: real checkpoints, real torchrun, a real database, and a loss computed apart."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.support import checkpoints

TOKENS = 1_601  # 25 windows of 64: two ranks cannot share them evenly
SEQ_LEN = 64


def ckptwatch(*arguments: object, folder: Path, timeout_s: float = 150) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "watcher.cli", *map(str, arguments)]
    environment = {**os.environ, "HOME": str(folder / "home"), "NO_COLOR": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout_s)


def query(database: Path, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection, connection:
        return connection.execute(sql).fetchall()


def plain_loss(path: Path, tokens: np.ndarray, seq_len: int) -> float:
    """The seed's GPT written out naively: full scores, full logits; each target once, in windows of seq_len."""
    saved = torch.load(path, weights_only=True)
    config = saved["config"]
    w = {name: value.double() for name, value in saved["model"].items()}
    heads, width, gelu = config["n_heads"], config["d_model"], config.get("activation", "gelu")
    stream = torch.tensor(tokens.astype(np.int64))
    total = 0.0
    for start in range(0, len(stream) - 1, seq_len):
        x_ids = stream[start : min(start + seq_len, len(stream) - 1)]
        y_ids = stream[start + 1 : start + 1 + len(x_ids)]
        t = len(x_ids)
        x = w["token_embedding.weight"][x_ids] + w["position_embedding.weight"][:t]
        mask = torch.ones(t, t).tril().bool()
        for i in range(config["n_layers"]):
            p = f"blocks.{i}."
            n = F.layer_norm(x, (width,), w[p + "ln1.weight"], w[p + "ln1.bias"], 1e-5)
            q, k, v = (n @ w[p + "attn.qkv_proj.weight"].T + w[p + "attn.qkv_proj.bias"]).split(width, 1)
            q, k, v = (z.view(t, heads, -1).transpose(0, 1) for z in (q, k, v))
            scores = (q @ k.transpose(1, 2)) * (width // heads) ** -0.5
            mixed = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v
            mixed = mixed.transpose(0, 1).reshape(t, width)
            x = x + mixed @ w[p + "attn.out_proj.weight"].T + w[p + "attn.out_proj.bias"]
            n = F.layer_norm(x, (width,), w[p + "ln2.weight"], w[p + "ln2.bias"], 1e-5)
            up = n @ w[p + "mlp.fc1.weight"].T + w[p + "mlp.fc1.bias"]
            up = F.gelu(up, approximate="tanh" if gelu == "gelu_new" else "none")
            x = x + up @ w[p + "mlp.fc2.weight"].T + w[p + "mlp.fc2.bias"]
        x = F.layer_norm(x, (width,), w["ln_f.weight"], w["ln_f.bias"], 1e-5)
        total += F.cross_entropy(x @ w["lm_head.weight"].T, y_ids, reduction="sum").item()
    return total / (len(stream) - 1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four checkpoints in the seed's format, with random weights that are far from uniform, and a shard of tokens."""
    folder = tmp_path_factory.mktemp('it\'s a "world" ;')
    (folder / "ck").mkdir()
    for number in range(1, 5):
        path = folder / "ck" / f"minigpt_{number * 20:06d}.pt"
        config = {"max_position_embeddings": SEQ_LEN, "activation": "gelu_new" if number % 2 else "gelu"}
        checkpoints.save_rosellm(path, step=number * 20, seed=number, config=config, tied=number == 4)
    vocabulary = torch.load(path, weights_only=True)["config"]["vocab_size"]
    chance = np.random.default_rng(0)
    np.save(folder / "val.npy", chance.integers(0, vocabulary, TOKENS).astype(np.uint16))
    return folder


def run_once(world: Path, *more: object) -> subprocess.CompletedProcess[str]:
    flags = ("--dir", "ck", "--data", "val.npy", "--db", "r.db", "--seq-len", SEQ_LEN, "--device", "cpu", "--once")
    return ckptwatch("run", *flags, *more, folder=world)


def test_four_checkpoints_become_four_exact_rows_and_a_second_run_evaluates_nothing(world: Path) -> None:
    done = run_once(world)
    assert done.returncode == 0, done.stderr
    rows = query(world / "r.db", "SELECT checkpoint, step, loss, tokens, finite, attempt FROM results ORDER BY step")
    assert [row[1] for row in rows] == [20, 40, 60, 80]
    tokens = np.load(world / "val.npy")
    for name, _, loss, count, finite, attempt in rows:
        assert loss == pytest.approx(plain_loss(world / "ck" / name, tokens, SEQ_LEN), rel=1e-6)
        assert (count, finite, attempt) == (TOKENS - 1, 1, 1)
    again = run_once(world)
    assert again.returncode == 0, again.stderr
    assert query(world / "r.db", "SELECT count(*) FROM results") == [(4,)]
    assert query(world / "r.db", "SELECT count(*) FROM attempts") == [(4,)]
    assert query(world / "r.db", "SELECT count(*) FROM launches") == [(1,)], "one launch drains the backlog"


def test_a_new_set_computes_only_its_own_cells(world: Path) -> None:
    run_once(world)
    np.save(world / "other.npy", np.load(world / "val.npy")[:500])
    attempts = query(world / "r.db", "SELECT count(*) FROM attempts")[0][0]
    done = run_once(world, "--data", "other.npy", "--json")
    assert done.returncode == 0, done.stderr
    assert query(world / "r.db", "SELECT count(*) FROM attempts") == [(attempts + 4,)]
    rows = json.loads(done.stdout)
    assert sorted({row["eval_set"] for row in rows}) == ["other", "val"] and len(rows) == 8


def test_eval_prints_the_same_number_and_keeps_it(world: Path) -> None:
    run_once(world)
    done = ckptwatch("eval", "ck/minigpt_000020.pt", "--data", "val.npy", "--json", folder=world)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    (kept,) = query(world / "r.db", "SELECT loss FROM results WHERE step = 20 AND eval_set = 'val'")
    assert row["loss"] == pytest.approx(kept[0], rel=1e-6)
    assert (row["run"], row["step"]) == ("ck", 20) and (world / "ckptwatch.db").exists()
    shown = ckptwatch("eval", "ck/minigpt_000020.pt", "--data", "val.npy", folder=world)
    assert "nats per token" in shown.stdout and "ckptwatch.db" in shown.stderr


def test_two_ranks_give_the_value_of_one_where_the_windows_do_not_divide(world: Path) -> None:
    flags = ("--dir", "ck", "--data", "val.npy", "--seq-len", SEQ_LEN, "--device", "cpu", "--once", "--json")
    done = ckptwatch("run", *flags, "--db", "two.db", "--nproc", 2, "--batch-size", 3, folder=world)
    assert done.returncode == 0, done.stderr
    run_once(world)
    one = dict(query(world / "r.db", "SELECT step, loss FROM results WHERE eval_set = 'val'"))
    two = query(world / "two.db", "SELECT step, loss, world_size FROM results")
    assert len(two) == 4
    for step, loss, world_size in two:
        assert world_size == 2 and loss == pytest.approx(one[step], rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("run", "--dir", "nowhere", "--data", "val.npy", "--once"), 3, "there is no folder"),
        (("run", "--dir", "val.npy", "--data", "val.npy"), 2, "--dir val.npy is a file"),
        (("run", "--dir", "empty", "--data", "val.npy", "--once"), 4, "there is no checkpoint"),
        (("run", "--dir", "ck", "--data", "nowhere.npy", "--once"), 3, "there is no file"),
        (("run", "--dir", "ck"), 3, "no validation data"),
        (("run", "--data", "val.npy"), 3, "no folder to watch"),
        (("eval", "nowhere.pt", "--data", "val.npy"), 4, "there is no checkpoint"),
        (("eval", "val.npy", "--data", "val.npy"), 8, "val.npy"),
        (("runn",), 2, "did you mean `ckptwatch run`"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line_with_its_exit_status(world: Path, arguments, status, says) -> None:
    (world / "empty").mkdir(exist_ok=True)
    done = ckptwatch(*arguments, folder=world)
    assert (done.returncode, says in done.stderr) == (status, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_shows_the_plan_and_changes_nothing(world: Path) -> None:
    done = ckptwatch("run", "--dir", "ck", "--data", "val.npy", "--db", "dry.db", "--dry-run", "--json", folder=world)
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in json.loads(done.stdout)] == [20, 40, 60, 80]
    assert not (world / "dry.db").exists() and not (world / "dry.db.state").exists()
