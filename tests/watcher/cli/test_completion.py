"""`completion`: the scripts it prints, in real shells. Those of zsh and fish are skipped where the shell is absent."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.database import small_run
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]


def shell_folder(folder: Path) -> dict[str, str]:
    """A database and a folder to complete, and `ckptwatch` on the PATH of the environment returned."""
    small_run(folder / "ckptwatch.db").close()
    (folder / "checkpoints").mkdir()
    (folder / "ckptwatch").write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; from watcher.cli import main; sys.exit(main())" "$@"\n'
    )
    (folder / "ckptwatch").chmod(0o755)
    changed = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": os.fspath(ROOT), "HOME": os.fspath(folder)}
    return {**os.environ, **changed, "TERM": "dumb"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_that_names_the_command(ckptwatch, shell):
    said = ckptwatch("completion", shell)
    assert said.status == 0
    assert "_CKPTWATCH_COMPLETE" in said.out


def test_completion_offers_the_verbs(tmp_path):
    environment = {
        **os.environ,
        "COMP_WORDS": "ckptwatch re",
        "COMP_CWORD": "1",
        "_CKPTWATCH_COMPLETE": "bash_complete",
    }
    command = [sys.executable, "-c", "from watcher.cli import main; main()"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert "plain,results" in done.stdout.splitlines()


def test_a_real_bash_completes_paths_runs_sets_columns_and_keeps_its_own_completion_of_files(tmp_path):
    """The script is evaluated by bash, and asked as readline asks it."""
    environment = shell_folder(tmp_path)
    script = r"""
eval "$(ckptwatch completion bash)"
compopt() { echo compopt "$@"; }
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
        _ckptwatch_completion ckptwatch; echo "${COMPREPLY[*]}"; }
ask ckptwatch results --run ''
ask ckptwatch plot --eval-set = v
ask ckptwatch results --sort loss_
ask ckptwatch eval check
ask ckptwatch --config check
"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stderr == ""
    runs, sets, columns, *paths = done.stdout.splitlines()
    assert (runs, sets, columns) == ("gpt", "val", "loss_stderr")
    assert paths == ["compopt -o default", "", "compopt -o default", ""]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_a_real_zsh_without_compinit_completes_verbs_runs_paths_and_the_value_after_an_equals_sign(tmp_path):
    """Typed into a terminal; a key of the test's own writes down the line that zsh has then."""
    environment = shell_folder(tmp_path)
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=tmp_path,
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)

    def line_after(keys: str) -> str:
        written = tmp_path / "line"
        written.unlink(missing_ok=True)
        os.write(ours, f"{keys}\x18".encode())

        def answer() -> str:
            while select.select([ours], [], [], 0)[0]:
                os.read(ours, 65536)
            return written.read_text() if written.exists() else ""

        return wait_until(answer, why=f"zsh did not answer {keys!r}").strip()

    try:
        os.write(ours, b"write_line() { print -r -- $BUFFER > line.new; mv line.new line; BUFFER= }\n")
        os.write(ours, b"zle -N write_line; bindkey '^X' write_line; eval \"$(ckptwatch completion zsh)\"\n")
        assert line_after(":") == ":"
        assert line_after("ckptwatch res\t") == "ckptwatch results"
        assert line_after("ckptwatch results --run=g\t") == "ckptwatch results --run=gpt"
        assert line_after("./ckptwatch compare g\t") == "./ckptwatch compare gpt"
        assert line_after("ckptwatch eval che\t") == "ckptwatch eval checkpoints/"
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
def test_a_real_fish_completes_paths_and_the_value_after_an_equals_sign_with_whole_descriptions(tmp_path):
    environment = shell_folder(tmp_path)
    asked = ["results --run=g", "run --dir=che", "eval ~/che", "logs 1"]
    script = "ckptwatch completion fish | source\n" + "\n".join(f"complete -C 'ckptwatch {words}'" for words in asked)
    done = subprocess.run(["fish", "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stderr == ""
    paths = ["--dir=checkpoints/", "~/checkpoints/"]
    assert done.stdout.splitlines() == ["--run=gpt\trun", *paths, "1\tgpt, step 100, val"]
