"""Pinned copies: made across file systems too, checked against the digest, and refused with the real reason."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from evalcore.archive import probe
from tests.support import checkpoints
from watcher.detect.spool import NotPinned, Spool, should_pin


def refusal(spool: Spool, source: Path | str, digest: str, size: int) -> str:
    with pytest.raises(NotPinned) as caught:
        spool.pin(str(source), "v1", digest, size)
    return str(caught.value)


def test_a_pinned_copy_has_the_digest_or_is_not_made(tmp_path: Path) -> None:
    source = checkpoints.save_rosellm(tmp_path / "a.pt", step=1)
    (tmp_path / "spool").mkdir()
    spool, size = Spool(tmp_path / "spool", 10 << 20), source.stat().st_size
    copy = spool.pin(str(source), "v1", probe(source).digest, size)
    assert copy.read_bytes() == source.read_bytes() and source.stat().st_nlink == 1
    progress: list[tuple[int, int]] = []
    with pytest.raises(NotPinned, match="it changed while it was copied"):
        spool.pin(str(source), "v2", "sha256:" + "0" * 64, size, lambda *numbers: progress.append(numbers))
    assert all(0 < done <= total == size for done, total in progress)
    spool.sweep({str(copy)})
    assert list((tmp_path / "spool").iterdir()) == [copy]


def test_copies_are_kept_and_found_after_database_and_state_folder_were_moved_together(tmp_path: Path) -> None:
    source = checkpoints.save_rosellm(tmp_path / "a.pt", step=1)
    before, after = tmp_path / "before" / "spool", tmp_path / "after" / "spool"
    before.mkdir(parents=True)
    recorded = str(Spool(before, 10 << 20).pin(str(source), "v1", probe(source).digest, source.stat().st_size))
    (before.parent / "spool" / "leftover.pt").write_bytes(b"x")
    before.parent.rename(after.parent)
    moved = Spool(after, 10 << 20)
    moved.sweep({recorded})
    assert [path.name for path in after.iterdir()] == ["v1.pt"]
    assert moved.locate(recorded) == after / "v1.pt"
    moved.release(after / "v1.pt")
    assert moved.locate(recorded) is None


def test_the_refusal_names_the_real_reason(tmp_path: Path) -> None:
    source = checkpoints.save_rosellm(tmp_path / "a.pt", step=1)
    (tmp_path / "spool").mkdir()
    size, digest = source.stat().st_size, "sha256:" + "1" * 64
    assert "store.spool_max_bytes (5) leaves no room" in refusal(Spool(tmp_path / "spool", 5), source, digest, size)
    spool = Spool(tmp_path / "spool", 10 << 20)
    assert refusal(spool, tmp_path / "gone.pt", digest, size) == "it was deleted before it was copied"
    assert refusal(spool, source, digest, size - 1) == "it grew while it was copied"
    assert "ENOTDIR" in refusal(spool, source / "below", digest, size)
    source.write_bytes(source.read_bytes()[:-30])
    assert refusal(spool, source, digest, size).startswith("it changed while it was copied: ")
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_file_is_pinned_across_file_systems(tmp_path: Path) -> None:
    """From a real tmpfs to the disk, where copy_file_range gives EXDEV."""
    memory = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        if memory.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("the temporary folder is the same tmpfs")
        source = checkpoints.save_rosellm(memory / "a.pt", step=1)
        with open(source, "rb") as reading, open(tmp_path / "x", "wb") as writing:
            try:
                os.copy_file_range(reading.fileno(), writing.fileno(), 1)
            except OSError as error:
                assert error.errno in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
            else:
                pytest.skip("this kernel copies across these file systems itself")
        (tmp_path / "spool").mkdir()
        size, progress = source.stat().st_size, []
        copy = Spool(tmp_path / "spool", 10 << 20).pin(
            str(source), "v1", probe(source).digest, size, lambda *numbers: progress.append(numbers)
        )
        assert copy.read_bytes() == source.read_bytes()
        assert progress[0] == (size, size)
    finally:
        shutil.rmtree(memory)


def test_pinning_goes_on_until_the_trainer_is_seen_to_keep_its_files() -> None:
    assert should_pin("auto", rotates=False, overwritten=False, kept=0)
    assert not should_pin("auto", rotates=False, overwritten=False, kept=9)
    assert should_pin("auto", rotates=True, overwritten=False, kept=9)
    assert should_pin("auto", rotates=False, overwritten=True, kept=9)
    assert should_pin("always", rotates=False, overwritten=False, kept=9)
    assert not should_pin("never", rotates=True, overwritten=True, kept=0)
