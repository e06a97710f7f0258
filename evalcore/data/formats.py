"""What one data file is: text, JSON lines, a JSON array, or token ids with their type and offset.

Owns the order of recognition: declared format, first bytes, name, content. A file that could be something else is
refused with the flag that settles it. Never tokenises, never maps.
"""

from __future__ import annotations

import stat
from pathlib import Path

from evalcore.archive.signatures import GIT_LFS, NUMPY
from evalcore.data.arrow import read_arrow
from evalcore.data.data_file import DataFile
from evalcore.data.errors import DataError
from evalcore.data.foreign import refuse_download, refuse_folder, refuse_foreign
from evalcore.data.megatron import read_megatron
from evalcore.data.parquet import read_parquet
from evalcore.data.text_files import read_text
from evalcore.data.token_files import read_bin, read_npy, read_raw
from evalcore.data_digest import FORMATS, index_beside, kind_of_name

_HEAD_BYTES = 4096


def recognise(path: Path, declared: str = "auto", token_dtype: str | None = None) -> DataFile:
    """What a file is. declared (one of FORMATS) overrules what name and content suggest. Raises DataError."""
    if declared not in FORMATS:
        raise DataError(f"format {declared!r} is not known", f"use one of {', '.join(FORMATS)}")
    size, head = _head(path)
    if size == 0:
        raise DataError(f"{path} is empty", "name a file with data in it")
    if declared != "text" or head.startswith(GIT_LFS):
        refuse_download(path, head)
    kind = kind_of_name(path.name, declared)
    if kind == "raw":
        return read_raw(path, size, token_dtype)
    if kind == "parquet":
        return read_parquet(path, head)
    if kind == "arrow":
        return read_arrow(path, head, declared != "auto")
    if declared == "auto" and token_dtype is None and (index := index_beside(str(path))) is not None:
        return read_megatron(path, size, Path(index))
    if head.startswith(NUMPY) and kind in ("npy", "bin", "other"):
        return read_npy(path, size)
    if kind not in ("npy", "bin") or token_dtype is None:  # ids of a named type may begin like any magic number
        refuse_foreign(path, head)
    if kind == "bin":
        return read_bin(path, size, head, token_dtype)
    if kind == "npy":
        return read_raw(path, size, token_dtype)
    return read_text(path, head, kind, declared != "auto")


def _head(path: Path) -> tuple[int, bytes]:
    try:
        status = path.stat()
    except FileNotFoundError:
        pair = [path.with_name(path.name + ending) for ending in (".bin", ".idx")]  # Megatron names both by their stem
        hint = f"name {pair[0]}" if all(one.is_file() for one in pair) else "check the path of the eval set"
        raise DataError(f"{path} does not exist", hint) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from None
    if stat.S_ISDIR(status.st_mode):
        refuse_folder(path)
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is not a regular file", "name a file on disk")
    try:
        with open(path, "rb") as file:
            return status.st_size, file.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "check its permissions") from None
