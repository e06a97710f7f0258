"""llama2.c, and whatever has Meta's own names of Llama: torchtitan, lingua, consolidated.pth. Adjacent rotary pairs.

Sources: karpathy/llama2.c model.py, meta-llama/llama model.py, pytorch/torchtitan models/llama3 and models/common,
facebookresearch/lingua lingua/transformer.py and apps/main/transformer.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from evalcore.archive.meaning.fields import EPSILON, TYING
from evalcore.models.decoder import block_names
from evalcore.models.facts import Facts, Proof
from evalcore.models.llama import Llama, LlamaShape
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
from evalcore.models.sizes import COMMON
from evalcore.models.values import activation, flag, number, number_of, refuse_unknown_in, unknown_notes, whole

_EMBEDDING = "tok_embeddings.weight"
#: llama2.c's name; torchtitan's; what lingua's tied head leaves in a state dict, which is the embedding again
_HEADS = ("output.weight", "lm_head.weight", "output.tied_module.weight")
_KNOWN = COMMON | {
    "n_kv_heads", "multiple_of", "ffn_dim_multiplier", "norm_eps", "rope_theta", "max_batch_size", "use_scaled_rope",
    "norm_type", "depth_init", "use_flex_attn", "attn_mask_type", "attn_type", "head_dim", "rope_scaling",
    "rope_scaling_factor", "sliding_window",
}  # fmt: skip
#: switches between rotary pairs of neighbours, which this family has, and of halves
_ADJACENT = ("interleaved", "rope_interleaved", "rope_interleave", "interleaved_rope", "use_interleaved_rope")
_SCALING = (
    "rope_type", "type", "factor", "scaling_factor", "low_freq_factor", "high_freq_factor",
    "original_max_position_embeddings",
)  # fmt: skip
_CONTEXT = ("max_seq_len", "max_seqlen", "context_length", "block_size")
_OTHER = "set model.factory to a function that builds the model"
_BLOCK = {
    "norm1": "attention_norm", "norm2": "ffn_norm", "q": "attention.wq", "k": "attention.wk", "v": "attention.wv",
    "out": "attention.wo", "gate": "feed_forward.w1", "down": "feed_forward.w2", "up": "feed_forward.w3",
}  # fmt: skip


FACTS = Facts(
    "llama2.c and Meta's names of Llama",
    "`tok_embeddings`, `layers.N.attention.wq` (torchtitan: `attention.qkv_linear.wq`)",
    "`model_args` in the file; `params.json` beside it",
    "`iter_num`, or what the trainer calls it",
    "rotary positions on adjacent pairs, grouped keys, tied or separate head, Llama 3.1's scaling",
    (
        Proof("karpathy/llama2.c", "350e04f", "grouped keys", 3.3e-9),
        Proof("meta-pytorch/torchtune", "bd2a0fc", "its folder in Meta's format, Llama 3.1's scaling", 1.4e-9),
        Proof(
            "facebookresearch/lingua", "437d680", "DCP folders: grouped keys, tied head, rotary base, wider MLP", 0.0
        ),
    ),
    asked="`n_heads` and `max_seq_len` of a bare state dict",
)


def plan(config: Mapping[str, Any], state: Mapping[str, Shaped]) -> Plan:
    """config: ModelArgs' fields. n_heads must be there; rows, width and inner are in the tensors."""
    notes = unknown_notes("llama2c", config, {*_KNOWN, *(name for name in _ADJACENT if flag(config, name, True))})
    if halves := [name for name in _ADJACENT if not flag(config, name, True)]:
        reason = f"the configuration says {halves[0]} = false; Meta's names stand for rotary pairs of neighbours"
        raise CheckpointError("unsupported", reason, f"say {halves[0]} = true in [model] config, or set model.factory")
    if str(config.get("norm_type", "rmsnorm")).lower() != "rmsnorm":
        reason = "the configuration names another norm than RMSNorm"
        raise CheckpointError("unsupported", reason, "convert it to a Hugging Face folder, or set model.factory")
    if activation(config, "silu") != "silu":
        raise CheckpointError("unsupported", "a Llama with another activation than SiLU", "set model.factory")
    rows, width = matrix_shape(state, _EMBEDDING)
    demand_shape(_EMBEDDING, (rows, width), (rows, whole(config, "dim", default=width)))
    vocab_size = whole(config, "vocab_size", low=-1, high=1 << 28, default=rows)  # -1 until the tokenizer is known
    demand_shape(_EMBEDDING, (rows, width), (rows if vocab_size < 0 else vocab_size, width))
    blocks = {key.split(".")[1] for key in state if key.startswith("layers.")}
    layers = whole(config, "n_layers", high=1 << 16, default=len(blocks))
    demand_layers("n_layers", layers, state, r"layers\.(\d+)\.")
    heads = whole(config, "n_heads")
    head_width = whole(config, "head_dim", default=width // heads)
    inside = "attention.qkv_linear." if "layers.0.attention.qkv_linear.wq.weight" in state else "attention."
    keys = matrix_shape(state, f"layers.0.{inside}wk.weight")[0]
    kv_heads = whole(config, "n_kv_heads", default=max(keys // head_width, 1))
    if (width % heads and "head_dim" not in config) or heads % kv_heads or head_width % 2:
        raise CheckpointError("shape", f"{heads} heads do not fit the width {width} or {kv_heads} heads of keys")
    # Meta's params.json has none; rotary positions have no table that could end
    has_context = any(config.get(name) is not None for name in _CONTEXT)
    context = whole(config, *_CONTEXT, high=1 << 28) if has_context else None
    _refuse_window(config, context)
    head = next((name for name in _HEADS if name in state), _HEADS[0])
    shape = LlamaShape(
        vocab_size=rows,
        positions=context,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        width=width,
        inner=matrix_shape(state, "layers.0.feed_forward.w1.weight")[0],
        epsilon=number_of(config, EPSILON, 1e-5),
        attention_bias=False,
        mlp_bias=False,
        tied=is_tied(state, _EMBEDDING, head, any(flag(config, n, False) for n in TYING)),
        rope=_rope(config),
        adjacent=True,
    )
    parts = _BLOCK | {ours: f"{inside}w{ours}" for ours in "qkv"}
    block = {f"blocks.{{layer}}.{ours}.weight": f"layers.{{layer}}.{theirs}.weight" for ours, theirs in parts.items()}
    names = {"tokens.weight": _EMBEDDING, "norm.weight": "norm.weight", **block_names(layers, block)}
    if not shape.tied:
        names["output.weight"] = head
    weights = {ours: From(theirs) for ours, theirs in names.items()}
    says_tied = tying_field(config, state, _EMBEDDING, head)
    return Plan("llama2c", partial(Llama, shape), weights, context, rows, notes, tied_head=head, says_tied=says_tied)


def _rope(config: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """`rope_theta`, with Llama 3.1's scaling by `use_scaled_rope` or `rope_scaling` (torchtitan's names)."""
    given = config.get("rope_scaling") or {}
    kind = given.get("rope_type", given.get("type", "llama3")) if isinstance(given, Mapping) else given
    if kind not in ("llama", "llama3", "none", "default"):
        raise CheckpointError("unsupported", f"rotary scaling of the type {str(kind)[:40]!r}", _OTHER)
    theta = ("theta", number(config, "rope_theta", 10000.0))
    if kind in ("none", "default") or not (given or flag(config, "use_scaled_rope", False)):
        return ("type", "default"), theta
    values = given if isinstance(given, Mapping) else {}
    refuse_unknown_in("rope_scaling", values, _SCALING)
    places = ((values, "factor"), (values, "scaling_factor"), (config, "rope_scaling_factor"))
    place = next((place for place in places if place[1] in place[0]), None)
    if place is None:  # 8 in Llama 3.1, 32 in 3.2: not to be guessed
        what = "scaled rotary positions (use_scaled_rope) whose factor is not in the file"
        raise CheckpointError("unsupported", what, "give rope_scaling_factor (Llama 3.1: 8, 3.2: 32) in [model] config")
    return (
        ("type", "llama3"),
        theta,
        ("factor", number(place[0], place[1], 8.0)),
        ("low", number(values, "low_freq_factor", 1.0)),
        ("high", number(values, "high_freq_factor", 4.0)),
        ("original", number(values, "original_max_position_embeddings", 8192)),
    )


def _refuse_window(config: Mapping[str, Any], context: int | None) -> None:
    window = config.get("sliding_window")
    if window is not None and (context is None or whole(config, "sliding_window") < context):
        raise CheckpointError("unsupported", f"sliding-window attention over {window} positions", _OTHER)
