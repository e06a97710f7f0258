"""What one stat says: regular files, links and what they lead to, everything else by its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import checkpoints
from watcher.detect.observation import Irregular, look, version_key
from watcher.domain.checkpoint import Fingerprint, NamePattern


def reason(root: Path, name: str, include: str = "*.pt") -> str:
    observed = look(str(root), name, NamePattern((include,)))
    assert isinstance(observed, Irregular) and not observed.alias
    return observed.reason


def test_links_fifos_and_folders_are_named_for_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "folder.pt").mkdir()
    checkpoints.save_rosellm(tmp_path / "a.pt", step=1)
    os.mkfifo(tmp_path / "fifo.pt")
    for name, target in (
        ("latest.pt", "a.pt"),
        ("zero.pt", "/dev/zero"),
        ("loop.pt", "loop.pt"),
        ("lost.pt", "nowhere"),
    ):
        (tmp_path / name).symlink_to(target)
    assert isinstance(look(str(tmp_path), "a.pt", lambda path: True), Fingerprint)
    assert reason(tmp_path, "fifo.pt") == "a FIFO" and reason(tmp_path, "folder.pt") == "a folder"
    assert reason(tmp_path, "zero.pt") == "a link to a character device" and "followed" in reason(tmp_path, "loop.pt")
    assert reason(tmp_path, "lost.pt") == "a link whose target does not exist"
    latest = look(str(tmp_path), "latest.pt", NamePattern(("*.pt",)))
    assert isinstance(latest, Irregular) and latest.alias


@pytest.mark.parametrize("include", ["*.pt", "**/*.pt"])
def test_a_link_into_a_blob_store_is_rejected_with_the_command_that_evaluates_it(tmp_path: Path, include: str) -> None:
    """Hugging Face's cache: the name is a link to a blob, which no glob matches: nothing else evaluates it."""
    (tmp_path / "blobs").mkdir()
    checkpoints.save_rosellm(tmp_path / "blobs" / "5f3a", step=1)
    (tmp_path / "step_1.pt").symlink_to("blobs/5f3a")
    said = reason(tmp_path, "step_1.pt", include)
    assert said.startswith("a link to blobs/5f3a, which `include` does not match")
    assert f"`ckptwatch eval {tmp_path}/step_1.pt`" in said


def test_a_link_out_of_the_folder_is_rejected_with_the_command_that_evaluates_it(tmp_path: Path) -> None:
    root = tmp_path / "ck pt"
    root.mkdir()
    checkpoints.save_rosellm(tmp_path / "a.pt", step=1)
    (root / "a.pt").symlink_to("../a.pt")
    said = reason(root, "a.pt")
    assert "outside the watched folder" in said and f"`ckptwatch eval '{root}/a.pt'`" in said


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
