"""OLMo-core's Transformer by its own names, from a DCP folder with its config.json: OLMo 2, OLMo 3 and Llama shapes.

Source: allenai/OLMo-core nn/transformer, nn/attention, nn/rope, nn/layer_norm, nn/lm_head. The forward pass is Llama's.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from evalcore.models.facts import Facts, Proof
from evalcore.models.llama import Llama, LlamaShape, NormShape, Rope
from evalcore.models.plan import (
    CheckpointError,
    From,
    Plan,
    Shaped,
    demand_layers,
    demand_shape,
    is_tied,
    matrix_shape,
    tying_field,
)
from evalcore.models.values import choice, flag, number, whole

_EMBEDDING, _HEAD = "embeddings.weight", "lm_head.w_out.weight"
_FACTORY = "set model.factory to a function that builds the model"
#: fields that change no forward pass: precision, kernels, how weights begin
_ASIDE = {
    "_CLASS_", "type", "dtype", "dropout", "full_precision", "backend", "use_flash", "init_method", "init_seed",
    "init_std", "embedding_init_std", "freeze_params", "loss_implementation", "fused_ops", "use_experimental",
    "family", "compile", "init_device", "float8_config", "ac_config", "dp_config",
}  # fmt: skip
_NORMS = {"before": "default", "after": "reordered_norm", "both": "peri_norm"}
_LAYER_NORM, _RMS = ("default",), ("rms", "fused_rms", "cute_rms", "qwen_rms")

FACTS = Facts(
    "OLMo-core",
    "`embeddings`, `blocks.N.attention.w_q`",
    "`model` in `config.json` of the DCP folder",
    "the folder's name",
    "pre, reordered and peri norm; LayerNorm and RMSNorm; norms of queries and keys over all heads or each; grouped"
    " keys, clipping, biases, sliding windows, rotary positions in halves or adjacent, on a part of a head or on"
    " windowed layers only, tied or separate head; experts, gates, recurrent mixers, nGPT, scaled norms, scaled rotary"
    " positions and blocks that differ are refused by name",
    (
        Proof(
            "allenai/OLMo-core", "fa6c501", "Llama, OLMo 2, OLMo 3, peri norm; norms, windows and positions varied", 0.0
        ),
        Proof("allenai/OLMo-core", "fa6c501", "complex rotary positions (adjacent pairs)", 3.2e-8),
    ),
)


def plan(config: Mapping[str, Any], state: Mapping[str, Shaped]) -> Plan:
    """config: the fields of TransformerConfig; what is absent has its default there."""
    known = {"name", "d_model", "vocab_size", "n_layers", "block", "lm_head", "embedding_norm", "embed_scale"}
    known |= {"tie_word_embeddings", "max_sequence_length", "sequence_length"}
    _demand(config, "model", known, {"name": "default"})
    block, head = _part(config, "block"), _part(config, "lm_head")
    mixers = [name for name in ("sequence_mixer", "attention") if name in block]
    _demand(block, "block", {*mixers, "layer_norm", "feed_forward", "name"},
            {"attention_residual_alpha": 1.0, "feed_forward_residual_alpha": 1.0})  # fmt: skip
    attention, mlp = _part(block, mixers[0] if mixers else "sequence_mixer"), _part(block, "feed_forward")
    width, layers = whole(config, "d_model"), whole(config, "n_layers", high=1 << 16)
    rows = whole(config, "vocab_size", high=1 << 28)
    demand_layers("n_layers", layers, state, r"blocks\.(\d+)\.")
    demand_shape(_EMBEDDING, matrix_shape(state, _EMBEDDING), (rows, width))
    style = choice(block, "name", "default", tuple(_NORMS.values()))
    norm, epsilon = _norm(_part(block, "layer_norm"), "block.layer_norm")
    _demand(head, "lm_head", {"layer_norm", "bias"}, {"name": "default"})
    others = (("lm_head.layer_norm", head.get("layer_norm")), ("embedding_norm", config.get("embedding_norm")))
    for place, part in others:
        if part is None and place == "embedding_norm":
            continue
        if part is None or _norm(part, place) != (norm, epsilon):
            raise _unsupported(f"{place} differs from block.layer_norm")
    tied = is_tied(state, _EMBEDDING, _HEAD, flag(config, "tie_word_embeddings", False))
    says_tied = tying_field(config, state, _EMBEDDING, _HEAD)
    shape = LlamaShape(
        vocab_size=rows, positions=_positions(config), layers=layers, width=width,
        inner=whole(mlp, "hidden_size"), epsilon=epsilon, mlp_bias=_mlp_bias(mlp),
        activation="gelu_tanh" if _activation(mlp) == "gelu_tanh" else "silu",
        tied=tied, norm=norm, norms=next(ours for ours, theirs in _NORMS.items() if theirs == style),
        output_bias=flag(head, "bias", True) and not tied, embedding_norm=config.get("embedding_norm") is not None,
        embedding_scale=number(config, "embed_scale", 1.0), **_attention(attention, width, layers, epsilon),
    )  # fmt: skip
    weights = {ours: From(theirs) for ours, theirs in _names(shape).items()}
    return Plan(
        "olmo-core", partial(Llama, shape), weights, shape.positions, rows, tied_head=_HEAD, says_tied=says_tied
    )


def _attention(config: Mapping[str, Any], width: int, layers: int, epsilon: float) -> dict[str, Any]:
    known = {"n_heads", "n_kv_heads", "head_dim", "bias", "rope", "clip_qkv", "qk_norm", "sliding_window"}
    _demand(config, "block.sequence_mixer", {*known, "use_head_qk_norm"}, {"name": "default", "type": "attention"})
    heads = whole(config, "n_heads", default=16)
    kv_heads = whole(config, "n_kv_heads", default=heads)
    if heads % kv_heads:
        reason = f"config.n_heads = {heads} does not fit config.n_kv_heads = {kv_heads}"
        raise CheckpointError("shape", reason, "check that the configuration belongs to this checkpoint")
    head_width = whole(config, "head_dim", default=width // heads)
    qk_norm = None
    if config.get("qk_norm") is not None:
        qk_norm, its_epsilon = _norm(_part(config, "qk_norm"), "qk_norm")
        if its_epsilon != epsilon:
            raise _unsupported(f"qk_norm.eps = {its_epsilon} differs from layer_norm.eps = {epsilon}")
    windows = _windows(config.get("sliding_window"), layers)
    rope, fields = _rope(config.get("rope"), head_width)
    everywhere = not fields.pop("local_only")
    unrotated = range(layers) if rope is None else () if everywhere else (i for i, w in enumerate(windows) if w is None)
    return {
        "heads": heads, "kv_heads": kv_heads, "head_width": head_width, "attention_bias": flag(config, "bias", True),
        "qk_norm": None if qk_norm is None else "head" if flag(config, "use_head_qk_norm", False) else "whole",
        "qk_norm_shape": qk_norm, "windows": windows, "unrotated": tuple(unrotated),
        "clip": None if config.get("clip_qkv") is None else number(config, "clip_qkv", 1.0),
        "rope": rope or (("type", "default"), ("theta", 10000.0)), **fields,
    }  # fmt: skip


def _rope(given: Any, head_width: int) -> tuple[Rope | None, dict[str, Any]]:
    """(angular frequencies, other fields of the shape); None without rotary positions."""
    if given is None:
        return None, {"local_only": False}
    rope = given if isinstance(given, Mapping) else {}
    _demand(rope, "rope", {"name", "theta", "no_global_rope", "partial_rotary_factor"}, {"scaling": None})
    kind = choice(rope, "name", "default", ("default", "complex"))
    part = number(rope, "partial_rotary_factor", 1.0)
    fields: dict[str, Any] = {"adjacent": kind == "complex", "local_only": flag(rope, "no_global_rope", False)}
    fields |= {"rotary_width": None if part == 1.0 else int(head_width * part)}
    return (("type", "default"), ("theta", number(rope, "theta", 500_000.0))), fields


def _windows(given: Any, layers: int) -> tuple[int | None, ...]:
    """Keys that each layer sees: the pattern, which begins after a first layer that is made to see all."""
    if given is None:
        return (None,) * layers
    config = given if isinstance(given, Mapping) else {}
    ends = ("force_full_attention_on_first_layer", "force_full_attention_on_last_layer")
    _demand(config, "sliding_window", {"pattern", *ends}, {})
    pattern = config.get("pattern")
    if not isinstance(pattern, list) or not pattern or any(type(n) is not int or n < -1 or n == 0 for n in pattern):
        raise _unsupported(f"sliding_window.pattern is {str(pattern)[:40]!r}")
    first, last = (flag(config, name, True) for name in ends)
    sizes = [pattern[(layer - first) % len(pattern)] for layer in range(layers)]
    unbounded = ({0} if first else set()) | ({layers - 1} if last else set())
    return tuple(None if layer in unbounded or size == -1 else size for layer, size in enumerate(sizes))


def _norm(config: Mapping[str, Any], place: str) -> tuple[NormShape, float]:
    """(the norm, its epsilon). OLMo-core's norms have a weight and a bias where nothing is said."""
    _demand(config, place, {"name", "eps", "elementwise_affine", "bias"}, {})
    kind = choice(config, "name", "default", (*_LAYER_NORM, *_RMS))
    affine = flag(config, "elementwise_affine", True)
    shape = NormShape("rms" if kind in _RMS else "layer", weight=affine, bias=affine and flag(config, "bias", True))
    return shape, number(config, "eps", 1e-5)


