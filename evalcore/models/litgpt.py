"""litgpt's GPT, which is GPT-NeoX, Llama, Gemma, Qwen or another by its model_config.yaml.

Source: Lightning-AI/litgpt litgpt/model.py and litgpt/config.py. `attn.qkv` holds queries, keys and values one after
the other; `attn.attn` of older files holds them by group.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from evalcore.models.decoder import block_names
from evalcore.models.facts import Facts, Proof
from evalcore.models.llama import Llama, LlamaShape, NormShape
from evalcore.models.plan import (
    CheckpointError,
    From,
    Plan,
    Shaped,
    demand_layers,
    demand_shape,
    is_tied,
    matrix_shape,
    padding_notes,
)
from evalcore.models.values import choice, flag, number, unknown_notes, whole, whole_list

_EMBEDDING, _HEAD = "transformer.wte.weight", "lm_head.weight"
_FACTORY = "set model.factory to a function that builds the model"
_KNOWN = (
    "name", "org", "hf_config", "family", "scale_embeddings", "block_size", "n_layer", "n_embd", "vocab_size",
    "padding_multiple", "padded_vocab_size", "norm_class_name", "_norm_class", "norm_eps", "norm_qk", "norm_qk_type",
    "post_attention_norm", "post_mlp_norm", "parallel_residual", "shared_attention_norm", "n_head", "head_size",
    "n_query_groups", "attn_bias", "attention_scores_scalar", "sliding_window_size", "sliding_window_indices",
    "attention_logit_softcapping", "rope_base", "rotary_percentage", "rope_condense_ratio", "rope_adjustments",
    "rope_interleave", "intermediate_size", "bias", "mlp_class_name", "_mlp_class", "gelu_approximate", "lm_head_bias",
    "final_logit_softcapping", "norm_1", "norm_2", "rope_local_base_freq", "rope_indices", "routed_scaling_factor",
    "rope_n_elem",
)  # fmt: skip
_LLAMA3 = {"factor": "factor", "low_freq_factor": "low", "high_freq_factor": "high", "original_max_seq_len": "original"}


FACTS = Facts(
    "litgpt",
    "`transformer.h.N.attn.qkv` or `attn.attn`, `norm_1`",
    "`model_config.yaml` beside `lit_model.pth`",
    "`step_count`",
    "LayerNorm and RMSNorm (Gemma's with 1 + weight), GptNeoxMLP, LLaMAMLP and GemmaMLP, parallel residual, shared"
    " norm, partial, condensed and interleaved rotary positions, Llama 3.1's scaling, query groups, norms of queries"
    " and keys, sliding windows, both soft caps; experts, latent attention and YaRN are refused",
    (
        Proof("Lightning-AI/litgpt", "2685705", "Pythia, NeoX, Phi, Llama, Llama 3.1, longchat, Mistral, Gemma 1 to 3,"
              " Qwen 2.5 and 3, OLMo 1 and 2; both layouts of attention", 2.4e-9),
        Proof("Lightning-AI/litgpt", "2685705", "interleaved rotary positions", 3.5e-8),
    ),
)  # fmt: skip


def plan(config: Mapping[str, Any], state: Mapping[str, Shaped]) -> Plan:
    """config: the fields of litgpt's Config; what is absent has its default there."""
    notes = unknown_notes("litgpt", config, _KNOWN, closed=True)
    layers, width = whole(config, "n_layer", high=1 << 16), whole(config, "n_embd")
    heads = whole(config, "n_head")
    kv_heads = whole(config, "n_query_groups", default=heads)
    head_width = whole(config, "head_size", default=width // heads)
    if heads % kv_heads or (width % heads and config.get("head_size") is None):
        raise CheckpointError("shape", f"{heads} heads do not fit the width {width} or {kv_heads} query groups")
    demand_layers("n_layer", layers, state, r"transformer\.h\.(\d+)\.")
    rows = matrix_shape(state, _EMBEDDING)[0]
    vocab_size = whole(config, "vocab_size", high=1 << 28, default=rows)
    multiple = whole(config, "padding_multiple", default=512)
    padded = whole(config, "padded_vocab_size", high=1 << 28, default=-(-vocab_size // multiple) * multiple)
    demand_shape(_EMBEDDING, (rows, width), (padded, width))
    bias = flag(config, "bias", True)
    mlp = _of(config, ("mlp_class_name", "_mlp_class"), "GptNeoxMLP", ("GptNeoxMLP", "LLaMAMLP", "GemmaMLP"))
    windows, rope, local_rope = _windows(config, layers), _rope(config), None
    if config.get("rope_local_base_freq") is not None:
        local_rope = (("type", "default"), ("theta", number(config, "rope_local_base_freq", 1e4)))
        local = whole_list(config, "rope_indices", layers, 1)
        if [window is not None for window in windows or (None,) * layers] != [bool(n) for n in local]:
            reason = "rope_local_base_freq for other layers than those with a sliding window (rope_indices)"
            raise CheckpointError("unsupported", reason, _FACTORY)
    rotary_width = int(number(config, "rotary_percentage", 0.25, low=0.0) * head_width)
    if rotary_width % 2 or rotary_width > head_width:
        raise CheckpointError("unsupported", f"rotary positions on {rotary_width} of {head_width} elements", _FACTORY)
    shape = LlamaShape(
        vocab_size=rows, positions=whole(config, "block_size", high=1 << 28, default=4096), layers=layers, heads=heads,
        kv_heads=kv_heads, head_width=head_width, width=width,
        inner=whole(config, "intermediate_size", default=4 * width),
        epsilon=number(config, "norm_eps", 1e-5),
        attention_bias=bias, mlp_bias=bias, tied=is_tied(state, _EMBEDDING, _HEAD, False),
        rope=rope, adjacent=flag(config, "rope_interleave", False), rotary_width=rotary_width,
        activation=_activation(config, mlp), gated=mlp != "GptNeoxMLP",
        norm=_norm(config), qk_norm=_qk_norm(config),
        qkv_bias=bias or flag(config, "attn_bias", False),
        fused="groups" if "transformer.h.0.attn.attn.weight" in state else "blocks",
        residual=_residual(config), norms=_norms(config),
        windows=windows, local_rope=local_rope,
        scale=number(config, "attention_scores_scalar", head_width) ** -0.5,
        score_cap=_cap(config, "attention_logit_softcapping"), logit_cap=_cap(config, "final_logit_softcapping"),
        embedding_scale=width**0.5 if flag(config, "scale_embeddings", False) else 1.0,
        output_bias=flag(config, "lm_head_bias", False),
    )  # fmt: skip
    notes += padding_notes(vocab_size, rows)
    packed = "transformer.h.0.mlp.swiglu.w1.weight" in state
    return Plan("litgpt", partial(Llama, shape), _names(shape, packed), shape.positions, rows, notes)


def _of(config: Mapping[str, Any], names: tuple[str, ...], default: str, known: tuple[str, ...]) -> str:
    """The text under the first of the names, refused by name and value where it is none of those known."""
    name = next((name for name in names if config.get(name) is not None), names[0])
    return choice(config, name, default, known)


def _norm(config: Mapping[str, Any]) -> NormShape:
    name = str(config.get("name") or "")
    kind = _of(config, ("norm_class_name", "_norm_class"), "LayerNorm", ("LayerNorm", "RMSNorm", "FusedRMSNorm"))
    if kind != "LayerNorm":
        return NormShape("rms", offset=1.0 if "Gemma" in name else 0.0)
    affine = "OLMo" not in name
    return NormShape("layer", weight=affine, bias=affine)


def _qk_norm(config: Mapping[str, Any]) -> str | None:
    kind = choice(config, "norm_qk_type", "default", ("default", "olmo2"))
    return None if not flag(config, "norm_qk", False) else "head" if kind == "default" else "whole"


def _activation(config: Mapping[str, Any], mlp: str) -> str:
    gelu = choice(config, "gelu_approximate", "none", ("none", "tanh"))
    return "silu" if mlp == "LLaMAMLP" else "gelu" if gelu == "none" else "gelu_tanh"


def _residual(config: Mapping[str, Any]) -> str:
    shared = flag(config, "shared_attention_norm", False)
    if not flag(config, "parallel_residual", True):
        if shared:
            raise CheckpointError("unsupported", "shared_attention_norm without parallel_residual", _FACTORY)
        return "sequential"
    return "shared" if shared else "parallel"


def _norms(config: Mapping[str, Any]) -> str:
    before = {flag(config, name, True) for name in ("norm_1", "norm_2")}
    after = {flag(config, name, False) for name in ("post_attention_norm", "post_mlp_norm")}
    kinds = {(True, False): "before", (False, True): "after", (True, True): "both"}
    kind = kinds.get((before.pop(), after.pop())) if len(before) == len(after) == 1 else None
    if kind is None:
        fields = ("norm_1", "norm_2", "post_attention_norm", "post_mlp_norm")
        values = ", ".join(f"{name} = {config.get(name)}" for name in fields)
        raise CheckpointError("unsupported", f"a block with the norms {values}", _FACTORY)
    return kind


def _windows(config: Mapping[str, Any], layers: int) -> tuple[int | None, ...]:
    if config.get("sliding_window_size") is None:
        return ()
    size = whole(config, "sliding_window_size", high=1 << 28)
    return tuple(size if number else None for number in whole_list(config, "sliding_window_indices", layers, 1))


def _cap(config: Mapping[str, Any], name: str) -> float | None:
    return None if config.get(name) is None else number(config, name, 1.0)


def _rope(config: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    theta = ("theta", number(config, "rope_base", 10000.0))
    given = config.get("rope_adjustments")
    condensed = number(config, "rope_condense_ratio", 1.0)
    if not given:
        return (("type", "default"), theta) if condensed == 1 else (("type", "linear"), theta, ("factor", condensed))
    names = set(given) if isinstance(given, Mapping) else set()
    if condensed == 1 and names == {"factor"}:
        return (("type", "linear"), theta, ("factor", number(given, "factor", 1.0)))
    if condensed == 1 and names == set(_LLAMA3):
        return (("type", "llama3"), theta, *((ours, number(given, name, 1.0)) for name, ours in _LLAMA3.items()))
    reason = f"config.rope_adjustments is {str(given)[:120]!r}; read are a factor alone, and Llama 3's four fields"
    raise CheckpointError("unsupported", reason, _FACTORY)


def _names(shape: LlamaShape, packed: bool) -> dict[str, From]:
    """packed: the MLP has the names of xformers' SwiGLU, as in TinyLlama's pretraining."""
    norm = [part for part, there in (("weight", shape.norm.weight), ("bias", shape.norm.bias)) if there]
    parts: list[tuple[str, str, list[str]]] = []
    if shape.norms != "after":
        parts.append(("norm1", "norm_1", norm))
        parts += [("norm2", "norm_2", norm)] if shape.residual != "shared" else []
    if shape.norms != "before":
        parts += [("post1", "post_attention_norm", norm), ("post2", "post_mlp_norm", norm)]
    linear = ["weight", "bias"] if shape.mlp_bias else ["weight"]
    fused = "attn.attn" if shape.fused == "groups" else "attn.qkv"
    parts += [("qkv", fused, ["weight", "bias"] if shape.qkv_bias else ["weight"]), ("out", "attn.proj", linear)]
    parts += [("q_norm", "attn.norm_q", norm), ("k_norm", "attn.norm_k", norm)] if shape.qk_norm else []
    mlp = {"gate": "fc_1", "up": "fc_2", "down": "proj"} if shape.gated else {"up": "fc", "down": "proj"}
    if packed and shape.gated:
        mlp = {"gate": "swiglu.w1", "up": "swiglu.w2", "down": "swiglu.w3"}
    parts += [(ours, f"mlp.{theirs}", linear) for ours, theirs in mlp.items()]
    block = {f"blocks.{{layer}}.{a}.{p}": f"transformer.h.{{layer}}.{b}.{p}" for a, b, ps in parts for p in ps}
    names = {"tokens.weight": _EMBEDDING, **block_names(shape.layers, block)}
    names |= {f"norm.{part}": f"transformer.ln_f.{part}" for part in norm}
    if not shape.tied:
        names["output.weight"] = _HEAD
        names |= {"output.bias": "lm_head.bias"} if shape.output_bias else {}
    return {ours: From(theirs) for ours, theirs in names.items()}
