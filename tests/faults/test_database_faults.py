"""Rows of parts F and H on a real SQLite: locked, full, read-only, replaced, damaged, foreign; and mounts that go."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing, contextmanager

import pytest

from tests.support.daemon import ROOT, wait_until
from tests.support.tiny import write_tiny
from watcher.store.schema import REVISION

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


@contextmanager
def mounted(folder, options: str = "size=8m"):
    """A tmpfs of its own."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


def content_of(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_row_65_a_database_locked_by_somebody_pauses_and_heals_and_no_number_is_lost(site):
    here = site(rules=[{"do": "answer", "pause_s": 1}])
    write_tiny(here.folder / "step_1.pt", 1)
    daemon = here.start()
    wait_until(lambda: here.query("SELECT 1 FROM attempts WHERE started_at IS NOT NULL"))
    other = sqlite3.connect(here.database, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    write_tiny(here.folder / "step_2.pt", 2)
    wait_until(lambda: "paused: the database" in here.log())
    wait_until(lambda: here.health().get("state") == "paused")
    assert "locked" in here.health()["reasons"][0]
    other.execute("ROLLBACK")
    other.close()
    here.wait_for_results(2)
    assert "resumed" in here.log()
    assert here.stop(daemon) == 0
    assert [job[1:4] for job in here.jobs()] == [("succeeded", None, 1)] * 2
    here.assert_sound()


@needs_root
def test_row_66_a_full_disk_under_the_database_pauses_and_heals(site, tmp_path):
    with mounted(tmp_path / "small", "size=2m") as small:
        here = site(store={"url": str(small / "c.db"), "state_dir": str(tmp_path / "state")})
        here.start()
        write_tiny(here.folder / "step_1.pt", 1)
        here.wait_for_results(1)
        filler = small / "filler"
        with open(filler, "wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(bytes(4096))
        for step in range(2, 42):  # the journal keeps its room: only a database that must grow meets the full disk
            write_tiny(here.folder / f"step_{step}.pt", step)
        wait_until(lambda: "paused" in here.log())
        assert here.started[-1].poll() is None
        filler.unlink()
        here.wait_for_results(41)
        here.assert_sound()
        assert here.stop() == 0


@needs_root
@pytest.mark.parametrize("options", ["size=1m", "nr_inodes=60"])
def test_row_67_a_full_state_folder_pauses_and_heals(site, tmp_path, options):
    with mounted(tmp_path / "small", options) as small:
        here = site(store={"state_dir": str(small / "state")})
        here.start()
        write_tiny(here.folder / "step_1.pt", 1)
        here.wait_for_results(1)
        fillers = small / "fillers"
        fillers.mkdir()
        with pytest.raises(OSError):
            for number in range(10_000):
                (fillers / str(number)).write_bytes(bytes(4096))
        write_tiny(here.folder / "step_2.pt", 2)
        wait_until(lambda: "cannot launch" in here.log() or "paused" in here.log())
        assert here.started[-1].poll() is None
        assert here.jobs()[-1][3] == 0
        subprocess.run(["rm", "-rf", fillers], check=True)
        here.wait_for_results(2)
        assert here.stop() == 0


def test_row_68_a_database_folder_in_which_nothing_can_be_written_pauses_and_heals(site):
    """A mount that turns read-only refuses the journal; the kernel lets no test remount under an open file, so a folder
    stands in the journal's place."""
    here = site()
    here.start()
    write_tiny(here.folder / "step_1.pt", 1)
    here.wait_for_results(1)
    wait_until(lambda: not here.query("SELECT 1 FROM launches WHERE finished_at IS NULL"))
    journal = here.database.with_name(here.database.name + "-journal")
    wait_until(
        lambda: not journal.exists() or not any(journal.read_bytes()[:28])
    )  # its head is wiped: nothing is under way

    def put_a_folder() -> bool:
        journal.unlink(missing_ok=True)
        try:
            journal.mkdir()
        except FileExistsError:  # the daemon wrote in between
            return False
        return True

    wait_until(put_a_folder)
    write_tiny(here.folder / "step_2.pt", 2)
    wait_until(lambda: "paused" in here.log())
    journal.rmdir()
    here.wait_for_results(2)
    assert here.stop() == 0


@pytest.mark.parametrize("damage", ["header", "page", "text", "foreign", "newer"])
def test_row_69_71_a_damaged_foreign_or_newer_database_is_refused_untouched(site, damage):
    here = site()
    write_tiny(here.folder / "step_1.pt", 1)
    if damage == "foreign":
        with closing(sqlite3.connect(here.database)) as other, other:
            other.execute("CREATE TABLE theirs (id INTEGER)")
    elif damage == "text":
        here.database.write_text("not a database, but somebody's notes\n" * 20)
    else:
        assert here.once().returncode == 0
        if damage == "newer":
            with closing(sqlite3.connect(here.database)) as other, other:
                other.execute("UPDATE alembic_version SET version_num = '9999'")
        else:
            page = here.query("SELECT rootpage FROM sqlite_master WHERE name = 'jobs'")[0][0]
            with open(here.database, "r+b") as file:
                file.seek(0 if damage == "header" else 4096 * (page - 1))
                file.write(b"\xff" * 3000)
    before = content_of(here.database)
    done = here.once()
    assert done.returncode == 7, done.stderr
    assert str(here.database) in done.stderr
    assert "next:" in done.stderr
    assert content_of(here.database) == before


def test_row_69_a_database_deleted_or_replaced_under_the_daemon_is_noticed(site):
    here = site()
    here.start()
    write_tiny(here.folder / "step_1.pt", 1)
    here.wait_for_results(1)
    kept = here.database.with_name("moved.db")
    os.replace(here.database, kept)
    write_tiny(here.folder / "step_2.pt", 2)
    wait_until(lambda: "is gone" in here.log())
    assert not here.database.exists()
    os.replace(kept, here.database)
    here.wait_for_results(2)
    assert here.stop() == 0


NEXT_VERSION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9001", {newest!r}, None, None


def upgrade() -> None:
    with op.batch_alter_table("results") as table:
        table.add_column(sa.Column("of_the_next_version", sa.Integer))
    op.execute("UPDATE results SET of_the_next_version = step")
"""


def test_row_70_the_next_version_copies_and_migrates_the_database_of_this_one_and_keeps_its_rows(site, tmp_path):
    """The next version is a copy of this one's source with one migration more."""
    here = site()
    write_tiny(here.folder / "step_1.pt", 1)
    assert here.once().returncode == 0
    rows = here.query("SELECT * FROM results")
    following = tmp_path / "next"
    for name in ("watcher", "evalcore", "migrations"):
        shutil.copytree(ROOT / name, following / name, ignore=shutil.ignore_patterns("__pycache__"))
    (following / "migrations/versions/9001_next.py").write_text(NEXT_VERSION.format(newest=REVISION))
    schema = following / "watcher/store/schema.py"
    schema.write_text(schema.read_text().replace(f'REVISION = "{REVISION}"', 'REVISION = "9001"'))
    write_tiny(here.folder / "step_2.pt", 2)
    done = subprocess.run(
        here.command("run", "--once"), cwd=here.root, env={**os.environ, "PYTHONPATH": str(following)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert here.query("SELECT * FROM results WHERE step = 1") == [(*rows[0], 1)]
    assert here.query("SELECT step, of_the_next_version FROM results ORDER BY step") == [(1, 1), (2, None)]
    (copy,) = here.root.glob("ckptwatch.db.backup-*")
    with closing(sqlite3.connect(copy)) as before, before:
        assert before.execute("SELECT * FROM results").fetchall() == rows
        assert before.execute("SELECT version_num FROM alembic_version").fetchone() == (REVISION,)
    after = here.once()
    assert (after.returncode, "newer ckptwatch" in after.stderr) == (7, True)
    here.assert_sound()


@needs_root
def test_row_72_a_migration_without_room_leaves_nothing_half_made(site, tmp_path):
    with mounted(tmp_path / "small", "size=64k") as small:
        here = site(store={"url": str(small / "c.db"), "state_dir": str(tmp_path / "state")})
        write_tiny(here.folder / "step_1.pt", 1)
        done = here.once()
        assert done.returncode == 7, done.stderr
        assert not (small / "c.db").exists()
        subprocess.run(["mount", "-o", "remount,size=8m", small], check=True)
        assert here.once().returncode == 0


def test_row_73_a_reader_that_never_ends_delays_but_does_not_stop(site):
    here = site()
    daemon = here.start()
    write_tiny(here.folder / "step_1.pt", 1)
    here.wait_for_results(1)
    reader = sqlite3.connect(here.database, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM results").fetchone()
    write_tiny(here.folder / "step_2.pt", 2)
    wait_until(lambda: "paused" in here.log() or len(here.results()) == 2)
    reader.execute("ROLLBACK")
    reader.close()
    here.wait_for_results(2)
    wal = here.database.with_name(here.database.name + "-wal")
    assert not wal.exists() or wal.stat().st_size < 32 << 20
    assert here.stop(daemon) == 0


# -- the watched folder's own mount ------------------------------------------------------------------------------------


@pytest.mark.short
def test_row_53_a_folder_that_is_missing_deleted_or_renamed_is_waited_for(site):
    here = site()
    here.folder.rmdir()
    here.start()
    wait_until(lambda: here.health().get("state") == "degraded")
    here.folder.mkdir()
    write_tiny(here.folder / "step_1.pt", 1)
    here.wait_for_results(1)
    away = here.root / "away"
    os.rename(here.folder, away)
    wait_until(lambda: here.health().get("state") == "degraded", within_s=40)
    assert here.failures() == {}
    os.rename(away, here.folder)
    write_tiny(here.folder / "step_2.pt", 2)
    here.wait_for_results(2)
    assert here.failures() == {}
    wait_until(lambda: here.health().get("state") == "ok", within_s=40)


@needs_root
def test_row_54_an_unmounted_folder_makes_nothing_vanish_and_goes_on_when_it_is_back(site, tmp_path):
    here = site(rules=[{"do": "answer", "pause_s": 1}], run={"pin": "never"}, launch={"linger_s": 0.0})
    disk = tmp_path / "disk"
    with mounted(disk):
        subprocess.run(["mount", "--bind", disk, here.folder], check=True)
        try:
            for step in range(1, 9):
                write_tiny(here.folder / f"step_{step}.pt", step)
            here.start()
            here.wait_for_results(1)
            subprocess.run(["umount", "-l", here.folder], check=True)
            wait_until(lambda: "unmounted" in here.log())
            wait_until(lambda: not here.query("SELECT 1 FROM jobs WHERE state = 'running'"))
            assert "vanished" not in {job[2] for job in here.jobs()}
            assert here.failures() == {}
            subprocess.run(["mount", "--bind", disk, here.folder], check=True)
            here.wait_for_results(8)
            assert here.failures() == {}
            assert here.stop() == 0
        finally:
            subprocess.run(["umount", "-l", here.folder], check=False, capture_output=True)


@needs_root
def test_row_57_a_read_only_folder_is_served_like_any_other(site, tmp_path):
    here = site()
    write_tiny(here.folder / "step_1.pt", 1)
    subprocess.run(["mount", "--bind", here.folder, here.folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", here.folder], check=True)
        assert here.once().returncode == 0
    finally:
        subprocess.run(["umount", "-l", here.folder], check=False)
    assert os.listdir(here.folder) == ["step_1.pt"]


def test_row_51_52_55_without_file_events_the_scan_alone_finds_everything(site):
    """In a user namespace of its own the daemon may have no inotify instance: it says so and polls."""
    lowered = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
    prefix = ("unshare", "--user", "--map-root-user", "sh", "-c", lowered, "sh")
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    here = site()
    here.start(prefix=prefix)
    assert "no file events" in here.log()
    write_tiny(here.folder / "step_1.pt", 1)
    here.wait_for_results(1)
    wait_until(lambda: here.health().get("state") == "degraded")
    assert here.stop() == 0


def test_row_56_a_scan_that_hangs_leaves_the_main_loop_alive_and_health_bad(site, tmp_path):
    """The scan thread alone is made to wait, as a hung file system would."""
    here = site()
    code = (
        "import os, threading, watcher.detect.scan as o; real = os.scandir\n"
        "def hang(folder):\n"
        "    if os.readlink(f'/proc/self/fd/{folder}').endswith('checkpoints') and os.path.exists('hang'):\n"
        "        threading.Event().wait()\n"
        "    return real(folder)\n"
        "o.os.scandir = lambda path: hang(path) if isinstance(path, int) else real(path)\n"
        "import watcher.domain.health as h; h.SCAN_LATE = -100\n"
        "from watcher.cli import main; main()"
    )
    log = open(here.root / "daemon-0.log", "wb")
    from tests.support.daemon import PYTHON

    daemon = subprocess.Popen(
        [PYTHON, "-c", code, *here.command("run")[3:]], cwd=here.root, stdout=log, stderr=log
    )  # fmt: skip
    here.started.append(daemon)
    write_tiny(here.folder / "step_1.pt", 1)
    here.wait_for_results(1)
    (here.root / "hang").touch()
    wait_until(lambda: any("its scan is stuck" in reason for reason in here.health().get("reasons", [])), within_s=40)
    write_tiny(here.folder / "step_2.pt", 2)
    here.wait_for_results(2)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(15) == 0
