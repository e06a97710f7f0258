"""What one rank holds on an accelerator: weights, one pass, one tile of logits, the device's context. No torch.

Owns these sizes: the worker cuts its passes and tiles by them, the daemon computes from them what must be free for a
launch. Asks no device.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from evalcore.archive.meaning.family import FAMILIES
from evalcore.archive.meaning.fields import size_values

#: A few large kernels are faster than many small ones; rows and columns of one tile of logits, float32.
CHUNK_TOKENS = 4096
TILE_COLUMNS = 65536
#: Tokens of the first and smallest pass: one chunk of the head, or one window that is longer.
PASS_TOKENS = 4096
#: The context of the device, the workspaces of its libraries, and what its allocator rounds up.
CONTEXT_BYTES = 1 << 30
LEAST_BYTES = 2 << 30
#: Per token and unit of width at the widest place of a block (the MLP, or the turning of queries and keys): elements of
#: the dtype that is computed in, and bytes of the float32 stream before, in and behind the block.
_ELEMENTS, _STREAM_BYTES = 12, 12
_UNKNOWN_BYTES = 6  # per parameter where sizes are not known: float32, and autocast's copy in the lower dtype
_LOWER = ("auto", "bfloat16", "float16")  # `auto` is bfloat16 on an accelerator


@dataclass(frozen=True)
class ModelSize:
    """vocabulary, width: by the configuration; None where it has them not. is_family: it is built by a family here."""

    parameters: int
    vocabulary: int | None = None
    width: int | None = None
    is_family: bool = False


def model_size(parameters: int, family: str | None, config: str | None) -> ModelSize:
    """config: JSON of the configuration, cut off where it was too long to keep: then it tells nothing."""
    try:
        values = json.loads(config or "{}")
    except ValueError:
        values = {}
    sizes = size_values(values) if isinstance(values, dict) else {}
    vocabulary, width = (
        int(sizes[name]) if sizes.get(name, "").isdecimal() else None for name in ("vocabulary", "width")
    )
    return ModelSize(parameters, vocabulary, width, family in FAMILIES)


def needed_bytes(
    model: ModelSize | None, dtypes: Collection[str], seq_len: int | None, least: int = LEAST_BYTES
) -> int:
    """Bytes that a rank takes until its first pass is over, `least` at least. Larger batches take what is left.

    dtypes: declared by the eval sets of the launch. seq_len: tokens of the longest window; None is the default.
    """
    if model is None:
        return least
    if model.vocabulary is None or model.width is None or not model.is_family:
        return max(least, CONTEXT_BYTES + _UNKNOWN_BYTES * model.parameters)
    lower = [dtype in _LOWER for dtype in dtypes] or [True]
    itemsize = 2 if all(lower) else 4
    tokens = max(PASS_TOKENS, seq_len or 0)
    block = tokens * model.width * (_ELEMENTS * itemsize + _STREAM_BYTES)
    logits = min(CHUNK_TOKENS, tokens) * min(TILE_COLUMNS, model.vocabulary) * (6 if any(lower) else 4)
    head = tokens * model.width * _STREAM_BYTES + logits
    return max(least, CONTEXT_BYTES + weight_bytes(model, any(lower), all(lower)) + max(block, head))


def weight_bytes(model: ModelSize, any_lower: bool, all_lower: bool) -> int:
    """Bytes of the weights of a family's model: embedding and head are float32, whatever linear layers are.

    any_lower: a set is measured in fewer bits, for which the head and float32 linear layers are cast into a copy.
    """
    table = (model.vocabulary or 0) * (model.width or 0)
    tables = min(2 * table, model.parameters)  # a tied head counts twice: the configuration need not tell
    linear = model.parameters - tables
    if not any_lower:
        return 4 * (tables + linear)
    return 4 * tables + 2 * table + (2 if all_lower else 6) * linear
