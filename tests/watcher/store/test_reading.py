"""Readers beside processes that write, and that die while they write: real processes on a real SQLite."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from sqlalchemy import text

from watcher.store.engine import open_store
from watcher.store.migrate import open_for_writing
from watcher.store.write import runs

NOW = "2026-01-01T00:00:00.000000Z"
COMMITS = 500
#: synchronous = OFF only makes it quicker: where each commit waits for the disk, readers rarely meet its first moment.
WRITER = f"""
import sqlite3, sys, time
writer = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
writer.execute("PRAGMA synchronous = OFF")
writer.execute("PRAGMA journal_mode = PERSIST")
print("ready", flush=True)
for number in range({COMMITS}):
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE runs SET dir = ?", (f"/ck/{{number}}",))
    writer.execute("COMMIT")
    time.sleep(0.001)
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


def test_a_reader_beside_a_process_that_commits_without_pause_is_never_told_that_it_cannot_read(tmp_path: Path) -> None:
    path = database(tmp_path)
    reader, seen = open_store(os.fspath(path), readonly=True), set()
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        while writer.poll() is None:
            with reader.read() as tx:
                seen.add(tx.execute(text("SELECT dir FROM runs")).scalar_one())
    reader.close()
    assert writer.returncode == 0 and len(seen) > 20


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
