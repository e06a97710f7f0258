"""The edge of the command line: conditions of the machine and mistyped databases get a sentence, never a traceback."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.database import small_run
from watcher.cli import options

ROOT = Path(__file__).parents[3]


def run(*arguments: object, cwd: Path, out: object = subprocess.PIPE, **more) -> subprocess.CompletedProcess:
    """ckptwatch as a process of its own."""
    command = [sys.executable, "-m", "watcher.cli", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **more.pop("env", {})}
    return subprocess.run(command, cwd=cwd, stdout=out, stderr=subprocess.PIPE, text=True, env=env, timeout=60, **more)


def assert_refused(done, status: int, words: str) -> None:
    """Ends with the status; stderr is a cause with these words and a next step, without a traceback."""
    err = done.err if hasattr(done, "err") else done.stderr
    code = done.status if hasattr(done, "status") else done.returncode
    assert code == status, err
    assert words in err and "  next:  " in err and "Traceback" not in err, err


@pytest.mark.parametrize("verb", ["status", "run", "results", "config", "init"])
def test_a_deleted_working_folder_is_named(tmp_path, verb):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f'rmdir "{gone}"; exec "{sys.executable}" -m watcher.cli {verb} {"show" * (verb == "config")}'
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", script], cwd=gone, capture_output=True, text=True, env=env, timeout=60)
    assert_refused(done, 7, "the working folder was deleted")


def test_version_and_help_need_no_working_folder(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    program = f'"{sys.executable}" -m watcher.cli'
    script = f'rmdir "{gone}"; {program} --version && {program} status --help'
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", script], cwd=gone, capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.match(r"ckptwatch \d+\.\d+\.\d+\nUsage", done.stdout)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "://", "~nosuchuser/r.db", "results/"])
def test_a_url_that_is_no_database_is_refused_before_anything_is_created(ckptwatch, tmp_path, url):
    for verb in (["results"], ["status"], ["db", "check"], ["run", "--dir", tmp_path, "--data", "val.npy"]):
        assert_refused(ckptwatch(*verb, "--db", url), 3, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["mysql://host/results", "nosuchengine://host/results"])
def test_another_database_engine_is_refused(ckptwatch, url):
    assert_refused(ckptwatch("results", "--db", url), 3, "is not supported: write a file name")


def test_a_password_in_a_url_that_cannot_be_read_is_not_shown(ckptwatch):
    said = ckptwatch("results", "--db", "://ada:hunter2@host")
    assert_refused(said, 3, "")
    assert "hunter2" not in said.err


def test_a_folder_as_database_is_refused_with_a_name_for_the_file(ckptwatch, tmp_path):
    folder = tmp_path / "ckptwatch.db"
    folder.mkdir()
    for verb in (["results"], ["run", "--dir", tmp_path / "out", "--data", "val.npy"], ["db", "migrate"]):
        assert_refused(ckptwatch(*verb, "--db", folder), 3, f"{folder}/ckptwatch.db")
        assert_refused(ckptwatch(*verb), 3, "is a folder")
    assert list(tmp_path.iterdir()) == [folder]


def test_the_home_of_an_unknown_user_in_the_settings_is_refused(ckptwatch, tmp_path):
    (tmp_path / "ckptwatch.toml").write_text('[[run]]\ndir = "~nosuchuser/out"\n')
    said = ckptwatch("config", "validate")
    assert said.status == 3 and "Traceback" not in said.err and "  next:  " in said.err


@pytest.mark.skipif(os.geteuid() != 0, reason="another user id needs root")
def test_a_user_id_without_a_home_is_named_where_a_home_is_needed(tmp_path):
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    (tmp_path / "ckptwatch.toml").write_text(f'[[run]]\ndir = "{tmp_path}"\n')
    code = (  # once as root, so that every module is loaded before the interpreter's own folder may be closed to us
        "import os, sys; from watcher.cli import main; main(['status']);"
        "os.environ.pop('HOME', None); os.environ.pop('XDG_STATE_HOME', None); os.setuid(54321);"
        "print('---', file=sys.stderr); sys.exit(main(['status']))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=env, timeout=60
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert_refused(done, 7, "no home folder is known for user 54321")


def test_a_folder_as_settings_file_is_refused_with_the_file_in_it(ckptwatch, tmp_path):
    assert_refused(ckptwatch("-c", tmp_path, "status"), 3, f"-c {tmp_path}/ckptwatch.toml")


def test_a_reader_of_stdout_that_leaves_early_is_no_error(tmp_path):
    small_run(tmp_path / "r.db")
    for verb in (["results", "--db", "r.db"], ["config", "schema"], ["config", "schema", "--toml"]):
        read, write = os.pipe()
        os.close(read)
        done = run(*verb, cwd=tmp_path, out=write)
        os.close(write)
        assert (done.returncode, done.stderr) == (0, ""), verb


def test_a_closed_stdout_is_no_error(tmp_path):
    small_run(tmp_path / "r.db")
    script = f'exec "{sys.executable}" -m watcher.cli results --db r.db >&-'
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, env=env, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_device_behind_stdout_is_named(tmp_path):
    small_run(tmp_path / "r.db")
    with open("/dev/full", "w") as full:
        assert_refused(run("results", "--db", "r.db", cwd=tmp_path, out=full), 7, "no space left")


def test_text_in_a_number_column_is_refused_with_row_column_and_the_correction(ckptwatch, tmp_path):
    small_run(tmp_path / "r.db").close()
    with closing(sqlite3.connect(tmp_path / "r.db")) as connection, connection:
        connection.execute("UPDATE results SET loss = 'about 3' WHERE step = 100")
    for verb in (["results"], ["results", "--best"], ["plot"], ["compare", 100, 200], ["export", "csv"]):
        assert_refused(
            ckptwatch(*verb, "--db", "r.db"), 7, "results.loss of the row with id 1 holds the text 'about 3'"
        )
    said = ckptwatch("status", "--db", "r.db", "--json")
    assert any("holds the text" in reason for reason in said.json["reasons"])
    command = re.search(r"next:  (sqlite3 .*)", ckptwatch("results", "--db", "r.db").err)
    assert command is not None
    assert os.system(f"cd {tmp_path} && {command[1].replace('NUMBER', '2.5')}") == 0
    assert ckptwatch("results", "--db", "r.db", "--json").json[0]["loss"] == 2.5


def test_verbs_do_not_need_the_views(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    failed = database.job(database.checkpoint(500), "failed", reason="no ranks")
    queued = database.job(database.checkpoint(600), "queued")
    with closing(sqlite3.connect(tmp_path / "r.db")) as connection, connection:
        for view in ("latest", "curve", "best", "queue", "failures"):
            connection.execute(f"DROP VIEW {view}")
    assert [row["job"] for row in ckptwatch("queue", "list", "--json", "--db", "r.db").json] == [queued]
    assert [row["job"] for row in ckptwatch("queue", "list", "--failed", "--json", "--db", "r.db").json] == [failed]
    assert ckptwatch("results", "--db", "r.db").status == 0
    assert "Traceback" not in ckptwatch("status", "--db", "r.db").err


def test_failed_jobs_are_listed_with_the_number_that_retry_and_logs_take(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    job = database.job(database.checkpoint(500), "failed", reason="no ranks")
    head, listed = (line.split() for line in ckptwatch("queue", "list", "--failed", "--db", "r.db").out.splitlines())
    assert (head[0], listed[0]) == ("job", str(job))
    assert ckptwatch("queue", "retry", listed[0], "--db", "r.db").status == 0


def test_an_unforeseen_exception_is_one_sentence_and_its_traceback_is_in_a_file(ckptwatch, monkeypatch, tmp_path):
    def broken(*given):
        raise ZeroDivisionError("a defect\nwith a second line")

    monkeypatch.setattr(options, "database_url", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    said = ckptwatch("results", "--db", "postgresql://ada:hunter2@host/r")
    assert_refused(said, 1, "unexpected ZeroDivisionError: a defect; the traceback is in ")
    file = Path(re.search(r"the traceback is in (\S+)", said.err)[1])
    assert file.parent == tmp_path
    assert "ZeroDivisionError" in file.read_text() and "in broken" in file.read_text()
    assert "hunter2" not in file.read_text() + said.err
    assert file.stat().st_mode & 0o077 == 0


def test_where_no_file_can_be_written_the_traceback_is_on_stderr(ckptwatch, monkeypatch, tmp_path):
    def broken(*given):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(options, "database_url", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    said = ckptwatch("results")
    assert said.status == 1
    assert "Traceback" in said.err and "no file could be written" in said.err


def test_log_lines_of_two_runs_with_files_of_one_name_differ(capsys):
    from watcher.log import Log

    for name in ("wide", "deep"):
        Log(2).event(
            "settled", run=name, path="step_100.pt", step=100, step_source="payload", size="1 MB", family="gpt"
        )
        about = {"eval_set": "val", "kind": "corrupt", "reason": "crc", "hint": "", "progress": ""}
        Log(2).event("failed", run=name, path="step_100.pt", **about)
    lines = capsys.readouterr().err.splitlines()
    assert ["wide/step_100.pt" in line for line in lines] == [True, True, False, False]
    assert ["deep/step_100.pt" in line for line in lines] == [False, False, True, True]


def test_a_line_of_a_later_day_has_its_date_and_colour_is_for_terminals_alone(monkeypatch):
    import io

    from watcher import log as module

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    days = iter(["2026-01-31", "2026-01-31 23:59:59", "2026-02-01 00:00:01"])
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(module.time, "strftime", lambda form: next(days))
    stream = Terminal()
    log = module.Log(1, stream)
    log.event("queue_resumed")
    about = {
        "eval_set": "val",
        "kind": "corrupt",
        "reason": "crc",
        "hint": "; next: copy it",
        "progress": "  3/9",
    }
    log.event("failed", path="a.pt", **about)
    assert stream.getvalue().splitlines() == [
        "23:59:59 queue resumed",
        "\x1b[31m2026-02-01 00:00:01 failed      a.pt on val: corrupt: crc; next: copy it  3/9\x1b[0m",
    ]
    monkeypatch.setattr(module.time, "strftime", lambda form: "2026-01-31 12:00:00" if " " in form else "2026-01-31")
    for plain, variable in ((io.StringIO(), "1"), (Terminal(), "1")):
        monkeypatch.setenv("NO_COLOR", variable)
        module.Log(1, plain).event("failed", path="a.pt", **about)
        assert "\x1b" not in plain.getvalue()


def test_a_backlog_is_counted_from_one_empty_queue_to_the_next():
    from watcher.pipeline.drain import Drain

    drain = Drain()
    assert [drain.after_one(waiting) for waiting in (119, 118, 120)] == ["1/120", "2/120", "3/123"]
    assert [drain.after_one(waiting) for waiting in (0, 1, 0)] == ["4/4", "", ""]


def test_every_event_about_a_file_names_its_run():
    """A call that gives a path and no run would make the lines of two runs alike."""
    calls = []
    for file in (ROOT / "watcher" / "pipeline").glob("*.py"):
        for call in re.findall(r"log\.event\((?:[^()]|\([^()]*\))*\)", file.read_text()):
            if "path=" in call and "run=" not in call:
                calls.append(f"{file.name}: {call}")
    assert calls == []
