"""nanoGPT, build-nanogpt and minGPT: one set of names, two GELUs.

Sources: karpathy/nanoGPT model.py (exact GELU since June 2023, tanh before; biases on or off), karpathy/build-nanogpt
train_gpt2.py and karpathy/minGPT mingpt/model.py (tanh GELU, biases always).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from evalcore.archive.meaning.fields import EPSILON, TYING
from evalcore.models.decoder import Decoder, DecoderShape, block_names
from evalcore.models.plan import From, Plan, Shaped, is_tied
from evalcore.models.sizes import COMMON, as_here, sizes_of
from evalcore.models.values import activation, flag, number_of, refuse_unknown

_EMBEDDING, _HEAD = "transformer.wte.weight", "lm_head.weight"
_GELU = {"nanogpt": "gelu", "build-nanogpt": "gelu_tanh", "mingpt": "gelu_tanh"}
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
    """family: nanogpt, build-nanogpt or mingpt; an activation in the configuration has precedence over the family's."""
    sizes = sizes_of(
        config, state, embedding=_EMBEDDING, positions="transformer.wpe.weight", blocks=r"transformer\.h\.(\d+)\.",
        up="transformer.h.0.mlp.c_fc.weight",
    )  # fmt: skip
    bias = flag(config, "bias", "transformer.ln_f.bias" in state)
    refuse_unknown(family, config, COMMON | as_here(config, sizes, bias))
    declared = all(flag(config, name, family != "mingpt") for name in TYING)
    shape = DecoderShape(
        vocab_size=sizes.vocab_size,
        positions=sizes.positions,
        layers=sizes.layers,
        heads=sizes.heads,
        width=sizes.width,
        inner=sizes.inner,
        activation=activation(config, _GELU[family]),
        linear_bias=bias,
        norm_bias=bias,
        epsilon=number_of(config, EPSILON, 1e-5),
        tied=is_tied(state, _EMBEDDING, _HEAD, declared),
    )
    of_file = names(sizes.layers, bias)
    if not shape.tied:
        of_file["output.weight"] = _HEAD
    weights = {ours: From(theirs) for ours, theirs in of_file.items()}
    return Plan(family, partial(Decoder, shape), weights, shape.positions, shape.vocab_size, list(sizes.notes))
