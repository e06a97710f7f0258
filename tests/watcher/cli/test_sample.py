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


SAMPLE = '[[sample]]\nprompts = ["a"]\n'
EVAL = '[[eval]]\ndata = "v.txt"\n'
SETTINGS = {
    "sample before eval": (f'{SAMPLE}tokenizer = "bytes"\n{EVAL}tokenizer = "gpt2"', "bytes"),
    "eval where sample names none": (f'{SAMPLE}{EVAL}tokenizer = "own.json"', "{folder}/own.json"),
    "the folder's own": (f'{SAMPLE}tokenizer = "auto"', None),
}


@pytest.mark.parametrize(("settings", "right"), SETTINGS.values(), ids=SETTINGS)
def test_the_tokenizer_is_that_of_the_settings_file_where_no_flag_names_one(settings, right, monkeypatch, tmp_path):
    project, elsewhere, runs = tmp_path / "project", tmp_path / "elsewhere", []
    project.mkdir(), elsewhere.mkdir(), (project / "own.json").write_text("{}")
    (project / "c.toml").write_text(f"{settings}\n")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr("watcher.launch.foreground.run_in_foreground", lambda *call: runs.append(call[1]) or 0)
    for more in ([], ["--tokenizer", "cl100k_base"]):
        CliRunner().invoke(root, ["-c", str(project / "c.toml"), "sample", "x.pt", "--prompt", "a", *more])
    from_file, from_flag = ([part for part in run if part.startswith("--tokenizer")] for run in runs)
    assert from_file == ([] if right is None else [f"--tokenizer={right.format(folder=project)}"])
    assert from_flag == ["--tokenizer=cl100k_base"]


def test_settings_with_two_tokenizers_are_refused_with_the_flag_that_decides(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    sections = (f'[[sample]]\nname = "{name}"\nprompts = ["a"]\ntokenizer = "{name}"\n' for name in ("gpt2", "bytes"))
    (tmp_path / "ckptwatch.toml").write_text("".join(sections))
    done = CliRunner().invoke(root, ["sample", "x.pt", "--prompt", "a"], standalone_mode=False)
    assert "the [[sample]] sections name several tokenizers: bytes, gpt2" in str(done.exception)
    assert done.exception.hint == "say which: --tokenizer bytes"


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
