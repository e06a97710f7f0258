"""Data formats that we recognise by name and do not read, each answered in one sentence.

Owns the sentences. Never reads more than the first bytes of a file, never follows its content.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from evalcore.archive import signatures as known
from evalcore.data.arrow import dataset_files
from evalcore.data.errors import DataError

_TOKENISE = "export its token ids as a 1-D uint16 or uint32 .npy, or its text as .jsonl with the field `text`"

_SHARD = "name a token shard such as fineweb_val_000000.bin"
#: llm.c's files that are no token data -> what to do
LLMC_FOREIGN = {
    known.LLMC_ITEMS: "give --task tokens, or name a token shard",
    known.LLMC_GPT2: f"{_SHARD} as data",
    known.LLMC_LLAMA: f"{_SHARD} as data",
    known.LLMC_STATE: _SHARD,
    known.LLMC_TOKENIZER: _SHARD,
}

_HEADS = (
    (known.PARQUET, "a Parquet file under another name", "rename it to .parquet, or give --format parquet"),
    (known.MEGATRON_INDEX, "the index of a Megatron data set", "name the .bin beside it"),
    (known.ARROW_FILE, "an Arrow file under another name", "rename it to .arrow, or give --format arrow"),
    (b"PK\x03\x04", "a zip archive (a checkpoint, or an .npz)", "save a single 1-D array with numpy.save"),
    (known.ZSTD, "Zstandard-compressed", "decompress it first (only .jsonl.zst is read compressed)"),
    (known.GZIP, "gzip-compressed", "decompress it with gunzip (only .jsonl.gz is read compressed)"),
    (known.BZIP2, "bzip2-compressed", "decompress it first"),
    (known.XZ, "xz-compressed", "decompress it first"),
    (known.HDF5, "an HDF5 file", _TOKENISE),
    (known.SQLITE, "an SQLite database", _TOKENISE),
    (b"%PDF-", "a PDF file", "save its text as UTF-8 .txt"),
    (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19", "a PyTorch file of the older format", "name a data file"),
    (known.GGUF, "a GGUF model file", "name a data file"),
    (b"\x89PNG\r\n", "a PNG image", "name a data file"),
    (b"\xff\xd8\xff", "a JPEG image", "name a data file"),
    (b"GIF8", "a GIF image", "name a data file"),
    (b"\x7fELF", "a program", "name a data file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it first"),
    (b"\x04\x22\x4d\x18", "LZ4-compressed", "decompress it first"),
    (b"\xff\xff\xff\xff", "an Arrow stream under another name", "rename it to .arrow, or give --format arrow"),
    (b"{\\rtf1", "an RTF document", "save its text as UTF-8 .txt"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an older Office document", "save its text as UTF-8 .txt"),
)
#: protocol and first opcode of a pickled list, dict, tuple, text or array; it ends with the opcode STOP, a full stop
_PICKLES = [bytes((protocol, opcode)) for protocol in (2, 3, 4, 5) for opcode in b"]}(cX\x95"]
#: whole files that a failed download leaves, in lower case
_ERROR_PAGES = (
    b"404: not found", b"404 not found", b"not found", b"entry not found", b"file not found", b"repository not found",
    b"access denied", b"forbidden", b"403 forbidden", b"unauthorized", b"invalid username or password.",
    b"too many requests", b"rate limit exceeded", b"internal server error", b"bad gateway", b"service unavailable",
)  # fmt: skip
_COMPRESSED = {known.ZSTD: (".jsonl.zst", ".ndjson.zst"), known.GZIP: (".jsonl.gz", ".ndjson.gz")}


def refuse_folder(path: Path) -> None:
    """Always raises DataError, with the kind of data folder or how to name its files."""
    if _json_has(path / "index.json", "shards"):
        raise DataError(f"{path} is a MosaicML MDS folder, which is not read", _TOKENISE)
    if _json_has(path / "index.json", "chunks"):
        raise DataError(f"{path} is a LitData folder, which is not read", _TOKENISE)
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists() or (path / "dataset_info.json").exists():
        files = dataset_files(path)
        raise DataError(f"{path} is a Hugging Face datasets folder, not a file", f"name {files[0]}")
    if (path / "core.yaml").is_file():
        raise DataError(
            f"{path} is a bundle of tasks, not a data file", f"--suite {path} (`[[suite]]` in the settings)"
        )
    raise DataError(f"{path} is a folder, not a data file", f"name its files, for example '{path}/*val*.npy'")


def refuse_download(path: Path, head: bytes) -> None:
    """Raise DataError for what stands in the place of a file that was never fetched, whatever its name."""
    if head.startswith(known.GIT_LFS):
        raise DataError(f"{path} is a Git LFS pointer, not the file itself", "fetch the file with: git lfs pull")
    if head.startswith((b"/annex/objects/", b"../.git/annex/objects/", b".git/annex/objects/")):
        raise DataError(f"{path} is a git-annex pointer, not the file itself", "fetch the file with: git annex get")
    if head.startswith((b"outs:\n- md5:", b"outs:\r\n- md5:")):
        raise DataError(f"{path} is a DVC pointer, not the file itself", "fetch the file with: dvc pull")
    if head.strip().lower() in _ERROR_PAGES:
        raise DataError(f"{path} holds the words of a failed download", "download the file again")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head")):
        raise DataError(
            f"{path} is an HTML or XML page, such as a failed download leaves",
            "download the file again; a page that is meant as text: --format text (`format` in the settings)",
        )


def refuse_foreign(path: Path, head: bytes) -> None:
    """Raise DataError if the first bytes are of a format that we know and do not read."""
    for magic, name, advice in _HEADS:
        if head.startswith(magic) and not (magic in _COMPRESSED and path.name.lower().endswith(_COMPRESSED[magic])):
            raise DataError(f"{path} is {name}, which is not read as data", advice)
    if head[257:262] == b"ustar":
        raise DataError(f"{path} is a tar archive, which is not read as data", "unpack it first")
    if head[:1] == b"\x80" and head[1:3] in _PICKLES and _last_byte(path) == b".":
        raise DataError(
            f"{path} is a Python pickle, which is not read as data",
            "write its ids as one array: numpy.save('val.npy', numpy.array(ids, dtype='uint32'))",
        )


def _last_byte(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


def _json_has(path: Path, key: str) -> bool:
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read(16 << 20))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and key in content
