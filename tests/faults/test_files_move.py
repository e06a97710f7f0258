"""Rows of parts A, D and E: files that grow, stall, vanish, change under the reader, hide behind links or odd names."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading

import pytest

from tests.support.daemon import PYTHON, ROOT, wait_until
from tests.support.tiny import tiny_bytes, write_tiny


def finished(here, path: str) -> bool:
    return any(job[0] == path and job[1] in ("succeeded", "failed", "cancelled") for job in here.jobs())


@pytest.mark.short
def test_row_01_a_slow_writer_is_not_read_before_its_end(site):
    here = site()
    here.start()
    whole, path = tiny_bytes(1, padding=400_000), here.folder / "step_1.pt"
    pause = threading.Event()
    with open(path, "wb", buffering=0) as file:
        for start in range(0, len(whole), 20_000):
            assert here.jobs() == []
            file.write(whole[start : start + 20_000])
            pause.wait(0.1)
    assert list(here.wait_for_results(1)) == ["step_1.pt"]
    assert here.query("SELECT size_bytes FROM checkpoints") == [(len(whole),)]
    assert here.failures() == {}


@pytest.mark.short
def test_row_02_a_writer_that_stalls_is_waited_for_without_an_attempt(site):
    here = site()
    here.start()
    whole, path = tiny_bytes(1, padding=5000), here.folder / "step_1.pt"
    path.write_bytes(whole[:3000])
    wait_until(lambda: here.query("SELECT 1 FROM candidates WHERE kind = 'incomplete' AND final = 0"))
    assert here.failures() == {}
    with open(path, "ab") as file:
        file.write(whole[3000:])
    here.wait_for_results(1)
    assert here.query("SELECT count(*) FROM attempts") == [(1,)]
    assert here.query("SELECT count(*) FROM candidates") == [(0,)]


def test_row_03_a_file_cut_off_for_good_is_corrupt_once_and_looked_at_again_when_it_changes(site):
    here = site(run={"incomplete_timeout_s": 1.5})
    here.start()
    whole, path = tiny_bytes(1, padding=5000), here.folder / "step_1.pt"
    path.write_bytes(whole[:3000])
    wait_until(lambda: here.failures())
    assert here.failures()["step_1.pt"][0] == "corrupt"
    path.write_bytes(whole)
    here.wait_for_results(1)
    assert here.failures() == {}


@pytest.mark.parametrize("cut", [1, 22, 23])
def test_row_04_a_file_short_of_its_last_bytes_is_never_evaluated(site, cut):
    here = site()
    (here.folder / "step_1.pt").write_bytes(tiny_bytes(1)[:-cut])
    assert here.once().returncode == 5
    assert here.failures()["step_1.pt"][0] == "corrupt"
    assert here.query("SELECT count(*) FROM attempts") == [(0,)]


def test_row_05_an_empty_file_is_waited_for_and_then_corrupt(site):
    here = site(run={"incomplete_timeout_s": 1.0})
    (here.folder / "x.pt").touch()
    here.start()
    wait_until(lambda: here.failures())
    kind, reason = here.failures()["x.pt"]
    assert (kind, "empty" in reason) == ("corrupt", True)


@pytest.mark.parametrize(("pin", "ends"), [("never", ("failed", "vanished")), ("always", ("succeeded", None))])
def test_row_32_deleted_before_its_claim_is_vanished_or_evaluated_from_its_pin(site, pin, ends):
    here = site(run={"pin": pin}, rules=[{"match": "step_1.pt", "do": "answer", "pause_s": 3}])
    write_tiny(here.folder / "step_1.pt", 1)
    here.start()
    here.wait_for_job("running")
    paths = [write_tiny(here.folder / f"step_{n}.pt", n) for n in (2, 3, 4, 5)]
    pinned = "" if pin == "never" else "WHERE spool_path IS NOT NULL"
    wait_until(lambda: here.query(f"SELECT count(*) FROM checkpoints {pinned}") == [(5,)])
    for path in paths:
        path.unlink()
    wait_until(lambda: all(finished(here, f"step_{n}.pt") for n in (2, 3, 4, 5)))
    assert {job[1:3] for job in here.jobs() if job[0] != "step_1.pt"} == {ends}


@pytest.mark.parametrize("pin", ["never", "always"])
def test_row_33_deleted_while_it_is_evaluated(site, pin):
    here = site(run={"pin": pin}, rules=[{"do": "answer", "pause_s": 1}])
    path = write_tiny(here.folder / "step_1.pt", 1)
    here.start()
    wait_until(lambda: here.query("SELECT 1 FROM attempts WHERE started_at IS NOT NULL"))
    path.unlink()
    here.wait_for_results(1)
    assert here.failures() == {}
    wait_until(lambda: not list((here.state / "spool").iterdir()))


def test_row_34_a_rotation_faster_than_the_evaluation_leaves_every_step_a_verdict_and_no_failure(site):
    here = site(rules=[{"do": "answer", "pause_s": 0.3}], settle_s=0.1, run={"pin": "always"})
    here.start()
    before, pause = None, threading.Event()
    for step in range(1, 41):
        path = write_tiny(here.folder / f"step_{step}.pt", step)
        pause.wait(0.05)
        if before:
            before.unlink()
        before = path
        wait_until(lambda step=step: here.query("SELECT 1 FROM checkpoints WHERE step = ?", step))
    wait_until(lambda: all(job[1] == "succeeded" for job in here.jobs()), within_s=60)
    assert len(here.results()) == 40
    assert here.failures() == {}


@pytest.mark.short
@pytest.mark.parametrize("way", ["in place", "renamed over"])
def test_row_35_36_overwritten_while_it_is_evaluated_no_number_stands_under_the_wrong_content(site, way):
    from tests.faults.fake_worker import loss_of

    here = site(run={"pin": "never"}, rules=[{"do": "answer", "pause_s": 1.5, "tries": 1}])
    path = here.folder / "ckpt.pt"
    path.write_bytes(tiny_bytes(1))
    here.start()
    wait_until(lambda: here.query("SELECT 1 FROM attempts WHERE started_at IS NOT NULL"))
    if way == "in place":
        path.write_bytes(tiny_bytes(2))
    else:
        write_tiny(path, 2)
    wait_until(lambda: here.query("SELECT 1 FROM results WHERE step = 2"))
    wait_until(lambda: all(job[1] in ("succeeded", "cancelled") for job in here.jobs()))
    for digest, loss in here.query("SELECT checkpoint_digest, loss FROM results"):
        assert loss == pytest.approx(loss_of(digest))
    assert here.query("SELECT step FROM checkpoints WHERE superseded = 0") == [(2,)]
    here.assert_sound()


@pytest.mark.short
def test_row_37_38_same_size_and_time_but_other_content_is_another_checkpoint(site):
    here = site(run={"pin": "never"})
    path = here.folder / "ckpt.pt"
    path.write_bytes(tiny_bytes(1, salt="a"))
    stat = path.stat()
    here.start()
    here.wait_for_results(1)
    path.write_bytes(tiny_bytes(1, salt="b"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    here.wait_for_results(2)
    path.unlink()  # ext4 gives the inode number to the next file
    path.write_bytes(tiny_bytes(1, salt="c"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    here.wait_for_results(3)
    assert len(here.query("SELECT DISTINCT checkpoint_digest FROM results")) == 3


def test_row_39_a_copy_and_a_hard_link_have_the_number_without_another_evaluation(site):
    here = site()
    path = write_tiny(here.folder / "step_1.pt", 1)
    here.start()
    here.wait_for_results(1)
    shutil.copy(path, here.folder / "copy.pt")
    os.link(path, here.folder / "link.pt")
    rows = here.wait_for_results(3)
    assert len({losses[0] for losses in rows.values()}) == 1
    assert len(here.query("SELECT DISTINCT content_digest FROM results")) == 1  # each path's own bytes were read
    assert len(here.query("SELECT 1 FROM results WHERE note LIKE 'same content as%'")) == 2


def test_row_40_a_touch_is_no_new_checkpoint(site):
    here = site()
    path = write_tiny(here.folder / "step_1.pt", 1)
    here.start()
    here.wait_for_results(1)
    os.utime(path)
    mtime_ns = path.stat().st_mtime_ns
    wait_until(lambda: here.query("SELECT 1 FROM checkpoints WHERE mtime_ns = ?", mtime_ns))
    wait_until(lambda: finished(here, "step_1.pt"))
    assert here.query("SELECT count(*), min(superseded) FROM results") == [(1, 0)]  # read again, not evaluated again
    assert len(here.query("SELECT 1 FROM jobs")) == 1


def test_row_41_a_link_that_follows_the_newest_is_not_evaluated_itself(site):
    here = site()
    here.start()
    for step in range(1, 6):
        write_tiny(here.folder / f"step_{step}.pt", step)
        fresh = here.root / "fresh"
        os.symlink(f"step_{step}.pt", fresh)
        os.replace(fresh, here.folder / "latest.pt")
        here.wait_for_results(step)
    assert "latest.pt" not in here.results()
    assert here.failures() == {}
    wait_until(lambda: "same folder" in str(here.query("SELECT ignored FROM runs")))


@pytest.mark.short
def test_row_42_irregular_names_have_a_verdict_each_and_nothing_hangs(site, monkeypatch):
    here = site()
    folder = here.folder
    os.symlink("loop.pt", folder / "loop.pt")
    os.symlink("gone", folder / "dangling.pt")
    os.symlink("/dev/zero", folder / "zero.pt")
    outside = write_tiny(here.root / "outside.pt", 9)
    os.symlink(outside, folder / "leads_out.pt")
    os.mkfifo(folder / "fifo.pt")
    (folder / "folder.pt").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    with monkeypatch.context() as inside:
        inside.chdir(folder)  # the address of a socket has at most 107 bytes
        listener.bind("socket.pt")
    write_tiny(folder / "step_1.pt", 1)
    assert here.once().returncode == 5
    irregular = {"loop.pt", "dangling.pt", "zero.pt", "leads_out.pt", "fifo.pt", "folder.pt", "socket.pt"}
    assert set(here.failures()) == irregular
    assert list(here.results()) == ["step_1.pt"]
    for name in irregular - {"folder.pt"}:
        (folder / name).unlink()
    (folder / "folder.pt").rmdir()
    for number, name in enumerate(sorted(irregular)):
        write_tiny(folder / name, 100 + number)
    assert here.once().returncode == 0
    assert here.failures() == {}
    assert len(here.results()) == 8


def test_row_42_the_verdict_of_an_irregular_file_goes_with_it(site):
    here = site()
    os.mkfifo(here.folder / "fifo.pt")
    here.start()
    wait_until(lambda: "fifo.pt" in here.failures())
    (here.folder / "fifo.pt").unlink()
    wait_until(lambda: here.failures() == {})
    os.mkfifo(here.folder / "fifo.pt")
    wait_until(lambda: "fifo.pt" in here.failures())


def test_row_43_cut_off_while_it_is_evaluated_is_no_result(site):
    here = site(run={"pin": "never", "incomplete_timeout_s": 1.0}, rules=[{"do": "answer", "pause_s": 1}])
    path = write_tiny(here.folder / "step_1.pt", 1, padding=9000)
    here.start()
    wait_until(lambda: here.query("SELECT 1 FROM attempts WHERE started_at IS NOT NULL"))
    os.truncate(path, 4000)
    wait_until(lambda: here.failures().get("step_1.pt", ("",))[0] == "corrupt")
    assert here.results() == {}


def test_row_44_a_file_that_nobody_may_read_is_told_and_evaluated_once_it_may_be_read(site):
    here = site()
    os.chmod(here.root, 0o777)
    of_pytest = [parent for parent in here.root.parents if "pytest-of-" in str(parent)]
    for parent in of_pytest:
        os.chmod(parent, parent.stat().st_mode | 0o055)
    for entry in (here.folder, here.notes):
        os.chmod(entry, 0o777)
    path = write_tiny(here.folder / "step_1.pt", 1)
    os.chmod(path, 0)
    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    probe = subprocess.run([*as_nobody, PYTHON, "-c", f"open({str(ROOT / 'watcher/log.py')!r})"], capture_output=True)
    if probe.returncode:
        pytest.skip("this checkout cannot be read by nobody")
    here.start(prefix=as_nobody, HOME=str(here.root))
    wait_until(lambda: here.query("SELECT 1 FROM candidates WHERE kind = 'unreadable' AND final = 0"))
    os.chmod(path, 0o644)
    wait_until(lambda: here.query("SELECT 1 FROM checkpoints"))
    assert here.query("SELECT 1 FROM candidates") == []


def test_row_45_temporary_names_are_left_aside_until_the_rename(site):
    here = site()
    here.start()
    for name in ("step_1.pt.tmp", ".step_1.pt.AbC123", "step_1.pt.part", "step_1.tmp.pt"):
        (here.folder / name).write_bytes(tiny_bytes(1))
    (here.folder / "step_2.pt").write_bytes(tiny_bytes(2))
    here.wait_for_results(1)
    os.replace(here.folder / "step_1.pt.tmp", here.folder / "step_1.pt")
    assert sorted(here.wait_for_results(2)) == ["step_1.pt", "step_2.pt"]


def test_row_46_with_a_ready_marker_a_file_waits_for_one_that_is_not_older(site):
    here = site(run={"ready_marker": "{name}.done"})
    stale, fresh = write_tiny(here.folder / "step_1.pt", 1), write_tiny(here.folder / "step_2.pt", 2)
    write_tiny(here.folder / "step_3.pt", 3)
    marker = here.folder / "step_1.pt.done"
    marker.touch()
    os.utime(marker, ns=(0, stale.stat().st_mtime_ns - 1))
    here.start()
    (here.folder / "step_2.pt.done").touch()
    assert fresh.exists()
    assert list(here.wait_for_results(1)) == ["step_2.pt"]
    marker.touch()
    assert sorted(here.wait_for_results(2)) == ["step_1.pt", "step_2.pt"]
    assert "step_3.pt" not in {job[0] for job in here.jobs()}


NAMES = [
    b"new\nline_1.pt", b"tab\t_2.pt", b"quote'\"_3.pt", b"percent%s%n_4.pt", b"-rf_5.pt", b"\xe2\x80\xaegnp_6.pt",
    b"\x1b[31mred_7.pt", b"n" * 249 + b"_8.pt", "\N{SNOWMAN}_9.pt".encode(), b"bad\xff\xfe_10.pt", b" lead_11.pt",
    "e\u0301_12.pt".encode(), "\u00e9_12.pt".encode(), b"$(touch owned)_13.pt", b"a;b|c&d_14.pt",
]  # fmt: skip


@pytest.mark.short
def test_row_47_100_every_name_that_a_file_system_allows_is_evaluated_and_shown_on_one_line(site):
    here = site()
    folder = os.fsencode(here.folder)
    for number, name in enumerate(NAMES):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(tiny_bytes(number))
    done = here.once()
    assert done.returncode == 0, done.stderr
    assert sum(map(len, here.results().values())) == len(NAMES)
    assert "\x1b" not in done.stderr
    assert "\u202e" not in done.stderr
    assert all(line[:2].isdigit() for line in done.stderr.splitlines() if "step" in line and "result" not in line)
    assert not (here.root / "owned").exists()
    shown = here.cli("results", "--json")
    assert shown.returncode == 0, shown.stderr


def test_row_59_odd_file_times_settle_by_observed_change(site):
    here = site()
    for number, at in enumerate((0, 1, 4_000_000_000, 2**33)):
        os.utime(write_tiny(here.folder / f"step_{number}.pt", number), (at, at))
    assert here.once().returncode == 0
    assert len(here.results()) == 4


def test_row_29_a_step_claimed_twice_or_other_than_the_name_s_keeps_its_rows(site):
    """Two files that claim one step both keep their rows; a step that differs from the name's is noted."""
    here = site()
    write_tiny(here.folder / "step_7.pt", 7, salt="a")
    write_tiny(here.folder / "step_8.pt", 7, salt="b")
    assert here.once().returncode == 0
    rows = here.query("SELECT checkpoint, step, note FROM results ORDER BY checkpoint")
    assert [row[:2] for row in rows] == [("step_7.pt", 7), ("step_8.pt", 7)]
    assert "its name 8" in rows[1][2]
