"""The sizes of a GPT-2 shaped model: from its tensors, checked against its configuration.

The number of heads is the only one that tensors do not show. Owns nothing about names of blocks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalcore.archive.meaning.fields import ACTIVATION, ALWAYS, EPSILON, GPT_PARTS, SIZES, TYING
from evalcore.models.plan import CheckpointError, Shaped, demand_layers, demand_shape, heads_of, matrix_shape
from evalcore.models.values import flag, number_of, whole

#: fields that every GPT-2 shaped family understands here, by any of their names
COMMON = frozenset(name for names in SIZES.values() for name in names) | {
    *ACTIVATION, *EPSILON, *TYING, "bias", "model_type", "family", "mlp_ratio", "expansion_factor",
}  # fmt: skip
_PADDED_MAX = 512
_BIASES = ("use_bias", "qkv_bias", "attention_bias", "attn_bias", "mlp_bias", "linear_bias")
_KV_HEADS = ("n_kv_head", "n_kv_heads", "num_kv_heads", "num_key_value_heads")
#: switches of the learned positions that every GPT-2 shaped family adds
_POSITIONS = ("use_wpe", "use_pos_emb", "use_abs_pos", "learned_pos", "abs_pos_emb", "absolute_pos_emb")
#: values that describe what every GPT-2 shaped family does
_WORDS = {
    ("norm", "norm_type", "norm_layer", "normalization"): ("layernorm", "layer_norm", "ln"),
    ("pos_emb", "pos_encoding", "pos_embedding", "positional_encoding", "position_encoding", "pos_type",
     "position_embedding_type"): ("learned", "learnable", "absolute", "learned_absolute"),
    ("attn_type", "attention_type"): ("causal", "full", "mha", "softmax"),
    ("mlp_type", "ffn_type"): ("mlp", "standard", "gelu"),
    ("mask", "mask_type", "attn_mask", "attention_mask"): ("causal", "true"),
}  # fmt: skip


@dataclass(frozen=True)
class DecoderSizes:
    """notes: what is unusual about them."""

    vocab_size: int
    positions: int
    layers: int
    heads: int
    width: int
    inner: int
    notes: tuple[str, ...] = ()


def sizes_of(
    config: Mapping[str, Any], state: Mapping[str, Shaped], *, embedding: str, positions: str, blocks: str, up: str,
    transposed: bool = False, first_heads: str = "n_head",
) -> DecoderSizes:  # fmt: skip
    """embedding, positions, up: names of weights in the file, up that of block 0; blocks: pattern of a block's number.

    Raises CheckpointError where the configuration differs from the tensors, or lacks the number of heads.
    """
    for name in _POSITIONS:
        if not flag(config, name, True):
            reason = f"the configuration says {name} = false; the model adds {positions} to its input"
            raise CheckpointError("unsupported", reason, f"say {name} = true in [model] config, or set model.factory")
    without = [name for name, value in config.items() if _is_off(value) and GPT_PARTS.fullmatch(name)]
    if without:
        reason = f"the configuration says {without[0]} = false, and every model of these names has that"
        raise CheckpointError("unsupported", reason, f"say {without[0]} = true in [model] config, or set model.factory")
    rows, width = matrix_shape(state, embedding)
    shown = {int(match[1]) for key in state if (match := re.match(blocks, key)) and len(match[1]) < 8}
    layers = whole(config, *_names("layers", "n_layer"), high=1 << 16, default=len(shown))
    demand_layers(_said(config, "layers", "n_layer"), layers, state, blocks)
    heads = whole(config, *_names("heads", first_heads))
    heads_of(width, heads, _said(config, "width", "n_embd"), _said(config, "heads", first_heads))
    said_width = whole(config, *_names("width", "n_embd"), default=width)
    demand_shape(embedding, (rows, width), (rows, said_width))
    vocab_size = whole(config, *_names("vocabulary", "vocab_size"), high=1 << 28, default=rows)
    notes = _padding(vocab_size, rows, embedding)
    seen, _ = matrix_shape(state, positions)
    context = whole(config, *_names("context", "block_size"), high=1 << 28, default=seen)
    demand_shape(positions, (seen, width), (context, width))
    inner = matrix_shape(state, up)[1 if transposed else 0]
    said_inner = whole(config, *SIZES["inner"], default=inner)
    ratio = number_of(config, ("mlp_ratio", "expansion_factor"), inner / width)
    if said_inner != inner or round(ratio * width) != inner:
        wanted = said_inner if said_inner != inner else round(ratio * width)
        raise CheckpointError("shape", f"{up} has {inner} rows; by the configuration it is {wanted}", _CHECK)
    return DecoderSizes(rows, seen, layers, heads, width, inner, notes)


_CHECK = "check that the configuration belongs to this checkpoint"


def as_here(config: Mapping[str, Any], sizes: DecoderSizes, bias: bool) -> set[str]:
    """Fields whose values describe what every GPT-2 shaped decoder does."""
    known = {name for name in _BIASES if config.get(name) is bias}
    known |= {name for name in _KV_HEADS if config.get(name) == sizes.heads}
    known |= {name for name, value in config.items() if value in (True, "true", "True") and GPT_PARTS.fullmatch(name)}
    known |= {name for name in ALWAYS if flag(config, name, True)}
    known |= {name for name in _POSITIONS if flag(config, name, True)}
    known |= {name for name in ("head_dim", "head_size") if config.get(name) == sizes.width // sizes.heads}
    return known | {
        name for names, values in _WORDS.items() for name in names if str(config.get(name)).lower() in values
    }


def _is_off(value: Any) -> bool:
    return value is False or value in ("false", "False")


def _names(size: str, first: str) -> list[str]:
    """The names of a size, the family's own first: messages use it."""
    return [first, *(name for name in SIZES[size] if name != first)]


def _said(config: Mapping[str, Any], size: str, first: str) -> str:
    return next((name for name in _names(size, first) if name in config), first)


def _padding(vocab_size: int, rows: int, embedding: str) -> tuple[str, ...]:
    """A vocabulary padded to a round number of rows is scored over all rows, as its trainer does."""
    if rows == vocab_size:
        return ()
    multiples = [m for m in (8, 16, 32, 64, 128, 256, _PADDED_MAX) if rows == -(-vocab_size // m) * m]
    if not multiples:
        reason = f"{embedding} has {rows} rows; vocab_size is {vocab_size} in the configuration, padded to no multiple"
        raise CheckpointError("shape", reason, f"say vocab_size = {rows} in [model] config if the rows are right")
    return (f"vocabulary of {vocab_size} padded to {rows} rows: the loss is over all rows",)
