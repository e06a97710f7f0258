"""`ckptwatch sample`: the flags become those of the core, whose exit status and output are the verb's own."""

import json
import os
import re
import shlex

import pytest
from click.testing import CliRunner

from tests.support.checkpoints import save_nanogpt
from tests.support.database import Database
from tests.support.sample_rows import sample_set, sample_texts
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


def test_stored_texts_are_listed_prompt_by_prompt_with_control_characters_escaped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    database = Database(tmp_path / "ckptwatch.db")
    database.run()
    sample_set(database, ("The ship", "\x1b]0;a"))
    for step in (100, 200):
        sample_texts(database, database.checkpoint(step), {"The ship": f"sails\n {step}\x9b31m", "\x1b]0;a": "\u202e"})
    database.close()
    done = CliRunner().invoke(root, ["samples"])
    assert done.exit_code == 0
    assert done.stdout.splitlines()[:8] == [
        "gpt  stories  greedy, at most 16 tokens",
        "prompt 1: The ship",
        "  step 100, 16 tokens",
        "    sails",
        "     100\\x9b31m",
        "  step 200, 16 tokens",
        "    sails",
        "     200\\x9b31m",
    ]
    assert "prompt 2: \\x1b]0;a" in done.stdout and done.stdout.replace("\n", "").isprintable()
    newest = CliRunner().invoke(root, ["samples", "--limit", "1", "--prompt", "ship", "--json"]).stdout
    assert newest.isascii() and [row["step"] for row in json.loads(newest)] == [200]
    nothing = CliRunner().invoke(root, ["samples", "--name", "none"], standalone_mode=False)
    assert nothing.exception is not None and "no text is stored" in str(nothing.exception)


def test_the_commands_that_a_hint_names_run_on_the_database_that_was_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    database = Database(tmp_path / "other folder.db")
    none = CliRunner().invoke(root, ["samples", "--run", "gpt", "--db", "other folder.db"], standalone_mode=False)
    assert "`prompts` to ckptwatch.toml; ckptwatch run --db 'other folder.db'" in none.exception.hint
    database.run()
    sample_set(database, ("The ship",))
    sample_texts(database, database.checkpoint(100), {"The ship": "sails"})
    none = CliRunner().invoke(root, ["samples", "--name", "x", "--db", "other folder.db"], standalone_mode=False)
    assert "--db" not in none.exception.cause and none.exception.exit_code == 4
    commands = re.findall(r"ckptwatch ((?:samples|queue list)[^;]*? --db '[^']*')", none.exception.hint)
    assert len(commands) == 2
    for command in commands:
        done = CliRunner().invoke(root, shlex.split(command))
        assert done.exit_code == 0, done.output
    database.close()
