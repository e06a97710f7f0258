"""The identity of validation data: the digest of the content, and the stamp that says when to take it again.

Standard library only.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable


def digest_files(paths: Iterable[str], report: Callable[[int], None] | None = None) -> str:
    """`sha256:...` over size and bytes of each file, in order. report(bytes so far): as it goes. Raises OSError."""
    whole, done = hashlib.sha256(), 0
    for path in paths:
        with open(path, "rb") as file:
            whole.update(os.fstat(file.fileno()).st_size.to_bytes(8, "little"))
            while chunk := file.read(1 << 22):
                whole.update(chunk)
                done += len(chunk)
                if report is not None:
                    report(done)
    return "sha256:" + whole.hexdigest()


def stamp(path: str) -> str:
    """`size:mtime_ns:inode` of a file: with another one, its content may be another. Raises OSError."""
    status = os.stat(path)
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"
