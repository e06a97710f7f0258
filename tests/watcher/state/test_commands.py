"""Orders in the inbox: those that are read, and what else may lie there."""

from __future__ import annotations

import os

import pytest

from watcher.state import commands


@pytest.mark.parametrize(
    "junk", [b"no json", b"\xff\xfe", b"[" * 100_000, b"[]", b"{}", b'{"action": "retry", "jobs": [1e400]}']
)
def test_a_file_that_is_no_order_is_removed_and_the_next_order_is_taken(tmp_path, junk):
    (tmp_path / "0.json").write_bytes(junk)
    commands.send(tmp_path, commands.Order("retry", (7,)))
    assert [order.jobs for _, order in commands.take(tmp_path)] == [(7,)]
    assert not (tmp_path / "0.json").exists()


def test_a_fifo_a_folder_a_link_or_a_huge_file_in_the_inbox_stops_no_order(tmp_path):
    os.mkfifo(tmp_path / "0.json")
    (tmp_path / "1.json").mkdir()
    (tmp_path / "2.json").symlink_to("/dev/zero")
    with open(tmp_path / "3.json", "wb") as file:
        file.truncate(1 << 40)
    commands.send(tmp_path, commands.Order("pause"))
    assert [order.action for _, order in commands.take(tmp_path)] == ["pause"]
