"""llm.c's GPT-2 weights (`model_%08d.bin`) with nanoGPT's names: a header of 256 int32, then raw weights.

Source: karpathy/llm.c train_gpt2.py, write_model. Weights of one kind stand together for all layers; the vocabulary is
padded, and its padding is left out here as in llm.c's loss. Reads the header alone.
"""

from __future__ import annotations

import struct

from evalcore.archive.container.legacy import Legacy
from evalcore.archive.container.source import OpenFile
from evalcore.archive.errors import ArchiveError
from evalcore.archive.pickle.machine import Pickled
from evalcore.archive.pickle.values import StorageRef, TensorRef
from evalcore.archive.signatures import LLMC_GPT2

_HEADER_BYTES = 1024
_DTYPES = {3: ("float32", 4), 5: ("bfloat16", 2)}
_SIZE_MAX = 1 << 28


def is_llmc(head: bytes) -> bool:
    return len(head) >= 8 and struct.unpack_from("<i", head)[0] == LLMC_GPT2


def read_llmc(file: OpenFile) -> Legacy:
    """The file as {"model": state dict, "config": sizes}. Raises ArchiveError: corrupt, unsupported."""
    header = file.read(0, _HEADER_BYTES)
    if len(header) < _HEADER_BYTES:
        raise ArchiveError("corrupt", "the llm.c file ends within its header", incomplete=True)
    _, version, positions, vocabulary, layers, heads, width, padded = struct.unpack_from("<8i", header)
    if version not in _DTYPES:
        hint = "versions 3 (float32) and 5 (bfloat16) are read; write it again with the current llm.c"
        raise ArchiveError("unsupported", f"an llm.c file of version {version}", hint)
    sizes = (positions, vocabulary, layers, heads, width, padded)
    if not all(0 < size < _SIZE_MAX for size in sizes) or padded < vocabulary or layers > 10_000:
        raise ArchiveError("corrupt", "the llm.c header holds impossible sizes")
    dtype, item_bytes = _DTYPES[version]
    tensors: dict[str, TensorRef] = {}
    offsets: dict[str, tuple[int, int]] = {}
    at = _HEADER_BYTES
    for name, count, shape in _layout(positions, layers, width, padded):
        numel = 1
        for size in shape:
            numel *= size
        storage = StorageRef(name, dtype, count * numel * item_bytes)
        offsets[name] = (at, storage.size_bytes)
        at += storage.size_bytes
        for i in range(count):
            shown = (vocabulary, width) if name == "transformer.wte.weight" else shape
            stride = (shape[1], 1) if len(shape) == 2 else (1,)
            tensors[name.format(i)] = TensorRef(storage, dtype, i * numel, shown, stride)
    if file.size != at:
        what = "is cut off" if file.size < at else "is longer than its header says"
        raise ArchiveError("corrupt", f"the llm.c file {what}", incomplete=file.size < at)
    config = {
        "family": "build-nanogpt", "block_size": positions, "vocab_size": vocabulary, "n_layer": layers,
        "n_head": heads, "n_embd": width,
    }  # fmt: skip
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    pickled = Pickled({"model": tensors, "config": config}, {}, len(tensors), storages, file.size)
    return Legacy(pickled, offsets, "llmc")


def _layout(positions: int, layers: int, width: int, rows: int) -> list[tuple[str, int, tuple[int, ...]]]:
    """(name, how many, shape of each) in the order of the file."""
    block = [
        ("ln_1.weight", (width,)), ("ln_1.bias", (width,)), ("attn.c_attn.weight", (3 * width, width)),
        ("attn.c_attn.bias", (3 * width,)), ("attn.c_proj.weight", (width, width)), ("attn.c_proj.bias", (width,)),
        ("ln_2.weight", (width,)), ("ln_2.bias", (width,)), ("mlp.c_fc.weight", (4 * width, width)),
        ("mlp.c_fc.bias", (4 * width,)), ("mlp.c_proj.weight", (width, 4 * width)), ("mlp.c_proj.bias", (width,)),
    ]  # fmt: skip
    start: list[tuple[str, int, tuple[int, ...]]] = [
        ("transformer.wte.weight", 1, (rows, width)), ("transformer.wpe.weight", 1, (positions, width)),
    ]  # fmt: skip
    middle = [(f"transformer.h.{{}}.{name}", layers, shape) for name, shape in block]
    return start + middle + [("transformer.ln_f.weight", 1, (width,)), ("transformer.ln_f.bias", 1, (width,))]
