"""Readers beside processes that write, and that die while they write: real processes on a real SQLite."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

from sqlalchemy import text

from watcher.store.engine import open_store
from watcher.store.migrate import open_for_writing
from watcher.store.write import runs

NOW = "2026-01-01T00:00:00.000000Z"
#: With synchronous = OFF the journal has its head before a page of the database is written.
BEGINS = """
import os, signal, sqlite3, sys
writer = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
writer.execute("PRAGMA synchronous = OFF")
writer.execute("PRAGMA journal_mode = PERSIST")
writer.execute("BEGIN IMMEDIATE")
writer.execute("UPDATE runs SET dir = '/never/committed'")
os.kill(os.getpid(), signal.SIGKILL)
"""
DIES = """
import os, signal, sqlite3, sys
writer = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
writer.execute("PRAGMA journal_mode = PERSIST")
writer.execute("PRAGMA cache_size = 2")
writer.execute("BEGIN IMMEDIATE")
writer.execute("UPDATE runs SET dir = '/never/committed'")
writer.execute("CREATE TABLE large AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) "
               "SELECT i, randomblob(4000) FROM n")
os.kill(os.getpid(), signal.SIGKILL)
"""


def database(folder: Path) -> Path:
    path = folder / "r.db"
    made = open_for_writing(os.fspath(path))
    runs.adopt_run(made, "gpt", "/ck", NOW)
    made.close()
    return path


def test_a_reader_that_meets_the_first_moment_of_a_commit_looks_again(tmp_path: Path) -> None:
    """For a reader that moment is a journal with a head and no lock on the database; it lasts microseconds.

    Here a dead writer's journal stands for it, and its head is wiped, as the end of a commit does, while the reader
    looks.
    """
    path = database(tmp_path)
    reader = open_store(os.fspath(path), readonly=True)
    assert subprocess.run([sys.executable, "-c", BEGINS, path]).returncode == -signal.SIGKILL
    journal = path.with_name("r.db-journal")
    assert any(journal.read_bytes()[:8]) and b"/never/committed" not in path.read_bytes()

    def end_commit() -> None:
        with open(journal, "r+b") as file:
            file.write(bytes(28))

    ending = threading.Timer(0.05, end_commit)
    ending.start()
    with reader.read() as tx:
        assert tx.execute(text("SELECT dir FROM runs")).scalar_one() == "/ck"
    ending.join()
    reader.close()


def test_a_reader_that_stays_open_goes_on_when_a_writer_was_killed_in_the_middle_of_a_commit(tmp_path: Path) -> None:
    path = database(tmp_path)
    reader = open_store(os.fspath(path), readonly=True)
    with reader.read() as tx:
        assert tx.execute(text("SELECT dir FROM runs")).scalar_one() == "/ck"
    died = subprocess.run([sys.executable, "-c", DIES, path])
    assert died.returncode == -signal.SIGKILL
    journal = path.with_name("r.db-journal")
    assert any(journal.read_bytes()[:8]) and b"/never/committed" in path.read_bytes()  # left behind, half written
    with reader.read() as tx:
        assert tx.execute(text("SELECT dir FROM runs")).scalar_one() == "/ck"
    reader.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
