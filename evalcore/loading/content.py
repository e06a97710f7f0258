"""The content digest: SHA-256 over the record bytes that a worker reads, never over what a directory claims.

Torch-free. It is the same for two files whose pickle and model records are equal, whatever else differs.
"""

from __future__ import annotations

import hashlib
import threading


class ContentDigest:
    """Collects records in any order, from any thread; each name counts once."""

    def __init__(self, wanted: bool = True) -> None:
        """wanted: False where nobody reads the value: SHA-256 takes CPU time beside the CRCs."""
        self._wanted = wanted
        self._records: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def add(self, name: str, data: bytes | bytearray | memoryview) -> None:
        if not self._wanted:
            return
        digest = hashlib.sha256(data).digest()  # without the interpreter lock
        with self._lock:
            self._records[name] = digest

    def value(self) -> str:
        """`sha256:...` over the name and the digest of every record; "" where it is not wanted."""
        if not self._wanted:
            return ""
        whole = hashlib.sha256(b"ckptwatch content 1\n")
        for name in sorted(self._records):
            coded = name.encode("utf-8", "surrogateescape")
            whole.update(len(coded).to_bytes(4, "little") + coded + self._records[name])
        return "sha256:" + whole.hexdigest()
