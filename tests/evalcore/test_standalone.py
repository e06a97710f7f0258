"""The stand-alone command, with the seed's flags and under torchrun."""

import json
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from evalcore.__main__ import main
from evalcore.loading.checkpoint import load_checkpoint
from evalcore.measure.evaluate import evaluate
from tests.support.checkpoints import save_nanogpt, save_rosellm
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


def _json_of(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_bytes_of_ids_are_known_only_where_their_tokenizer_is(tmp_path, checkpoint, capsys):
    """Token files have no default tokenizer: a character model measured with GPT-2's table had 7.27 bits per byte."""
    ids = tokens_for(300, 60)
    ids.astype("<u2").tofile(tmp_path / "val.bin")
    command = ["--checkpoint-path", str(checkpoint), "--data", str(tmp_path / "val.bin"), "--json"]
    assert main(command) == 0
    unknown = _json_of(capsys)
    assert unknown["bits_per_byte"] is None and unknown["loss"] > 0
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"itos": {i: chr(48 + i) for i in range(60)}}))
    assert main(command) == 0
    known = _json_of(capsys)
    assert known["bits_per_byte"] == pytest.approx(unknown["loss"] / math.log(2), rel=1e-9)
    assert known["loss"] == unknown["loss"] and known["bytes"] == 299


def test_a_token_type_given_by_flag_is_the_value_of_the_tokens(tmp_path, checkpoint, capsys):
    ids = tokens_for(300, 400)
    ids.astype("<u4").tofile(tmp_path / "val.bin")
    command = ["--checkpoint-path", str(checkpoint), "--data", str(tmp_path / "val.bin"), "--json"]
    assert main(command) == 5
    assert "--token-dtype uint32" in capsys.readouterr().err
    assert main([*command, "--token-dtype", "uint32"]) == 0
    with load_checkpoint(checkpoint) as loaded:
        assert _json_of(capsys)["loss"] == pytest.approx(evaluate(loaded.model, ids).loss, rel=1e-6)


def test_the_text_of_another_field_is_read_by_flag(tmp_path, checkpoint, capsys):
    (tmp_path / "val.json").write_text(json.dumps([{"story": PROSE}, {"story": "The end."}]))
    command = ["--checkpoint-path", str(checkpoint), "--data", str(tmp_path / "val.json"), "--tokenizer", "bytes"]
    command += ["--json", "--cache-dir", str(tmp_path / "c")]
    assert main(command) == 5 and "--text-field story" in capsys.readouterr().err
    assert main([*command, "--text-field", "story"]) == 0
    assert _json_of(capsys)["bytes"] == len(PROSE) + len("The end.") - 1


def test_the_model_flags_complete_and_correct_the_checkpoint(tmp_path):
    save_nanogpt(tmp_path / "a.pt")
    payload = torch.load(tmp_path / "a.pt", weights_only=True)
    payload["model_args"]["n_head"] = "many"
    torch.save(payload, tmp_path / "a.pt")
    (tmp_path / "fix.json").write_text('{"n_head": 2}')
    (tmp_path / "v.bin").write_bytes(bytes(range(60)) * 4)
    common = [
        sys.executable,
        "-m",
        "evalcore",
        "--json",
        "--device",
        "cpu",
        "--checkpoint-path",
        str(tmp_path / "a.pt"),
    ]
    common += ["--data", str(tmp_path / "v.bin"), "--token-dtype", "uint8"]
    refused = subprocess.run(common, capture_output=True, text=True)
    assert refused.returncode == 8 and "n_head" in refused.stderr and "--model-config FILE" in refused.stderr
    done = subprocess.run([*common, "--model-config", str(tmp_path / "fix.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "configuration from [model] config" in json.loads(done.stdout.splitlines()[-1])["note"]
