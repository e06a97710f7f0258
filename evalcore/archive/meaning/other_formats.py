"""Files of other tools, recognised by their first bytes or entries, and what to do with each. Reads no tensor."""

from __future__ import annotations

import struct

from evalcore.archive import signatures as known
from evalcore.archive.container.directory import Directory
from evalcore.archive.errors import ArchiveError

_AS_DATA = "give it as --data, not as a checkpoint"
_OTHER_FILE = "give the checkpoint itself"
_LLMC_HINTS = {
    known.LLMC_LLAMA: "convert them to a Hugging Face folder with llm.c's export script",
    known.LLMC_STATE: _OTHER_FILE,
    known.LLMC_TOKENIZER: _OTHER_FILE,
    known.LLMC_UINT16: _AS_DATA,
    known.LLMC_UINT32: _AS_DATA,
    known.LLMC_ITEMS: _OTHER_FILE,
}
_MAGIC = (
    (known.NUMPY, "a numpy array", _AS_DATA),
    (known.HDF5, "an HDF5 file", "save the model's state_dict with torch.save"),
    (known.PARQUET, "a Parquet file", _AS_DATA),
    (known.GGUF, "a GGUF file", "give the training checkpoint it was made from"),
    (known.GZIP, "a gzip file", "unpack it first"),
    (known.ZSTD, "a zstd file", "unpack it first"),
    (known.BZIP2, "a bzip2 file", "unpack it first"),
    (known.XZ, "an xz file", "unpack it first"),
    (known.GIT_LFS, "a Git LFS pointer, not the file itself", "fetch the file with `git lfs pull`"),
    (known.SQLITE, "a SQLite database", _OTHER_FILE),
)


def refuse_by_first_bytes(head: bytes) -> None:
    """Raise ArchiveError `unsupported` where the first bytes belong to another known kind of file."""
    for magic, what, hint in _MAGIC:
        if head.startswith(magic):
            raise ArchiveError("unsupported", f"the file is {what}", hint)
    if len(head) >= 8:
        kind = struct.unpack_from("<i", head)[0]
        if kind in _LLMC_HINTS:
            reason = f"the file is {known.LLMC_KINDS[kind]}, not a PyTorch checkpoint"
            raise ArchiveError("unsupported", reason, _LLMC_HINTS[kind])


def refuse_zip_that_is_no_save(directory: Directory) -> None:
    """Raise ArchiveError where the zip is TorchScript, an exported program, or no torch archive at all."""
    names = directory.entries
    hint = "save the model's state_dict with torch.save, beside its config"
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise ArchiveError(
            "unsupported", "the file is a TorchScript archive: it holds a program, not a state dict", hint
        )
    if "archive_format" in names or any(name.startswith("models/") and name.endswith(".json") for name in names):
        raise ArchiveError("unsupported", "the file is a torch.export archive (.pt2): it holds a program", hint)
    if "serialized_exported_program.json" in names or "serialized_state_dict.pt" in names:
        raise ArchiveError("unsupported", "the file is a torch.export archive (.pt2): it holds a program", hint)
    if "data.pkl" not in names:
        raise ArchiveError("corrupt", "the zip has no data.pkl: torch.save did not write it, or it was repacked")
