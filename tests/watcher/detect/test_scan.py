"""Real folders, real inotify: what the watch reports, and what the gatherer makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import checkpoints
from watcher.detect.probe import FolderProber, Rejection, SettledFile
from watcher.detect.scan import FolderWatch, Irregular, look, version_key
from watcher.detect.settle import Settler
from watcher.detect.spool import Spool, should_pin
from watcher.domain.checkpoint import Fingerprint, NamePattern


class Folder:
    """A watched folder and its gatherer, ticked until a condition holds."""

    def __init__(self, root: Path, include: tuple[str, ...] = ("*.pt",), **more) -> None:
        self.root, self.wake = root, threading.Event()
        pattern = NamePattern(include)
        self.watch = FolderWatch(str(root), pattern, 3600.0, self.wake)
        self.gatherer = FolderProber(str(root), pattern, self.watch, Settler(0.3, 600.0), **more)
        self.found: list[SettledFile] = []
        self.verdicts: list[Rejection] = []
        self.watch.start(set())

    def until(self, condition, timeout_s: float = 20.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"found {self.found}, verdicts {self.verdicts}"
            self.wake.clear()
            _, verdicts = self.gatherer.take_in(time.monotonic())
            self.verdicts += verdicts
            for item in self.gatherer.settled(time.monotonic(), 100):
                (self.verdicts if isinstance(item, Rejection) else self.found).append(item)
            self.wake.wait(0.05)

    def paths(self) -> list[str]:
        return [found.path for found in self.found]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    root = tmp_path / "ck"
    root.mkdir()
    watched = Folder(root)
    watched.until(lambda: watched.gatherer.scans)
    yield watched
    watched.watch.stop()


def test_a_saved_file_is_found_by_its_event_long_before_the_next_scan(folder: Folder) -> None:
    checkpoints.save_rosellm(folder.root / "model_10.pt", step=10)
    folder.until(lambda: folder.found)
    assert folder.paths() == ["model_10.pt"] and folder.found[0].step.value == 10
    assert folder.gatherer.scans == 1


def test_a_file_renamed_into_place_is_found_under_its_final_name_only(folder: Folder) -> None:
    checkpoints.save_rosellm(folder.root / "x.pt.tmp", step=10)
    os.replace(folder.root / "x.pt.tmp", folder.root / "x.pt")
    folder.until(lambda: folder.found)
    assert folder.paths() == ["x.pt"]


def test_a_half_written_file_waits_and_is_found_when_its_writer_is_done(folder: Folder, tmp_path: Path) -> None:
    whole = checkpoints.save_rosellm(tmp_path / "elsewhere.bin", step=10).read_bytes()
    half = folder.root / "x.pt"
    half.write_bytes(whole[: len(whole) // 2])
    folder.until(lambda: folder.verdicts)
    assert [(v.kind, v.final) for v in folder.verdicts] == [("incomplete", False)]
    with open(half, "ab") as file:
        file.write(whole[len(whole) // 2 :])
    folder.until(lambda: folder.found)
    assert folder.paths() == ["x.pt"]


def test_a_file_that_is_gone_before_it_settled_is_vanished_and_not_silence(folder: Folder) -> None:
    (folder.root / "x.pt").write_bytes(b"PK")
    folder.until(lambda: folder.gatherer.settler.candidates)
    (folder.root / "x.pt").unlink()
    folder.until(lambda: any(v.final for v in folder.verdicts))
    assert [(v.path, v.kind) for v in folder.verdicts if v.final] == [("x.pt", "vanished")]


def test_links_fifos_and_folders_are_told_for_what_they_are(tmp_path: Path) -> None:
    root = tmp_path / "ck"
    (root / "folder.pt").mkdir(parents=True)
    checkpoints.save_rosellm(root / "a.pt", step=1)
    os.mkfifo(root / "fifo.pt")
    for name, target in (
        ("latest.pt", "a.pt"),
        ("zero.pt", "/dev/zero"),
        ("loop.pt", "loop.pt"),
        ("lost.pt", "nowhere"),
    ):
        (root / name).symlink_to(target)
    said = {name: look(str(root), name) for name in os.listdir(root)}
    assert isinstance(said.pop("a.pt"), Fingerprint)
    reasons = {name: found.reason for name, found in said.items() if isinstance(found, Irregular)}
    assert reasons["fifo.pt"] == "a FIFO" and reasons["folder.pt"] == "a folder"
    assert reasons["zero.pt"] == "a link to a character device" and "followed" in reasons["loop.pt"]
    assert reasons["lost.pt"] == "a link that leads nowhere"
    latest = said["latest.pt"]
    assert isinstance(latest, Irregular) and latest.alias


def test_a_scan_reports_a_version_once_and_a_changed_one_again(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"1")
    watch = FolderWatch(str(tmp_path), NamePattern(("*.pt",)), 10, threading.Event())
    assert [path for path, _ in watch.scan().observations] == ["a.pt"]
    assert watch.scan().observations == []
    (tmp_path / "a.pt").write_bytes(b"12")
    again = watch.scan()
    assert [path for path, _ in again.observations] == ["a.pt"] and again.lost == 1


def test_subfolders_are_watched_where_a_glob_asks_for_them(tmp_path: Path) -> None:
    root = tmp_path / "out"
    root.mkdir()
    watched = Folder(root, include=("**/*.pt",))
    watched.until(lambda: watched.gatherer.scans)
    (root / "step_5").mkdir()
    checkpoints.save_rosellm(root / "step_5" / "model.pt", step=5)
    watched.until(lambda: watched.found)
    watched.watch.stop()
    assert watched.paths() == ["step_5/model.pt"]


def test_a_marker_must_be_there_and_not_older_than_the_file(tmp_path: Path) -> None:
    root = tmp_path / "out"
    root.mkdir()
    watched = Folder(root, ready_marker="{stem}.done")
    checkpoints.save_rosellm(root / "m_5.pt", step=5)
    (root / "m_5.done").touch()
    os.utime(root / "m_5.done", (1, 1))
    watched.until(lambda: any(c.probes for c in watched.gatherer.settler.candidates.values()))
    assert watched.found == []
    (root / "m_5.done").unlink()
    (root / "m_5.done").touch()
    watched.until(lambda: watched.found)
    watched.watch.stop()
    assert watched.paths() == ["m_5.pt"]


def test_a_folder_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    watched = Folder(tmp_path / "later")
    watched.until(lambda: watched.gatherer.last_report is not None)
    assert "No such file" in (watched.gatherer.last_report.error or "")  # type: ignore[union-attr]
    (tmp_path / "later").mkdir()
    checkpoints.save_rosellm(tmp_path / "later" / "a.pt", step=1)
    watched.watch.scan_soon()
    watched.until(lambda: watched.found)
    watched.watch.stop()
    assert watched.paths() == ["a.pt"]


def test_without_a_free_inotify_instance_the_scans_do_the_work(tmp_path: Path) -> None:
    """In a user namespace of its own, whose limit is none."""
    code = (
        "import sys, threading; from watcher.detect.scan import *; from watcher.domain.checkpoint import NamePattern\n"
        "w = FolderWatch(sys.argv[1], NamePattern(('*.pt',)), 10, threading.Event()); w.start(set())\n"
        "print(w.polling_because, [p for p, _ in w.reports.get(timeout=20).observations])"
    )
    (tmp_path / "a.pt").write_bytes(b"1")
    script = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
    command = ["unshare", "-Ur", "sh", "-c", script, "sh", sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[3])
    if "unshare" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert "EMFILE" in done.stdout and "['a.pt']" in done.stdout, done.stdout + done.stderr


def test_a_pinned_copy_has_the_digest_or_is_not_made(tmp_path: Path) -> None:
    from evalcore.archive import probe

    source = checkpoints.save_rosellm(tmp_path / "a.pt", step=1)
    (tmp_path / "spool").mkdir()
    spool, size = Spool(tmp_path / "spool", 10 << 20), source.stat().st_size
    digest = probe(source).digest
    copy = spool.pin(str(source), digest, size)
    assert copy is not None and copy.read_bytes() == source.read_bytes() and source.stat().st_nlink == 1
    told = []
    assert spool.pin(str(source), "sha256:" + "0" * 64, size, lambda *said: told.append(said)) is None
    assert all(0 < done <= total == size for done, total in told)
    assert Spool(tmp_path / "spool", size).pin(str(source), "sha256:" + "1" * 64, size) is None
    spool.sweep({str(copy)})
    assert list((tmp_path / "spool").iterdir()) == [copy]


def test_pinning_goes_on_until_the_trainer_is_seen_to_keep_its_files() -> None:
    assert should_pin("auto", rotates=False, overwritten=False, kept=0)
    assert not should_pin("auto", rotates=False, overwritten=False, kept=9)
    assert should_pin("auto", rotates=True, overwritten=False, kept=9)
    assert should_pin("auto", rotates=False, overwritten=True, kept=9)
    assert should_pin("always", rotates=False, overwritten=False, kept=9)
    assert not should_pin("never", rotates=True, overwritten=True, kept=0)


def test_marks_tell_versions_apart() -> None:
    a = Fingerprint(1, 2, 3, 4, 5)
    assert version_key("a", a) == version_key("a", a._replace(dev=9))
    assert (
        len(
            {
                version_key("a", a),
                version_key("b", a),
                version_key("a", a._replace(ctime_ns=6)),
                version_key("a", a._replace(inode=6)),
            }
        )
        == 4
    )


def test_a_file_without_checksums_is_read_whole_and_tells_how_far_it_is_so_that_nobody_thinks_the_loop_stuck(
    tmp_path: Path,
) -> None:
    import torch

    said = {"model": {"w": torch.zeros(3 << 20)}, "step": 4}
    torch.save(said, tmp_path / "step_4.pt", _use_new_zipfile_serialization=False)
    size, told = (tmp_path / "step_4.pt").stat().st_size, []
    watched = Folder(tmp_path, reading=lambda path, done, total: told.append((path, done, total)))
    watched.until(lambda: watched.found)
    watched.watch.stop()
    assert watched.found[0].summary.unverified
    assert len(told) == -(-size // (4 << 20))  # one for each 4 MiB
    assert told[-1] == ("step_4.pt", size, size)
