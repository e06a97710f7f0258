"""nanoGPT and build-nanogpt: `model_args` or a pickled GPTConfig, one set of names.

Sources: karpathy/nanoGPT model.py (exact GELU, biases on or off), karpathy/build-nanogpt train_gpt2.py (tanh GELU).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from evalcore.models.decoder import Decoder, DecoderShape, block_names
from evalcore.models.plan import From, Plan, Shaped, demand_layers, flag, heads_of, is_tied, whole

_EMBEDDING, _HEAD = "transformer.wte.weight", "lm_head.weight"
_PARTS = (
    ("norm1", "ln_1"),
    ("norm2", "ln_2"),
    ("attention.qkv", "attn.c_attn"),
    ("attention.out", "attn.c_proj"),
    ("up", "mlp.c_fc"),
    ("down", "mlp.c_proj"),
)


def names(layers: int, bias: bool, prefix: str = "transformer.") -> dict[str, str]:
    """Our parameter names -> those of the file, for all that is named like GPT-2."""
    parts = ("weight", "bias") if bias else ("weight",)
    block = {
        f"blocks.{{layer}}.{ours}.{part}": f"{prefix}h.{{layer}}.{theirs}.{part}"
        for ours, theirs in _PARTS
        for part in parts
    }
    top = {"tokens.weight": f"{prefix}wte.weight", "positions.weight": f"{prefix}wpe.weight"}
    top |= {f"norm.{part}": f"{prefix}ln_f.{part}" for part in parts}
    return top | block_names(layers, block)


def plan(config: Mapping[str, Any], state: Mapping[str, Shaped], *, family: str = "nanogpt") -> Plan:
    """family: nanogpt (exact GELU) or build-nanogpt (tanh GELU, biases always)."""
    width = whole(config, "n_embd")
    heads = whole(config, "n_head")
    layers = whole(config, "n_layer", high=1 << 16)
    heads_of(width, heads, "n_embd", "n_head")
    demand_layers("n_layer", layers, state, r"transformer\.h\.(\d+)\.")
    bias = flag(config, "bias", True)
    shape = DecoderShape(
        vocab_size=whole(config, "vocab_size", high=1 << 28),
        positions=whole(config, "block_size", high=1 << 28),
        layers=layers,
        heads=heads,
        width=width,
        inner=4 * width,
        activation="gelu" if family == "nanogpt" else "gelu_tanh",
        linear_bias=bias,
        norm_bias=bias,
        tied=is_tied(state, _EMBEDDING, _HEAD),
    )
    found = names(layers, bias)
    if not shape.tied:
        found["output.weight"] = _HEAD
    weights = {ours: From(theirs) for ours, theirs in found.items()}
    return Plan(family, partial(Decoder, shape), weights, shape.positions, shape.vocab_size)
