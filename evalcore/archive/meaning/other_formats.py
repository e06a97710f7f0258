"""Files of other tools, recognised by their first bytes or entries, and what to do with each. Reads no tensor."""

from __future__ import annotations

import struct

from evalcore.archive.container.directory import Directory
from evalcore.archive.errors import ArchiveError

_LLMC = {
    20240803: ("llm.c Llama weights", "convert them to a Hugging Face folder with llm.c's export script"),
    20240327: ("an llm.c debug state", "give the checkpoint itself"),
    20240328: ("an llm.c tokenizer", "give the checkpoint itself"),
    20240520: ("llm.c token data", "give it as --data, not as a checkpoint"),
    20240801: ("llm.c token data", "give it as --data, not as a checkpoint"),
    20240522: ("an llm.c evaluation set", "give the checkpoint itself"),
}
_MAGIC = (
    (b"\x93NUMPY", "a numpy array", "give it as --data, not as a checkpoint"),
    (b"\x89HDF", "an HDF5 file", "save the model's state_dict with torch.save"),
    (b"PAR1", "a Parquet file", "give it as --data, not as a checkpoint"),
    (b"GGUF", "a GGUF file", "give the training checkpoint it was made from"),
    (b"\x1f\x8b", "a gzip file", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd file", "unpack it first"),
    (b"BZh", "a bzip2 file", "unpack it first"),
    (b"\xfd7zXZ", "an xz file", "unpack it first"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch the file with `git lfs pull`"),
    (b"SQLite format 3", "a SQLite database", "give the checkpoint itself"),
)


def refuse_by_first_bytes(head: bytes) -> None:
    """Raise ArchiveError `unsupported` where the first bytes belong to another known kind of file."""
    for magic, what, hint in _MAGIC:
        if head.startswith(magic):
            raise ArchiveError("unsupported", f"the file is {what}", hint)
    if len(head) >= 8:
        known = _LLMC.get(struct.unpack_from("<i", head)[0])
        if known is not None:
            what, hint = known
            raise ArchiveError("unsupported", f"the file is {what}, not a PyTorch checkpoint", hint)


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
