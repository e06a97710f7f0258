"""Ranks that differ in threads, in data or in number: one value, or a refusal that names the difference."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from evalcore.loading.checkpoint import load_checkpoint
from evalcore.measure.agreement import Plan, RanksDisagree, agreed_batch_size, refuse_gaps
from evalcore.measure.evaluate import evaluate
from evalcore.worker.failures import failure_of
from tests.support.checkpoints import save_nanogpt
from tests.support.launches import ROOT
from tests.support.models import SmallModel, tokens_for


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_rank(rank, world_size, port, flags, **environment):
    clean = {key: value for key, value in os.environ.items() if "RANK" not in key and not key.startswith("MASTER")}
    where = {"RANK": str(rank), "WORLD_SIZE": str(world_size)}
    if port is not None:
        where |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, "-m", "evalcore", *map(str, flags), "--device", "cpu", "--json"],
        env={**clean, **where, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_ranks_with_unequal_threads_score_every_window_once(tmp_path, port):
    """One thread wants 4 windows of 1,024 tokens at a time, eight want 8: without agreement 8 of 24 stayed zero."""
    checkpoint = save_nanogpt(tmp_path / "ckpt.pt", block_size=1024)
    tokens = tokens_for(24 * 1024 + 1, 64)
    np.save(tmp_path / "val.npy", tokens)
    flags = ["--checkpoint-path", checkpoint, "--data", tmp_path / "val.npy"]
    ranks = [start_rank(rank, 2, port, flags, OMP_NUM_THREADS=threads) for rank, threads in ((0, "1"), (1, "8"))]
    answers = [rank.communicate(timeout=180) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], answers
    got = json.loads(answers[0][0].splitlines()[-1])
    with load_checkpoint(checkpoint) as loaded:
        expected = evaluate(loaded.model, tokens, context_length=1024)
    assert got["loss"] == pytest.approx(expected.loss, rel=1e-6)
    assert got["tokens"] == expected.tokens == 24 * 1024 and got["world_size"] == 2 and got["batch_size"] == 4


class OneOfTwo:
    """A group as rank 0 of 2 sees it, whose other rank answers as given."""

    world_size, rank = 2, 0

    def __init__(self, other):
        self.other = other

    def gather(self, value):
        return [value, self.other]


PLAN = Plan(1001, 0, 255, 7, 16, 64, 64, "float32")


def test_the_smallest_batch_of_any_rank_is_everybodys():
    assert agreed_batch_size(OneOfTwo((None, (4, PLAN))), None, 8, PLAN) == 4


def test_ranks_that_see_other_data_are_refused_by_what_differs():
    other = Plan(1001, 0, 99, 7, 16, 64, 64, "bfloat16")
    with pytest.raises(
        RanksDisagree, match="largest_id 255 on rank 0, 99 on rank 1; dtype float32 on rank 0"
    ) as caught:
        agreed_batch_size(OneOfTwo((None, (8, other))), None, 8, PLAN)
    assert failure_of(caught.value, "val")[0] == "protocol"


SHARD_EACH = """
import os, sys, numpy as np, torch, torch.distributed as dist
import evalcore
from tests.support.models import SmallModel, tokens_for
dist.init_process_group("gloo")
rank = dist.get_rank()
own = tokens_for(2000)[rank * 1000 : rank * 1000 + 1000]
own[:2] = 0, 255
try:
    evalcore.evaluate(SmallModel(), own, seq_len=64, group=evalcore.current_group())
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_trainer_that_gives_each_rank_its_own_shard_is_refused(tmp_path, port):
    """Same length, same smallest and largest id: the sum over ranks would mix windows of unlike data."""
    (tmp_path / "shards.py").write_text(SHARD_EACH)
    where = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": str(ROOT)}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "shards.py")],
            env={**os.environ, **where, "RANK": str(rank)},
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for rank in range(2)
    ]  # fmt: skip
    for rank in ranks:
        assert "RanksDisagree the ranks do not measure the same: checksum" in rank.communicate(timeout=120)[0]


@pytest.mark.parametrize(("counts", "words"), [((1, 0, 1), "window 1 was scored 0 times"), ((1, 1, 2), "2 times")])
def test_a_window_not_scored_exactly_once_is_never_summed(counts, words):
    with pytest.raises(RanksDisagree, match=words):
        refuse_gaps(np.array(counts), 2)


def test_a_pass_that_drops_a_window_is_refused(monkeypatch):
    from evalcore.measure import batch_run

    monkeypatch.setattr(batch_run, "batches", lambda windows, size: [list(windows)[1:3]])
    with pytest.raises(RanksDisagree, match="were not scored exactly once"):
        evaluate(SmallModel(), tokens_for(300), seq_len=64)


def test_a_rank_that_never_comes_is_named_after_the_limit(tmp_path, port):
    checkpoint = save_nanogpt(tmp_path / "ckpt.pt")
    np.save(tmp_path / "val.npy", tokens_for(100, 64))
    flags = ["--checkpoint-path", checkpoint, "--data", tmp_path / "val.npy", "--join-s", "6"]
    alone = start_rank(0, 2, port, flags)
    out, err = alone.communicate(timeout=120)
    assert alone.returncode == 7 and "avg_loss" not in out
    assert "rank 0 waits for rank(s) 1 of 2" in err  # said while it waits
    assert f"rank(s) 1 of 2 did not come to 127.0.0.1:{port} within 6 s" in err and "env -u RANK" in err


def test_a_leftover_rank_in_the_environment_is_refused_at_once(tmp_path):
    checkpoint = save_nanogpt(tmp_path / "ckpt.pt")
    np.save(tmp_path / "val.npy", tokens_for(100, 64))
    leftover = start_rank(1, 8, None, ["--checkpoint-path", checkpoint, "--data", tmp_path / "val.npy"])
    _, err = leftover.communicate(timeout=120)
    assert leftover.returncode == 7 and "MASTER_ADDR and MASTER_PORT are not" in err and "torchrun" in err


def test_a_checkpoint_that_one_rank_cannot_read_ends_all_ranks_with_its_reason(tmp_path, port):
    checkpoint = save_nanogpt(tmp_path / "ckpt.pt")
    np.save(tmp_path / "val.npy", tokens_for(100, 64))
    ranks = [
        start_rank(rank, 2, port, ["--checkpoint-path", path, "--data", tmp_path / "val.npy"])
        for rank, path in enumerate((checkpoint, tmp_path / "gone.pt"))
    ]
    answers = [rank.communicate(timeout=120) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [4, 4] and "avg_loss" not in answers[0][0]
    assert "gone.pt is gone" in answers[0][1]  # rank 0 prints it
