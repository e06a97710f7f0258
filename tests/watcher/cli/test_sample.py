"""`ckptwatch sample`: the flags become those of the core, whose exit status and output are the verb's own."""

import json
import os

import pytest
from click.testing import CliRunner

from tests.support.checkpoints import save_nanogpt
from watcher.cli import root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_nanogpt(tmp_path_factory.mktemp("sample") / "ckpt.pt", vocab_size=256)


def test_the_texts_of_two_prompts_as_json_are_drawn_with_the_seed(checkpoint, capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    arguments = ["sample", str(checkpoint), "--prompt", "-a", "--prompt", "b", "--tokenizer", "bytes", "--top-k", "5"]
    arguments += ["--seed", "3", "--max-new-tokens", "6", "--device", "cpu", "--json"]
    assert CliRunner().invoke(root, arguments).exit_code == 0
    rows = json.loads(capfd.readouterr().out)
    assert [(row["prompt"], row["mode"], row["seed"], row["tokens"]) for row in rows] == [
        ("-a", "sampled", 3, 6),
        ("b", "sampled", 3, 6),
    ]


def test_a_checkpoint_without_a_tokenizer_is_refused_with_the_remedy(checkpoint, capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(root, ["sample", os.fspath(checkpoint), "--prompt", "a", "--device", "cpu"])
    assert done.exit_code == 5
    assert "--tokenizer gpt2, bytes or a file" in capfd.readouterr().err
