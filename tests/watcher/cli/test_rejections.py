"""A file that cannot be registered: every place that gives its reason gives the remedy, too."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from urllib.request import urlopen

import numpy as np

from tests.support.checkpoints import save_nanogpt
from watcher.log import Log
from watcher.pipeline.dashboard import start_server
from watcher.settings.schema import WebSettings
from watcher.state.folder import StateFolder


def test_the_remedy_for_a_rejected_file_stands_beside_its_reason_everywhere(ckptwatch, tmp_path):
    np.zeros(100, np.uint16).tofile(tmp_path / "val.bin")
    (tmp_path / "out").mkdir()
    whole = save_nanogpt(tmp_path / "whole.pt", step=1).read_bytes()
    (tmp_path / "out" / "cut.pt").write_bytes(whole[:-30])
    flags = ("--dir", "out", "--data", "val.bin", "--device", "cpu", "--settle-s", "0.1")
    once = ckptwatch("run", "--once", *flags)
    assert once.status == 5
    remedy = "copy it again from where it was saved; it is read again as soon as it changes"
    assert f"next: {remedy}" in once.err
    (row,) = ckptwatch("queue", "list", "--failed", "--json").json
    assert (row["checkpoint"], row["kind"], row["hint"]) == ("cut.pt", "corrupt", remedy)
    status = ckptwatch("status")
    assert f"newest: cut.pt: corrupt: {row['reason']}\n           next: {remedy}\n" in status.out
    assert ckptwatch("status", "--json").json["newest_failure"]["hint"] == remedy
    with closing(sqlite3.connect(tmp_path / "ckptwatch.db")) as database:
        assert database.execute("SELECT hint FROM failures").fetchall() == [(remedy,)]
    url = str(tmp_path / "ckptwatch.db")
    address, stop = start_server(WebSettings(port=0), url, StateFolder.beside(url), Log(-1))
    with urlopen(f"{address}queue") as page:
        assert remedy in page.read().decode()
    stop()
