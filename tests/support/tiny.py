"""Checkpoints of a few hundred bytes, whole and CRC-checked, written without torch: for tests that write thousands."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path


def tiny_bytes(step: int, salt: str = "", padding: int = 0) -> bytes:
    """The archive that torch.save would lay out around {"step": step, "salt": salt}, `padding` bytes larger."""
    payload = pickle.dumps({"model": {}, "step": step, "salt": salt, "config": {}}, protocol=2)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/data/0", bytes(padding))
        archive.writestr("archive/version", b"3\n")
    return buffer.getvalue()


def write_tiny(path: Path, step: int, salt: str = "", padding: int = 0) -> Path:
    """Written under a temporary name and renamed, as a careful trainer does."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(tiny_bytes(step, salt, padding))
    os.replace(temporary, path)
    return path
