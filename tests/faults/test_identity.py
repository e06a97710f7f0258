"""What a number belongs to: damaged twins, versions that come back, forged checksums, runs of two folders."""

from __future__ import annotations

import io
import os
import shutil
import struct
import zipfile
import zlib

import pytest

from tests.faults.fake_worker import loss_of
from tests.support.daemon import wait_until
from tests.support.tiny import tiny_bytes, write_tiny


def damaged(whole: bytes, record: bytes = b"data/0") -> bytes:
    """One bit of the record's bytes flipped; the directory claims what it claimed."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        entry = next(e for e in archive.infolist() if e.filename.encode().endswith(record))
    at = entry.header_offset + 30 + len(entry.filename)
    broken = bytearray(whole)
    broken[at] ^= 1
    return bytes(broken)


def forged(whole: bytes, salt: bytes) -> bytes:
    """Another content of the record data/0 with the same size and the same CRC-32: the directory does not change."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        entry = next(e for e in archive.infolist() if e.filename.endswith("data/0"))
        before = archive.read(entry)
    start = bytearray(before)
    start[: len(salt)] = salt
    want, size = zlib.crc32(before), len(before)
    columns = []  # CRC-32 is affine: how each of the last 32 bits changes it
    base = zlib.crc32(bytes(start))
    for bit in range(32):
        changed = bytearray(start)
        changed[size - 4 + bit // 8] ^= 1 << bit % 8
        columns.append(zlib.crc32(bytes(changed)) ^ base)
    for bit in solve(columns, want ^ base):
        start[size - 4 + bit // 8] ^= 1 << bit % 8
    assert zlib.crc32(bytes(start)) == want and bytes(start) != before
    at = entry.header_offset + 30 + len(entry.filename)
    return whole[:at] + bytes(start) + whole[at + size :]


def solve(columns: list[int], target: int) -> list[int]:
    """Which columns have this exclusive or."""
    rows = [(column, 1 << number) for number, column in enumerate(columns)]
    chosen = 0
    for bit in reversed(range(32)):
        pivot = next((row for row in rows if row[0] >> bit & 1), None)
        if pivot is None:
            continue
        rows = [(c ^ pivot[0], m ^ pivot[1]) if c >> bit & 1 else (c, m) for c, m in rows if (c, m) != pivot]
        if target >> bit & 1:
            target, chosen = target ^ pivot[0], chosen ^ pivot[1]
    assert target == 0
    return [number for number in range(32) if chosen >> number & 1]


def ended(here, number: int) -> bool:
    """That many jobs, all in a final state."""
    jobs = here.jobs()
    return len(jobs) == number and all(job[1] in ("succeeded", "failed", "cancelled") for job in jobs)


@pytest.mark.short
@pytest.mark.parametrize("first", ["damaged", "good"])
def test_row_161_a_damaged_twin_is_corrupt_and_its_good_twin_is_evaluated(site, first):
    here = site(run={"pin": "always"})
    whole = tiny_bytes(1, padding=4000)
    files = {"good": whole, "damaged": damaged(whole)}
    here.start()
    for number, name in enumerate(sorted(files, key=lambda name: name != first), 1):
        (here.folder / f"{name}.pt").write_bytes(files[name])
        wait_until(lambda number=number: ended(here, number))
    assert list(here.results()) == ["good.pt"]
    assert {path: kind for path, (kind, _) in here.failures().items()} == {"damaged.pt": "corrupt"}


def test_row_162_a_corrupt_verdict_goes_when_the_file_is_copied_again(site, tmp_path):
    here = site()
    whole, path = tiny_bytes(1, padding=4000), here.folder / "step_1.pt"
    path.write_bytes(damaged(whole))
    here.start()
    wait_until(lambda: here.failures())
    good = tmp_path / "good"
    good.write_bytes(whole)
    os.utime(good, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    shutil.copy2(good, path)  # cp -p: the same inode, size and mtime
    here.wait_for_results(1)
    assert here.failures() == {}
    assert here.query("SELECT superseded FROM results") == [(0,)]


def test_row_163_a_good_file_that_is_overwritten_by_a_damaged_copy_has_no_standing_number(site):
    here = site()
    whole, path = tiny_bytes(1, padding=4000), here.folder / "step_1.pt"
    path.write_bytes(whole)
    here.start()
    here.wait_for_results(1)
    path.write_bytes(damaged(whole))
    wait_until(lambda: here.failures())
    assert here.failures()["step_1.pt"][0] == "corrupt"
    assert here.query("SELECT step FROM curve") == []
    assert here.query("SELECT superseded FROM results") == [(1,)]


def test_row_164_two_contents_with_equal_checksums_do_not_share_a_number(site):
    """A fake that gives each content its own number would hide a copy: the content digests must differ."""
    here = site()
    whole = tiny_bytes(1, padding=4000)
    other = forged(whole, b"another model")
    (here.folder / "a.pt").write_bytes(whole)
    here.start()
    here.wait_for_results(1)
    (here.folder / "b.pt").write_bytes(other)
    here.wait_for_results(2)
    assert here.query("SELECT count(DISTINCT checkpoint_digest), count(DISTINCT content_digest) FROM results") == [
        (1, 2)
    ]
    assert here.query("SELECT 1 FROM results WHERE note LIKE 'same content as%'") == []
    (here.folder / "a.pt").write_bytes(other)
    wait_until(lambda: here.query("SELECT count(*) FROM results WHERE checkpoint = 'a.pt'") == [(2,)])
    wait_until(lambda: ended(here, 2))
    standing = here.query("SELECT checkpoint, content_digest FROM results WHERE superseded = 0 ORDER BY checkpoint")
    assert [name for name, _ in standing] == ["a.pt", "b.pt"]
    assert standing[0][1] == standing[1][1]


def test_row_165_latest_and_step_saved_apart_both_have_the_number(site):
    """torch names the archive's top folder after the file: equal directories in files of another size."""

    def saved(top: str) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(tiny_bytes(7, padding=4000))) as old, zipfile.ZipFile(buffer, "w") as new:
            for entry in old.infolist():
                new.writestr(entry.filename.replace("archive", top, 1), old.read(entry))
        return buffer.getvalue()

    here = site(run={"pin": "always"})
    here.start()
    (here.folder / "step_0000007.pt").write_bytes(saved("step_0000007"))
    (here.folder / "latest.pt").write_bytes(saved("latest"))
    here.wait_for_results(2)
    wait_until(lambda: ended(here, 2))
    assert {job[1] for job in here.jobs()} == {"succeeded"}
    assert len(here.query("SELECT DISTINCT size_bytes FROM checkpoints")) == 2
    assert here.query("SELECT count(*) FROM curve") == [(1,)]


@pytest.mark.short
@pytest.mark.parametrize("steps", [(1, 1), (1, 2)], ids=["the same step", "a later step"])
def test_row_166_content_a_then_b_then_a_on_one_path_shows_a_without_a_new_row(site, steps):
    here = site()
    a, b = tiny_bytes(steps[0], "a"), tiny_bytes(steps[1], "b")
    path = here.folder / "ckpt.pt"
    path.write_bytes(a)
    here.start()
    here.wait_for_results(1)
    path.write_bytes(b)
    here.wait_for_results(2)
    path.write_bytes(a)
    wait_until(lambda: here.query("SELECT superseded FROM results ORDER BY id") == [(0,), (1,)])
    wait_until(lambda: ended(here, 2))
    digest = here.query("SELECT digest FROM checkpoints WHERE superseded = 0")[0][0]
    assert here.query("SELECT loss FROM latest") == [(pytest.approx(loss_of(digest)),)]
    assert here.query("SELECT step FROM curve") == [(steps[0],)]
    assert here.query("SELECT count(*) FROM results") == [(2,)]
    assert here.query("SELECT name FROM events WHERE name = 'standing'") != []


def test_row_167_an_older_file_put_back_with_its_old_time_stands(site, tmp_path):
    here = site()
    path, kept = here.folder / "ckpt.pt", tmp_path / "kept"
    path.write_bytes(tiny_bytes(10))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    here.start()
    here.wait_for_results(1)
    shutil.copy2(path, kept)
    path.write_bytes(tiny_bytes(20))
    here.wait_for_results(2)
    shutil.copy2(kept, path)
    wait_until(lambda: here.query("SELECT step FROM latest") == [(10,)])
    assert here.query("SELECT step FROM curve") == [(10,)]


def test_row_168_prune_keeps_the_best_that_is_on_disk_not_the_best_that_is_gone(site):
    here = site()
    path = here.folder / "ckpt.pt"
    losses = {step: loss_of(digest_of(tiny_bytes(step))) for step in range(1, 40)}
    best, second, worst = (sorted(losses, key=losses.__getitem__)[i] for i in (0, 1, -1))
    here.start()
    path.write_bytes(tiny_bytes(best))
    here.wait_for_results(1)
    path.write_bytes(tiny_bytes(worst))  # the best is gone from here on
    here.wait_for_results(2)
    write_tiny(here.folder / f"keep_{second}.pt", second)
    here.wait_for_results(3)
    write_tiny(here.folder / "step_99.pt", 99)  # the newest always stays
    here.wait_for_results(4)
    here.stop()
    done = here.cli("prune", "--keep", "best:1", "--apply")
    assert done.returncode == 0, done.stderr
    assert (here.folder / f"keep_{second}.pt").exists(), done.stdout


def digest_of(whole: bytes) -> str:
    from evalcore.archive.container.directory import read_directory
    from evalcore.archive.container.source import OpenFile

    fd = os.memfd_create("tiny")
    try:
        os.write(fd, whole)
        with OpenFile(fd) as file:
            return read_directory(file).digest(file)
    finally:
        os.close(fd)


def test_row_169_names_that_differ_in_bytes_outside_utf_8_only_are_two_checkpoints(site):
    here = site()
    folder = os.fsencode(here.folder)
    for number, name in enumerate((b"a\xff.pt", b"a\xfe.pt", b"a\\udcff.pt"), 1):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(tiny_bytes(number))
    assert here.once().returncode == 0
    assert here.query("SELECT step FROM checkpoints ORDER BY step") == [(1,), (2,), (3,)]
    assert len(here.results()) == 3


def test_row_170_two_folders_never_become_one_run_and_a_moved_folder_stays_its_run(site, tmp_path):
    here = site()
    write_tiny(here.folder / "step_1.pt", 1)
    assert here.once().returncode == 0
    other = tmp_path / "exp2" / "checkpoints"
    other.mkdir(parents=True)
    write_tiny(other / "step_2.pt", 2)
    before = here.folder
    here.run["dir"] = other
    here.configure()
    refused = here.once()
    assert (refused.returncode, "of another folder" in refused.stderr, "--run" in refused.stderr) == (3, True, True)
    assert here.query("SELECT step FROM results") == [(1,)]
    moved = tmp_path / "moved"
    before.rename(moved)
    here.run["dir"] = moved
    here.configure()
    write_tiny(moved / "step_3.pt", 3)
    assert here.once().returncode == 0
    assert here.query("SELECT step FROM curve ORDER BY step") == [(1,), (3,)]


def test_row_171_again_measures_once_more_and_the_new_row_takes_the_old_ones_place(site):
    here = site(rules=[{"do": "answer", "values": {"loss": 2.5, "window_nats": [80.0, 80.0]}, "tries": 1}])
    write_tiny(here.folder / "step_1.pt", 1)
    assert here.once().returncode == 0
    assert here.query("SELECT loss FROM results") == [(2.5,)]
    assert here.once().returncode == 0  # nothing new
    assert here.query("SELECT loss FROM results") == [(2.5,)]
    assert here.once("--again").returncode == 0
    (digest,) = here.query("SELECT digest FROM checkpoints")[0]
    rows = here.query("SELECT loss, note FROM results")
    assert [row[0] for row in rows] == [pytest.approx(loss_of(digest))]
    assert "before: loss 2.5" in rows[0][1]
    assert len(here.query("SELECT 1 FROM windows")) == 1


def test_row_172_a_result_deleted_by_hand_stops_nothing(site):
    """sqlite3's shell has foreign keys off: the windows of the row stay behind."""
    here = site()
    write_tiny(here.folder / "step_1.pt", 1)
    assert here.once().returncode == 0
    here.query_write("DELETE FROM results")
    here.query_write("DELETE FROM sqlite_sequence")  # as in a database in which ids are used again
    write_tiny(here.folder / "step_2.pt", 2)
    done = here.once()
    assert done.returncode == 0, done.stderr
    assert here.query("SELECT r.step FROM results r JOIN windows w ON w.result_id = r.id") == [(2,)]


def test_row_173_what_a_user_does_to_the_database_meanwhile_loses_nothing_and_stops_nothing(site):
    here = site()
    write_tiny(here.folder / "step_1.pt", 1)
    process = here.start()
    here.wait_for_results(1)
    step = 1
    for statement in (
        "VACUUM",
        "CREATE TABLE notes (text)",
        "DROP VIEW latest",
        "PRAGMA journal_mode = WAL",
        "UPDATE results SET tokens_per_second = 'fast', step = 'one' WHERE step = 1",
        "CREATE TRIGGER counted AFTER INSERT ON results BEGIN INSERT INTO notes VALUES (new.step); END",
    ):
        here.query_write(statement)
        step += 1
        write_tiny(here.folder / f"step_{step}.pt", step)
        here.wait_for_results(step)
    here.query_write("CREATE TRIGGER no BEFORE INSERT ON results BEGIN SELECT RAISE(ABORT, 'not now'); END")
    write_tiny(here.folder / "step_90.pt", 90)
    wait_until(lambda: "not now" in here.failures().get("step_90.pt", ("", ""))[1])
    here.query_write("DROP TRIGGER no")
    assert here.cli("queue", "retry", "--all").returncode == 0
    here.wait_for_results(step + 1)
    assert process.poll() is None
    assert here.stop() == 0
    assert here.once().returncode == 0
    assert here.query("SELECT count(*) FROM latest") == [(1,)]
    refused = here.cli("results", "--json")  # a number that somebody made a text is named, not printed as a number
    assert (refused.returncode, "UPDATE results SET" in refused.stderr) == (7, True)
    here.query_write("UPDATE results SET step = 1, tokens_per_second = 1.0 WHERE step = 'one'")
    assert here.cli("results", "--json").returncode == 0
    here.assert_sound()


def test_the_forger_of_this_file_changes_the_bytes_and_no_checksum():
    whole = tiny_bytes(1, padding=64)
    other = forged(whole, b"x" * 8)
    assert struct.unpack("<I", b"\0\0\0\0") == (0,)
    with zipfile.ZipFile(io.BytesIO(other)) as archive:
        assert archive.testzip() is None
    assert digest_of(whole) == digest_of(other) and whole != other
