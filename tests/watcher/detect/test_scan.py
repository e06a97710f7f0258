"""Real folders, real inotify: what the watch reports, and what the prober makes of it."""

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
from watcher.detect.events import FolderWatch, Hint
from watcher.detect.probe import FolderProber, Rejection, SettledFile
from watcher.detect.settle import Settler
from watcher.domain.checkpoint import NamePattern


class Folder:
    """A watched folder and its prober, ticked until a condition holds."""

    def __init__(self, root: Path, include: tuple[str, ...] = ("*.pt",), **more) -> None:
        self.root, self.wake = root, threading.Event()
        pattern = NamePattern(include)
        self.watch = FolderWatch(str(root), pattern, 3600.0, self.wake.set)
        self.prober = FolderProber(str(root), pattern, self.watch, Settler(0.3, 600.0), **more)
        self.settled: list[SettledFile] = []
        self.rejections: list[Rejection] = []
        self.watch.start(set())

    def until(self, condition, timeout_s: float = 20.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"settled {self.settled}, rejections {self.rejections}"
            self.wake.clear()
            _, rejections = self.prober.take_in(time.monotonic())
            self.rejections += rejections
            for item in self.prober.settled(time.monotonic(), 100):
                (self.rejections if isinstance(item, Rejection) else self.settled).append(item)
            self.wake.wait(0.05)

    def paths(self) -> list[str]:
        return [settled.path for settled in self.settled]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    root = tmp_path / "ck"
    root.mkdir()
    watched = Folder(root)
    watched.until(lambda: watched.prober.scans)
    yield watched
    watched.watch.stop()


def test_a_saved_file_is_found_by_its_event_long_before_the_next_scan(folder: Folder) -> None:
    checkpoints.save_rosellm(folder.root / "model_10.pt", step=10)
    folder.until(lambda: folder.settled)
    assert folder.paths() == ["model_10.pt"] and folder.settled[0].step.value == 10
    assert folder.prober.scans == 1


def test_a_file_renamed_into_place_is_found_under_its_final_name_only(folder: Folder) -> None:
    checkpoints.save_rosellm(folder.root / "x.pt.tmp", step=10)
    os.replace(folder.root / "x.pt.tmp", folder.root / "x.pt")
    folder.until(lambda: folder.settled)
    assert folder.paths() == ["x.pt"]


def test_a_half_written_file_waits_and_is_found_when_its_writer_is_done(folder: Folder, tmp_path: Path) -> None:
    whole = checkpoints.save_rosellm(tmp_path / "elsewhere.bin", step=10).read_bytes()
    half = folder.root / "x.pt"
    half.write_bytes(whole[: len(whole) // 2])
    folder.until(lambda: folder.rejections)
    assert [(v.kind, v.final) for v in folder.rejections] == [("incomplete", False)]
    with open(half, "ab") as file:
        file.write(whole[len(whole) // 2 :])
    folder.until(lambda: folder.settled)
    assert folder.paths() == ["x.pt"]


def test_a_file_that_is_gone_before_it_settled_is_vanished_and_not_silence(folder: Folder) -> None:
    (folder.root / "x.pt").write_bytes(b"PK")
    folder.until(lambda: folder.prober.settler.candidates)
    (folder.root / "x.pt").unlink()
    folder.until(lambda: any(v.final for v in folder.rejections))
    assert [(v.path, v.kind) for v in folder.rejections if v.final] == [("x.pt", "vanished")]


def test_a_scan_reports_a_version_once_and_a_changed_one_again(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"1")
    watch = FolderWatch(str(tmp_path), NamePattern(("*.pt",)), 10, threading.Event())
    assert [path for path, _ in watch.scan().observations] == ["a.pt"]
    assert watch.scan().observations == []
    (tmp_path / "a.pt").write_bytes(b"12")
    assert [path for path, _ in watch.scan().observations] == ["a.pt"]


def test_a_file_that_grows_across_scans_loses_nothing_and_a_registered_one_that_changes_does(tmp_path: Path) -> None:
    """`lost` makes the run one that rotates, for good: a file that is still written must not count."""
    watch = FolderWatch(str(tmp_path), NamePattern(("*.pt",)), 10, threading.Event())
    for size in (1, 2, 3):
        (tmp_path / "a.pt").write_bytes(b"1" * size)
        report = watch.scan()
        assert [path for path, _ in report.observations] == ["a.pt"] and report.lost == 0
    watch.remember(*report.observations[0])
    assert watch.scan().lost == 0
    (tmp_path / "a.pt").write_bytes(b"1234")
    assert watch.scan().lost == 1
    (tmp_path / "a.pt").unlink()
    assert watch.scan().lost == 0  # that version was never registered


def test_a_name_renamed_before_it_is_quiet_goes_on_under_its_new_name_without_a_failure(folder: Folder) -> None:
    checkpoints.save_rosellm(folder.root / "new.pt", step=7)
    folder.until(lambda: "new.pt" in folder.prober.settler.candidates)
    os.replace(folder.root / "new.pt", folder.root / "step_7.pt")
    folder.until(lambda: folder.settled and not folder.prober.settler.candidates)
    assert folder.paths() == ["step_7.pt"] and folder.rejections == []


def test_a_rename_that_no_event_told_is_recognised_by_the_next_scan(tmp_path: Path) -> None:
    """Polling: only scans see the new name."""
    checkpoints.save_rosellm(tmp_path / "new.pt", step=7)
    pattern = NamePattern(("*.pt",))
    watch = FolderWatch(str(tmp_path), pattern, 3600.0, threading.Event())  # not started: no events, no thread
    prober = FolderProber(str(tmp_path), pattern, watch, Settler(1e-9, 600.0))
    watch.reports.put(watch.scan())
    prober.take_in(time.monotonic())
    os.replace(tmp_path / "new.pt", tmp_path / "step_7.pt")
    assert list(prober.settled(time.monotonic(), 10)) == []
    watch.reports.put(watch.scan())
    assert prober.take_in(time.monotonic())[1] == []
    assert [item.path for item in prober.settled(time.monotonic(), 10)] == ["step_7.pt"]
    assert prober.settler.candidates == {}


def test_a_rename_to_a_name_that_is_not_watched_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"PK")
    pattern = NamePattern(("*.pt",))
    watch = FolderWatch(str(tmp_path), pattern, 3600.0, threading.Event())  # not started: the event comes by hand
    prober = FolderProber(str(tmp_path), pattern, watch, Settler(2.0, 600.0))
    watch.reports.put(watch.scan())
    prober.take_in(time.monotonic())
    os.replace(tmp_path / "x.pt", tmp_path / "x.old")
    watch.hints.put(Hint("x.old", True, moved_from="x.pt"))
    _, rejections = prober.take_in(time.monotonic())
    assert [(r.path, r.kind, r.final) for r in rejections] == [("x.pt", "vanished", True)]
    assert "renamed to x.old, which is not watched" in rejections[0].reason
    assert prober.settler.candidates == {}


def test_an_unforeseen_error_about_one_file_costs_that_file_only(folder: Folder, monkeypatch) -> None:
    from watcher.detect import probe

    real = probe.summarise

    def fails_for_one(path, **more):
        if path.endswith("odd.pt"):
            raise ZeroDivisionError("odd")
        return real(path, **more)

    monkeypatch.setattr(probe, "summarise", fails_for_one)
    checkpoints.save_rosellm(folder.root / "odd.pt", step=1)
    checkpoints.save_rosellm(folder.root / "good.pt", step=2)
    folder.until(lambda: folder.settled and folder.rejections)
    assert folder.paths() == ["good.pt"]
    rejection = folder.rejections[0]
    assert (rejection.path, rejection.kind, rejection.final) == ("odd.pt", "unreadable", False)
    assert "ZeroDivisionError: odd" in rejection.reason


def test_a_scan_that_fails_unforeseen_is_reported_and_scanning_goes_on(tmp_path: Path, monkeypatch) -> None:
    from watcher.detect.scan import FolderScan

    real, calls = FolderScan.scan, []

    def fails_once(self, report_progress):
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("odd")
        return real(self, report_progress)

    monkeypatch.setattr(FolderScan, "scan", fails_once)
    (tmp_path / "a.pt").write_bytes(b"1")
    watch = FolderWatch(str(tmp_path), NamePattern(("*.pt",)), 3600.0, lambda: None)
    watch.start(set())
    first, second = watch.reports.get(timeout=20), watch.reports.get(timeout=20)
    watch.stop()
    assert "ZeroDivisionError: odd" in (first.error or "")
    assert [path for path, _ in second.observations] == ["a.pt"]


def test_a_single_pass_does_not_wait_for_a_marker_that_never_comes(tmp_path: Path) -> None:
    checkpoints.save_rosellm(tmp_path / "m_5.pt", step=5)
    watched = Folder(tmp_path, ready_marker="{stem}.done", patient=False)
    watched.until(lambda: watched.rejections)
    watched.watch.stop()
    assert [(r.path, r.kind, r.reason) for r in watched.rejections] == [
        ("m_5.pt", "incomplete", "waits for its ready marker m_5.done")
    ]
    assert watched.prober.settler.candidates == {}


def test_subfolders_are_watched_where_a_glob_asks_for_them(tmp_path: Path) -> None:
    root = tmp_path / "out"
    root.mkdir()
    watched = Folder(root, include=("**/*.pt",))
    watched.until(lambda: watched.prober.scans)
    (root / "step_5").mkdir()
    checkpoints.save_rosellm(root / "step_5" / "model.pt", step=5)
    watched.until(lambda: watched.settled)
    watched.watch.stop()
    assert watched.paths() == ["step_5/model.pt"]


def test_a_marker_must_be_there_and_not_older_than_the_file(tmp_path: Path) -> None:
    root = tmp_path / "out"
    root.mkdir()
    watched = Folder(root, ready_marker="{stem}.done")
    checkpoints.save_rosellm(root / "m_5.pt", step=5)
    (root / "m_5.done").touch()
    os.utime(root / "m_5.done", (1, 1))
    watched.until(lambda: any(c.probes for c in watched.prober.settler.candidates.values()))
    assert watched.settled == []
    (root / "m_5.done").unlink()
    (root / "m_5.done").touch()
    watched.until(lambda: watched.settled)
    watched.watch.stop()
    assert watched.paths() == ["m_5.pt"]


def test_a_folder_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    watched = Folder(tmp_path / "later")
    watched.until(lambda: watched.prober.last_report is not None)
    assert "No such file" in (watched.prober.last_report.error or "")  # type: ignore[union-attr]
    (tmp_path / "later").mkdir()
    checkpoints.save_rosellm(tmp_path / "later" / "a.pt", step=1)
    watched.watch.scan_soon()
    watched.until(lambda: watched.settled)
    watched.watch.stop()
    assert watched.paths() == ["a.pt"]


def test_without_a_free_inotify_instance_the_scans_do_the_work(tmp_path: Path) -> None:
    """In a user namespace of its own, whose limit is none."""
    code = (
        "import sys, threading; from watcher.detect.events import *\n"
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


def test_a_file_without_checksums_is_read_whole_and_tells_how_far_it_is_so_that_nobody_thinks_the_loop_stuck(
    tmp_path: Path,
) -> None:
    import torch

    said = {"model": {"w": torch.zeros(3 << 20)}, "step": 4}
    torch.save(said, tmp_path / "step_4.pt", _use_new_zipfile_serialization=False)
    size, told = (tmp_path / "step_4.pt").stat().st_size, []
    watched = Folder(tmp_path, reading=lambda path, done, total: told.append((path, done, total)))
    watched.until(lambda: watched.settled)
    watched.watch.stop()
    assert watched.settled[0].summary.unverified
    assert len(told) == -(-size // (4 << 20))  # one for each 4 MiB
    assert told[-1] == ("step_4.pt", size, size)
