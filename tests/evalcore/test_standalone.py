"""The stand-alone command, with the seed's flags and under torchrun."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from evalcore.__main__ import main
from evalcore.loading.checkpoint import load_checkpoint
from evalcore.measure.evaluate import evaluate
from tests.support.checkpoints import save_rosellm
from tests.support.launches import ROOT
from tests.support.models import tokens_for
from tests.support.tokenizers import save_ranks

PROSE = "The quick brown fox jumps over the lazy dog. " * 30


@pytest.fixture
def checkpoint(tmp_path):
    return save_rosellm(tmp_path / "minigpt.pt", config={"vocab_size": 400, "max_position_embeddings": 64})


def _lines(capsys):
    return dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if line[0] != "{")


def test_the_seeds_own_command_line_prints_its_lines(tmp_path, checkpoint, capsys):
    np.save(tmp_path / "val_000000.npy", tokens_for(1000, 400))
    flags = [
        "--checkpoint-path",
        str(checkpoint),
        "--data-mode",
        "fineweb_npy",
        "--val-npy",
        str(tmp_path / "val_000000.npy"),
    ]
    more = [
        "--seq-len",
        "64",
        "--batch-size",
        "2",
        "--max-tokens",
        "900",
        "--tokenizer-name",
        "gpt2",
        "--no-amp",
        "--seed",
        "1",
    ]
    assert main([*flags, *more]) == 0
    said = _lines(capsys)
    with load_checkpoint(checkpoint) as loaded:
        expected = evaluate(loaded.model, tokens_for(1000, 400)[:900], seq_len=64)
    assert float(said["avg_loss"]) == pytest.approx(expected.loss, rel=1e-6)
    assert float(said["ppl"]) == pytest.approx(expected.ppl, rel=1e-5)
    assert main([*flags, "--seed", "2", "--batch-size", "8"]) == 0  # seq-len is the context where it is left out


def test_text_mode_with_json_as_the_last_line(tmp_path, checkpoint, capsys):
    (tmp_path / "a.txt").write_text(PROSE)
    ranks = save_ranks(tmp_path / "small.tiktoken", PROSE, merges=100)
    flags = [
        "--checkpoint-path",
        str(checkpoint),
        "--val-data",
        str(tmp_path / "a.txt"),
        "--tokenizer-name",
        str(ranks),
    ]
    assert main([*flags, "--json", "--selfcheck", "--stride", "16", "--cache-dir", str(tmp_path / "c")]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["tokens"] > 10 and said["ppl"] > 1 and said["bits_per_byte"] > 0 and said["stride"] == 16
    assert said["step"] == 20 and "selfcheck passed" in said["note"]


def test_json_has_null_where_there_is_no_number(tmp_path, checkpoint, capsys):
    import torch

    saved = torch.load(checkpoint, weights_only=True)
    saved["model"]["ln_f.bias"].fill_(float("inf"))
    torch.save(saved, checkpoint)
    (tmp_path / "a.txt").write_text(PROSE)
    command = ["--checkpoint-path", str(checkpoint), "--data", str(tmp_path / "a.txt"), "--tokenizer-name", "bytes"]
    assert main([*command, "--json", "--cache-dir", str(tmp_path / "c")]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["loss"] is None and said["ppl"] is None and said["finite"] is False


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["--data", "gone.npy"], 4, "gone.npy does not exist"),
        (["--data", "empty.txt"], 5, "is empty"),
        (["--data", "val.npy", "--seq-len", "65"], 8, "longer than the model's 64 positions"),
        (["--data", "wide.npy"], 8, "outside the model's vocabulary"),
        (["--checkpoint-path", "gone.pt", "--data", "val.npy"], 4, "gone.pt is gone"),
        (["--checkpoint-path", "junk.pt", "--data", "val.npy"], 8, "corrupt"),
        ([], 2, "--val-data names no file"),
        (["--data-mode", "fineweb_npy"], 2, "--val-npy names no file"),
    ],
)
def test_each_failure_has_its_status_and_one_sentence(tmp_path, checkpoint, monkeypatch, capsys, flags, status, words):
    monkeypatch.chdir(tmp_path)
    np.save("val.npy", tokens_for(100, 400))
    np.save("wide.npy", tokens_for(100, 5000))
    (tmp_path / "empty.txt").touch()
    (tmp_path / "junk.pt").write_bytes(b"junk")
    assert main(["--checkpoint-path", str(checkpoint), "--tokenizer-name", "bytes", *flags]) == status
    assert words in capsys.readouterr().err


def test_any_number_of_ranks_gives_the_value_of_one(tmp_path, checkpoint):
    np.save(tmp_path / "val.npy", tokens_for(64 * 7 + 20, 400))  # 8 windows, the last one short
    answers = []
    for ranks in (1, 2, 3):
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        flags = [
            "--checkpoint-path",
            str(checkpoint),
            "--data",
            str(tmp_path / "val.npy"),
            "--batch-size",
            "2",
            "--json",
        ]
        ran = subprocess.run(
            [sys.executable, *torchrun, "-m", "evalcore", *flags],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.count("avg_loss: ") == 1
        answers.append(json.loads(ran.stdout.splitlines()[-1]))
    assert [answer["world_size"] for answer in answers] == [1, 2, 3]
    assert len({answer["loss"] for answer in answers}) == len({answer["loss_stderr"] for answer in answers}) == 1
    assert {answer["tokens"] for answer in answers} == {64 * 7 + 19}
