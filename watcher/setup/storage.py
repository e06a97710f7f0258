"""Checks of where results are written: SQLite, file system, permissions, free space. Creates nothing."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from watcher.setup.finding import Finding
from watcher.state.folder import StateFolder
from watcher.store.engine import NETWORK_FILESYSTEMS, WAL_RESET_FIXED, filesystem_type, journal_mode, sqlite_path

FREE_MIN_BYTES = 1 << 30
FREE_MIN_INODES = 1000


def database(url: str) -> Iterator[Finding]:
    path = sqlite_path(url)
    if path is None:
        yield Finding("database", "ok", "a database server")
        return
    folder = _existing(path.absolute().parent)
    mode, kind = journal_mode(path), filesystem_type(folder)
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < WAL_RESET_FIXED:
        fixed = ".".join(map(str, WAL_RESET_FIXED))
        words = f"SQLite {version} can corrupt a WAL database (fixed in {fixed}); journal mode {mode} is used instead"
        yield Finding(
            "sqlite",
            "note",
            words,
            f"with SQLite {fixed} or newer, readers and the writer do not block each other",
        )
    else:
        yield Finding("sqlite", "ok", f"SQLite {version}, journal mode {mode}")
    if kind in NETWORK_FILESYSTEMS:
        words = f"the database is on {kind} ({folder}): file locks on network file systems are unreliable"
        yield Finding("filesystem", "warning", words, "put it on a local disk with --db FILE or [store] url")
    else:
        yield Finding("filesystem", "ok", f"the database is on {kind or 'an unknown file system'}")
    target = path if path.exists() else folder
    if not os.access(target, os.W_OK) or not os.access(folder, os.W_OK):
        yield Finding(
            "permissions", "problem", f"{target} is not writable", "chown or chmod it, or choose another with --db"
        )


def state_folder(state: StateFolder) -> Iterator[Finding]:
    folder = _existing(state.root)
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("permissions", "problem", f"the state folder {folder} is not writable", "set [store] state_dir")
        return
    free = os.statvfs(folder)
    free_bytes = free.f_bavail * free.f_frsize
    words = f"{free_bytes / 2**30:.1f} GiB free for database, logs and pinned copies in {folder}"
    if free_bytes < FREE_MIN_BYTES:
        yield Finding("disk", "warning", words, "free some space, or set [store] state_dir")
    else:
        yield Finding("disk", "ok", words)
    if free.f_files and free.f_favail < FREE_MIN_INODES:
        yield Finding(
            "disk", "warning", f"only {free.f_favail} inodes are free in {folder}", "delete small files there"
        )


def _existing(folder: Path) -> Path:
    """The folder, or its nearest existing parent."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
