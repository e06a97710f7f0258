"""Hugging Face Llama: LlamaConfig's fields and names, of any version of transformers that has them.

Source: huggingface/transformers, models/llama.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from evalcore.archive.meaning.fields import EPSILON
from evalcore.models.decoder import block_names
from evalcore.models.llama import Llama, LlamaShape
from evalcore.models.plan import CheckpointError, From, Plan, Shaped, demand_layers, is_tied
from evalcore.models.sizes import COMMON
from evalcore.models.values import activation, flag, number, refuse_unknown, whole

_FOLDER = "give it as a Hugging Face folder, or set model.factory"
_KNOWN = COMMON | set(EPSILON) | {
    "num_key_value_heads", "head_dim", "attention_bias", "mlp_bias", "rope_theta", "rope_scaling", "rope_parameters",
    "pretraining_tp", "is_decoder", "is_encoder_decoder", "sliding_window", "layer_types",
    "cross_attention_hidden_size",
}  # fmt: skip


def plan(config: Mapping[str, Any], state: Mapping[str, Shaped]) -> Plan:
    """config: LlamaConfig's fields, of any version of transformers that has them."""
    if activation(config, "silu") != "silu":
        raise CheckpointError("unsupported", "a Llama with another activation than SiLU", _FOLDER)
    if config.get("sliding_window") is not None:
        raise CheckpointError("unsupported", "a Llama with sliding-window attention", _FOLDER)
    refuse_unknown("hf-llama", config, _KNOWN, open_ended=True)
    width, heads = whole(config, "hidden_size"), whole(config, "num_attention_heads")
    layers = whole(config, "num_hidden_layers", high=1 << 16)
    kv_heads = whole(config, "num_key_value_heads", default=heads)
    prefix = "" if "embed_tokens.weight" in state else "model."
    if heads % kv_heads or (width % heads and config.get("head_dim") is None):
        raise CheckpointError("shape", f"{heads} heads do not fit the width {width} or {kv_heads} heads of keys")
    demand_layers("num_hidden_layers", layers, state, prefix.replace(".", r"\.") + r"layers\.(\d+)\.")
    shape = LlamaShape(
        vocab_size=whole(config, "vocab_size", high=1 << 28),
        positions=whole(config, "max_position_embeddings", high=1 << 28),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_width=whole(config, "head_dim", default=width // heads),
        width=width,
        inner=whole(config, "intermediate_size"),
        epsilon=number(config, "rms_norm_eps", 1e-6),
        attention_bias=flag(config, "attention_bias", False),
        mlp_bias=flag(config, "mlp_bias", False),
        tied=is_tied(
            state, f"{prefix}embed_tokens.weight", "lm_head.weight", flag(config, "tie_word_embeddings", False)
        ),
        rope=_rope(config),
    )
    return Plan("hf-llama", partial(Llama, shape), _names(shape, prefix), shape.positions, shape.vocab_size)


def _names(shape: LlamaShape, prefix: str) -> dict[str, From]:
    names = {"tokens.weight": f"{prefix}embed_tokens.weight", "norm.weight": f"{prefix}norm.weight"}
    block = {
        "blocks.{layer}.norm1.weight": f"{prefix}layers.{{layer}}.input_layernorm.weight",
        "blocks.{layer}.norm2.weight": f"{prefix}layers.{{layer}}.post_attention_layernorm.weight",
    }
    for ours, theirs, bias in (
        ("q", "self_attn.q_proj", shape.attention_bias),
        ("k", "self_attn.k_proj", shape.attention_bias),
        ("v", "self_attn.v_proj", shape.attention_bias),
        ("out", "self_attn.o_proj", shape.attention_bias),
        ("gate", "mlp.gate_proj", shape.mlp_bias),
        ("up", "mlp.up_proj", shape.mlp_bias),
        ("down", "mlp.down_proj", shape.mlp_bias),
    ):
        for part in ("weight", "bias") if bias else ("weight",):
            block[f"blocks.{{layer}}.{ours}.{part}"] = f"{prefix}layers.{{layer}}.{theirs}.{part}"
    names |= block_names(shape.layers, block)
    if not shape.tied:
        names["output.weight"] = "lm_head.weight"
    return {ours: From(theirs) for ours, theirs in names.items()}


def _rope(config: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """`rope_parameters` (transformers 5), or `rope_theta` with `rope_scaling` (before)."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, Mapping):
        raise CheckpointError("unsupported", f"config.rope_scaling is {str(given)[:40]!r}, not a mapping")
    kind = given.get("rope_type", given.get("type", "default"))
    rope: dict[str, Any] = {"type": kind, "theta": number({**config, **given}, "rope_theta", 10000.0)}
    if kind == "linear":
        rope["factor"] = number(given, "factor", 1.0)
    elif kind == "llama3":
        rope |= {
            "factor": number(given, "factor", 8.0),
            "low": number(given, "low_freq_factor", 1.0),
            "high": number(given, "high_freq_factor", 4.0),
            "original": number(given, "original_max_position_embeddings", 8192),
        }
    elif kind != "default":
        raise CheckpointError("unsupported", f"rotary scaling of the type {str(kind)[:40]!r}", "give model.factory")
    return tuple(rope.items())