def _mlp_bias(mlp: Mapping[str, Any]) -> bool:
    _demand(mlp, "feed_forward", {"hidden_size", "bias", "activation"}, {"name": "default"})
    return flag(mlp, "bias", True)


def _activation(mlp: Mapping[str, Any]) -> str:
    return choice(mlp, "activation", "silu", ("silu", "gelu_tanh"))


def _positions(config: Mapping[str, Any]) -> int | None:
    return whole(config, "max_sequence_length", "sequence_length", high=1 << 28, default=0) or None


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = config.get(name)
    if not isinstance(part, Mapping):
        raise _unsupported(f"the configuration has no {name}")
    return part


def _demand(config: Mapping[str, Any], place: str, known: set[str], only: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a field that is not known, or whose value is not the `only` one that is computed."""
    for name, value in config.items():
        computed = name in only and value in (only[name], None)
        if not (computed or name in _ASIDE - set(only) or (name in known and name not in only) or value is None):
            raise _unsupported(f"{place}.{name} = {str(value)[:60]!r}")


def _unsupported(what: str) -> CheckpointError:
    return CheckpointError("unsupported", f"an OLMo-core model that is not computed here: {what}", _FACTORY)


def _names(shape: LlamaShape) -> dict[str, str]:
    def parts(norm: NormShape | None) -> list[str]:
        return [part for part, there in (("weight", norm.weight), ("bias", norm.bias)) if there] if norm else []

    def linear(bias: bool) -> list[str]:
        return ["weight", "bias"] if bias else ["weight"]

    own = parts(shape.norm)
    first = ("post1", "post2") if shape.norms == "after" else ("norm1", "norm2")
    block = [(first[0], "attention_norm", own), (first[1], "feed_forward_norm", own)]
    if shape.norms == "both":
        block += [("post1", "post_attention_norm", own), ("post2", "post_feed_forward_norm", own)]
    block += [(name, f"attention.w_{name}", linear(shape.attention_bias)) for name in ("q", "k", "v", "out")]
    if shape.qk_norm:
        block += [(f"{name}_norm", f"attention.{name}_norm", parts(shape.qk_norm_shape)) for name in "qk"]
    mlp = (("gate", "w1"), ("down", "w2"), ("up", "w3"))
    block += [(ours, f"feed_forward.{theirs}", linear(shape.mlp_bias)) for ours, theirs in mlp]
    names = {"tokens.weight": _EMBEDDING} | {f"norm.{part}": f"lm_head.norm.{part}" for part in own}
    if shape.embedding_norm:
        names |= {f"embedding_norm.{part}": f"embedding_norm.{part}" for part in own}
    for layer in range(shape.layers):
        names |= {f"blocks.{layer}.{a}.{p}": f"blocks.{layer}.{b}.{p}" for a, b, ps in block for p in ps}
    if not shape.tied:
        names |= {f"output.{part}": f"lm_head.w_out.{part}" for part in linear(shape.output_bias)}
    return names
