"""OLMo's unsharded checkpoints (model.pt beside its config.yaml): fused queries, keys and values; a fused gate.

Source: allenai/OLMo olmo/model.py and olmo/config.py. Rotary positions only: ALiBi and learned positions are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from evalcore.models.facts import Facts, Proof
from evalcore.models.llama import Llama, LlamaShape, NormShape
from evalcore.models.plan import (
    CheckpointError,
    From,
    Plan,
    Shaped,
    demand_layers,
    demand_shape,
    heads_of,
    matrix_shape,
    padding_notes,
)
from evalcore.models.values import choice, flag, number, unknown_notes, whole

_EMBEDDING, _HEAD = "transformer.wte.weight", "transformer.ff_out.weight"
_FACTORY = "set model.factory to a function that builds the model"
_KNOWN = (
    "d_model", "n_heads", "n_kv_heads", "clip_qkv", "n_layers", "mlp_ratio", "mlp_hidden_size", "activation_type",
    "block_type", "block_group_size", "alibi", "alibi_bias_max", "rope", "rope_full_precision", "rope_theta",
    "flash_attention", "multi_query_attention", "attention_layer_norm", "embedding_layer_norm", "layer_norm_type",
    "layer_norm_with_affine", "layer_norm_eps", "attention_layer_norm_with_affine", "max_sequence_length",
    "include_bias", "bias_for_layer_norm", "scale_logits", "vocab_size", "embedding_size", "weight_tying",
    "init_device", "init_fn", "init_std", "init_cutoff_factor", "precision", "scale_emb_init", "emb_init_std",
    "norm_after", "family",
)  # fmt: skip


FACTS = Facts(
    "OLMo, unsharded",
    "`transformer.blocks.N.ff_proj` (or `block_groups`)",
    "`model` in `config.yaml` beside `model.pt`",
    "none: the folder's or file's name",
    "rotary positions, LayerNorm and RMSNorm with or without weights, SwiGLU, GELU and ReLU, clipped and normed queries"
    " and keys, norms after each part, scaled logits; ALiBi and learned positions are refused",
    (
        Proof("allenai/OLMo", "59a53e3", "1B, 7B, biases, OLMo 2, one head of keys", 3.2e-9),
        Proof("allenai/OLMo", "59a53e3", "the checkpoint of a full training run", 1.9e-10),
    ),
)


def plan(config: Mapping[str, Any], state: Mapping[str, Shaped]) -> Plan:
    """config: the fields of OLMo's ModelConfig; what is absent has its default there."""
    notes = unknown_notes("olmo", config, _KNOWN, closed=True)
    if not flag(config, "rope", False):
        positions = "ALiBi" if flag(config, "alibi", False) else "learned positions"
        raise CheckpointError("unsupported", f"an OLMo model with {positions}, not rotary ones (rope)", _FACTORY)
    width, heads = whole(config, "d_model", default=768), whole(config, "n_heads", default=12)
    layers = whole(config, "n_layers", high=1 << 16, default=12)
    prefix, group = _blocks(config)
    demand_layers("n_layers", layers // group, state, re.escape(prefix) + r"\.(\d+)\.")
    vocab_size = whole(config, "vocab_size", high=1 << 28, default=50257)
    rows = whole(config, "embedding_size", high=1 << 28, default=vocab_size if "embedding_size" in config else 50304)
    demand_shape(_EMBEDDING, matrix_shape(state, _EMBEDDING), (rows, width))
    gated = choice(config, "activation_type", "swiglu", ("swiglu", "gelu", "relu")) == "swiglu"
    hidden = whole(config, "mlp_hidden_size", default=round(number(config, "mlp_ratio", 4) * width))
    bias = flag(config, "include_bias", True)
    norm_bias = flag(config, "bias_for_layer_norm", bias)
    kind = choice(config, "layer_norm_type", "default", ("default", "low_precision", "rms"))
    tied = flag(config, "weight_tying", True)
    if flag(config, "scale_logits", False) and not tied and bias:
        raise CheckpointError("unsupported", "scaled logits (scale_logits) with a bias in the head", _FACTORY)
    affine = flag(config, "layer_norm_with_affine", True)
    qk_affine = flag(config, "attention_layer_norm_with_affine", True)
    name = "rms" if kind == "rms" else "layer"
    shape = LlamaShape(
        vocab_size=rows, positions=whole(config, "max_sequence_length", high=1 << 28, default=1024), layers=layers,
        heads=heads, kv_heads=_kv_heads(config, heads), head_width=heads_of(width, heads, "d_model", "n_heads"),
        width=width, inner=hidden // 2 if gated else hidden,
        epsilon=number(config, "layer_norm_eps", 1e-5), attention_bias=bias, mlp_bias=bias, tied=tied,
        rope=(("type", "default"), ("theta", number(config, "rope_theta", 10000.0))),
        activation="silu" if gated else str(config["activation_type"]), gated=gated, fused_gate=gated,
        fused=None if choice(config, "block_type", "sequential", ("sequential", "llama")) == "llama" else "blocks",
        norm=NormShape(name, weight=affine, bias=affine and norm_bias),
        qk_norm="whole" if flag(config, "attention_layer_norm", False) else None,
        qk_norm_shape=NormShape(name, weight=qk_affine, bias=qk_affine and norm_bias),
        norms="after" if flag(config, "norm_after", False) else "before",
        clip=None if config.get("clip_qkv") is None else number(config, "clip_qkv", 1.0),
        output_scale=width**-0.5 if flag(config, "scale_logits", False) else 1.0,
        output_bias=bias and not tied, embedding_norm=flag(config, "embedding_layer_norm", False),
    )  # fmt: skip
    blocks = [f"{prefix}.{i}" if group == 1 else f"{prefix}.{i // group}.{i % group}" for i in range(layers)]
    weights = {ours: From(theirs) for ours, theirs in _names(shape, blocks).items()}
    notes += padding_notes(vocab_size, rows)
    # a tensor of its own beside weight_tying contradicts it: it is refused as unknown
    head = _HEAD if _HEAD not in state or state[_HEAD] == state[_EMBEDDING] else ""
    return Plan("olmo", partial(Llama, shape), weights, shape.positions, rows, notes, tied_head=head)


def _blocks(config: Mapping[str, Any]) -> tuple[str, int]:
    """(name of the list of blocks, blocks in each of its entries)."""
    group = whole(config, "block_group_size", default=1)
    return ("transformer.blocks", 1) if group == 1 else ("transformer.block_groups", group)


def _kv_heads(config: Mapping[str, Any], heads: int) -> int:
    one_head = flag(config, "multi_query_attention", False)
    kv_heads = whole(config, "n_kv_heads", default=1 if one_head else heads)
    if heads % kv_heads or (one_head and kv_heads != 1):
        reason = f"config.n_heads = {heads} does not fit config.n_kv_heads = {kv_heads}"
        raise CheckpointError("shape", reason, "check that the configuration belongs to this checkpoint")
    return kv_heads


def _names(shape: LlamaShape, blocks: list[str]) -> dict[str, str]:
    def parts(norm: NormShape) -> list[str]:
        return [part for part, there in (("weight", norm.weight), ("bias", norm.bias)) if there]

    linear = ["weight", "bias"] if shape.mlp_bias else ["weight"]
    norms = ("post1", "post2") if shape.norms == "after" else ("norm1", "norm2")
    block = [(norms[0], "attn_norm", parts(shape.norm)), (norms[1], "ff_norm", parts(shape.norm))]
    block += [("qkv", "att_proj", linear)] if shape.fused else [(n, f"{n}_proj", linear) for n in "qkv"]
    if shape.qk_norm and shape.qk_norm_shape is not None:
        block += [(f"{n}_norm", f"{n}_norm", parts(shape.qk_norm_shape)) for n in "qk"]
    block += [("out", "attn_out", linear), ("up_gate" if shape.fused_gate else "up", "ff_proj", linear)]
    block += [("down", "ff_out", linear)]
    names = {"tokens.weight": _EMBEDDING}
    names |= {f"norm.{part}": f"transformer.ln_f.{part}" for part in parts(shape.norm)}
    if shape.embedding_norm:
        names |= {f"embedding_norm.{part}": f"transformer.emb_norm.{part}" for part in parts(shape.norm)}
    for layer, place in enumerate(blocks):
        names |= {f"blocks.{layer}.{a}.{p}": f"{place}.{b}.{p}" for a, b, ps in block for p in ps}
    if not shape.tied:
        names["output.weight"] = _HEAD
        names |= {"output.bias": "transformer.ff_out.bias"} if shape.output_bias else {}
    return names
