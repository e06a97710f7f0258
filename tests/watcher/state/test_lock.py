"""The locks of a state folder and of a database file, seen by their holder and by others."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from watcher.domain.health import LockState
from watcher.errors import LockHeld
from watcher.state.folder import StateFolder
from watcher.state.lock import DatabaseLock, Lock, holder, is_held, lock_facts


def test_the_lock_names_its_holder_and_the_holders_state_folder(tmp_path):
    lock = Lock(tmp_path / "lock", tmp_path / "chosen")
    lock.take()
    facts = lock_facts(tmp_path / "lock", time.time())
    assert (facts.state, facts.pid) == (LockState.HELD, os.getpid())
    assert holder(tmp_path / "lock").state_dir == tmp_path / "chosen"
    with pytest.raises(LockHeld, match=f"pid {os.getpid()}"):
        Lock(tmp_path / "lock").take()
    lock.release()
    assert not is_held(tmp_path / "lock")


def test_a_lock_file_that_was_removed_or_replaced_is_noticed(tmp_path):
    lock = Lock(tmp_path / "lock")
    lock.take()
    assert lock.is_intact()
    (tmp_path / "lock").unlink()
    assert not lock.is_intact()
    (tmp_path / "lock").touch()
    assert not lock.is_intact()
    lock.release()


def test_a_lock_without_permission_is_neither_held_nor_free():
    """Another user's state folder may be entered by nobody else."""
    with tempfile.TemporaryDirectory() as folder:
        lock = Lock(Path(folder) / "lock")
        lock.take()
        os.chmod(folder, 0o700 if os.geteuid() == 0 else 0o000)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            if os.geteuid() == 0:
                os.setuid(65534)
            os.write(writer, lock_facts(Path(folder) / "lock", time.time()).state.encode())
            os._exit(0)
        os.waitpid(pid, 0)
        os.chmod(folder, 0o700)
        lock.release()
        assert os.read(reader, 100).decode() == LockState.UNREADABLE


def test_the_database_lock_holds_for_every_name_of_the_file_and_leaves_sqlite_alone(tmp_path):
    file, other = tmp_path / "a.db", tmp_path / "b.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    os.link(file, other)
    lock = DatabaseLock(file)
    lock.take()
    assert lock.covers()
    taking = "import sys, pathlib, watcher.state.lock as l; l.DatabaseLock(pathlib.Path(sys.argv[1])).take()"
    taken = subprocess.run([sys.executable, "-c", taking, str(other)], capture_output=True, text=True)
    assert taken.returncode == 1 and "LockHeld" in taken.stderr
    writing = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('INSERT INTO t VALUES (1)'); c.commit()"
    subprocess.run([sys.executable, "-c", writing, str(file)], check=True)
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (1,)
    connection.close()
    lock.release()


def test_the_state_folder_is_the_running_daemons_then_the_chosen_then_the_one_beside(tmp_path):
    url = str(tmp_path / "r.db")
    beside = StateFolder.beside(url)
    assert StateFolder.of_database(url) == beside
    assert StateFolder.of_database(url, tmp_path / "chosen").root == tmp_path / "chosen"
    beside.root.mkdir()
    lock = Lock(beside.lock, tmp_path / "of_the_daemon")
    lock.take()
    for chosen in (None, tmp_path / "chosen"):
        assert StateFolder.of_database(url, chosen).root == tmp_path / "of_the_daemon"
    (tmp_path / "link.db").symlink_to(tmp_path / "r.db")
    assert StateFolder.of_database(f"sqlite:///{tmp_path}/link.db").root == tmp_path / "of_the_daemon"
    lock.release()
