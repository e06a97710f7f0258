"""Llama and its relatives by transformers' names: Mistral, Qwen2 and 3, SmolLM3, Gemma 1 to 3, OLMo 2; and minimind.

What each does otherwise is in hf_relatives.py. Configurations are of any version of transformers that has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from evalcore.archive.meaning.fields import ACTIVATION
from evalcore.models.decoder import block_names
from evalcore.models.hf_relatives import RELATIVES, Relative, unrotated_layers, windows_of
from evalcore.models.hf_rope import rope_of
from evalcore.models.llama import Llama, LlamaShape, NormShape
from evalcore.models.plan import (
    CheckpointError,
    From,
    NeedsTransformers,
    Plan,
    Shaped,
    demand_layers,
    is_tied,
    tying_field,
)
from evalcore.models.values import activation_of_transformers, aliases, flag, number, unknown_notes, whole

_FOLDER = "give it as a Hugging Face folder, or set model.factory"
_SIZES = {
    "layers": "num_hidden_layers", "width": "hidden_size", "heads": "num_attention_heads", "vocabulary": "vocab_size",
    "context": "max_position_embeddings", "inner": "intermediate_size",
}  # fmt: skip
_KNOWN = {*_SIZES.values(), *ACTIVATION} | {
    "model_type", "family", "rms_norm_eps", "tie_word_embeddings",
    "num_key_value_heads", "head_dim", "rope_theta", "rope_scaling", "rope_parameters", "is_decoder",
    "is_encoder_decoder", "cross_attention_hidden_size",
}  # fmt: skip


def plan(config: Mapping[str, Any], state: Mapping[str, Shaped], *, family: str = "hf-llama") -> Plan:
    """config: the fields of the model type's configuration class."""
    relative = RELATIVES[family]
    _refuse_foreign_layers(family, config)
    known = _KNOWN | set(relative.known) | aliases(config, _SIZES)
    notes = unknown_notes(family, config, known, open_ended=True)
    width, heads = whole(config, "hidden_size"), whole(config, "num_attention_heads")
    layers = whole(config, "num_hidden_layers", high=1 << 16)
    kv_heads = whole(config, "num_key_value_heads", default=heads)
    prefix = "" if "embed_tokens.weight" in state else "model."
    has_head_width = config.get("head_dim") is not None or relative.head_width is not None
    if heads % kv_heads or (width % heads and not has_head_width):
        raise CheckpointError("shape", f"{heads} heads do not fit the width {width} or {kv_heads} heads of keys")
    demand_layers("num_hidden_layers", layers, state, prefix.replace(".", r"\.") + r"layers\.(\d+)\.")
    head_width = whole(config, "head_dim", default=relative.head_width or width // heads)
    attention_bias = flag(config, "attention_bias", False)
    tied = flag(config, "tie_word_embeddings", relative.tied)
    shape = LlamaShape(
        vocab_size=whole(config, "vocab_size", high=1 << 28),
        positions=whole(config, "max_position_embeddings", high=1 << 28), layers=layers, heads=heads,
        kv_heads=kv_heads, head_width=head_width, width=width, inner=whole(config, "intermediate_size"),
        epsilon=number(config, "rms_norm_eps", relative.epsilon),
        attention_bias=attention_bias, mlp_bias=flag(config, "mlp_bias", False),
        tied=is_tied(state, f"{prefix}embed_tokens.weight", "lm_head.weight", tied),
        rope=rope_of(config, relative.theta, "full_attention" if relative.local_theta else None),
        activation=_activation(family, relative, config),
        norm=NormShape("rms", offset=1.0 if relative.gemma else 0.0),
        qk_norm=relative.qk_norm, qkv_bias=attention_bias or relative.qkv_bias, norms=relative.norms,
        windows=windows_of(family, config, layers), local_rope=_local_rope(relative, config),
        unrotated=unrotated_layers(family, config, layers),
        scale=_scale(relative, config),
        score_cap=_cap(config, "attn_logit_softcapping", relative.score_cap, relative),
        logit_cap=_cap(config, "final_logit_softcapping", relative.logit_cap, relative),
        embedding_scale=width**0.5 if relative.gemma else 1.0,
    )  # fmt: skip
    field = "tie_word_embeddings" if relative.tied else None
    says_tied = tying_field(config, state, f"{prefix}embed_tokens.weight", "lm_head.weight", field)
    weights, build = _names(shape, prefix), partial(Llama, shape)
    return Plan(family, build, weights, shape.positions, shape.vocab_size, notes, says_tied=says_tied)


def _refuse_foreign_layers(family: str, config: Mapping[str, Any]) -> None:
    """Whatever a class ignores and a fork may not: sliding windows where the model type has none, code of its own."""
    own = config.get("auto_map")
    if isinstance(own, Mapping) and any(name in ("AutoModel", "AutoModelForCausalLM") for name in own):
        reason = f"config.auto_map names code of its own for this {family} model, which is not run: {str(own)[:80]}"
        hint = "set model.factory; or, where it computes what transformers does, say auto_map = false in [model] config"
        raise CheckpointError("unsupported", reason, hint)
    known = RELATIVES[family].known
    if "sliding_window" not in known and config.get("sliding_window") not in (None, False):
        raise CheckpointError(
            "unsupported", f"sliding-window attention in a {family} model", _ignored("sliding_window")
        )
    if flag(config, "use_bidirectional_attention", False):
        reason = "attention in both directions: a loss would mean nothing"
        hint = "where it was trained with a causal mask, say use_bidirectional_attention = false in [model] config"
        raise CheckpointError("unsupported", reason, hint)
    types = config.get("layer_types") if "layer_types" not in known else None
    if types and (not isinstance(types, (list, tuple)) or set(types) != {"full_attention"}):
        raise CheckpointError("unsupported", f"config.layer_types is {str(types)[:80]!r}", _ignored("layer_types"))
    if "rope_local_base_freq" in known and config.get("attn_logit_softcapping") is not None:
        reason = "config.attn_logit_softcapping, which transformers' Gemma 3 has and does not apply"
        raise NeedsTransformers("unsupported", reason, _FOLDER)


def _ignored(field: str) -> str:
    """What to do about a field that transformers ignores in this model type, and a fork may not."""
    return (
        f"set model.factory; or, where it was trained by transformers' own class, say {field} = false in [model] config"
    )


def _activation(family: str, relative: Relative, config: Mapping[str, Any]) -> str:
    if relative.gemma and config.get("hidden_activation"):  # what transformers reads of Gemma, whatever hidden_act says
        config = {"hidden_activation": config["hidden_activation"]}
    name = activation_of_transformers(config, "hidden_act", "gelu_tanh" if relative.gemma else "silu")
    if relative.gemma and name == "gelu" and config.get("hidden_activation") is None:
        return "gelu_tanh"  # Gemma's first configurations say `gelu` and mean the tanh GELU, as transformers has it
    if name not in ("silu", "gelu", "gelu_tanh"):
        field = next(name for name in ACTIVATION if config.get(name))
        raise NeedsTransformers("unsupported", f"config.{field} is {config[field]!r} in a {family} model", _FOLDER)
    if name != "silu" and not relative.gemma:
        raise NeedsTransformers("unsupported", f"a {family} model with another activation than SiLU", _FOLDER)
    return name


def _scale(relative: Relative, config: Mapping[str, Any]) -> float | None:
    if "query_pre_attn_scalar" not in relative.known:
        return None
    return float(number(config, "query_pre_attn_scalar", 256) ** -0.5)


def _cap(config: Mapping[str, Any], name: str, default: float | None, relative: Relative) -> float | None:
    if name not in relative.known or config.get(name, default) is None:
        return None
    return number(config, name, default or 1.0)


def _local_rope(relative: Relative, config: Mapping[str, Any]) -> tuple[tuple[str, Any], ...] | None:
    if relative.local_theta is None:
        return None
    by_layer = config.get("rope_parameters")
    local = by_layer.get("sliding_attention") if isinstance(by_layer, Mapping) else None
    if isinstance(local, Mapping):
        return rope_of({"rope_parameters": local}, relative.local_theta)
    return (("type", "default"), ("theta", number(config, "rope_local_base_freq", relative.local_theta)))


def _names(shape: LlamaShape, prefix: str) -> dict[str, From]:
    norms = {
        "before": {"norm1": "input_layernorm", "norm2": "post_attention_layernorm"},
        "after": {"post1": "post_attention_layernorm", "post2": "post_feedforward_layernorm"},
        "both": {
            "norm1": "input_layernorm", "post1": "post_attention_layernorm", "norm2": "pre_feedforward_layernorm",
            "post2": "post_feedforward_layernorm",
        },
    }[shape.norms]  # fmt: skip
    parts = [(ours, theirs, False) for ours, theirs in norms.items()]
    parts += [(f"{n}_norm", f"self_attn.{n}_norm", False) for n in "qk"] if shape.qk_norm else []
    parts += [(n, f"self_attn.{n}_proj", bool(shape.qkv_bias)) for n in "qkv"]
    parts += [("out", "self_attn.o_proj", shape.attention_bias)]
    parts += [(n, f"mlp.{n}_proj", shape.mlp_bias) for n in ("gate", "up", "down")]
    block = {
        f"blocks.{{layer}}.{ours}.{part}": f"{prefix}layers.{{layer}}.{theirs}.{part}"
        for ours, theirs, bias in parts
        for part in (("weight", "bias") if bias else ("weight",))
    }
    names = {"tokens.weight": f"{prefix}embed_tokens.weight", "norm.weight": f"{prefix}norm.weight"}
    names |= block_names(shape.layers, block)
    if not shape.tied:
        names["output.weight"] = "lm_head.weight"
    return {ours: From(theirs) for ours, theirs in names.items()}
