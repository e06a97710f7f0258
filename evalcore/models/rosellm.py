"""rosellm's GPT: fields of its GPTConfig, names of its state dict. Source: chtho-like/rosellm, rosetrainer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from evalcore.archive.meaning.fields import EPSILON
from evalcore.models.decoder import Decoder, DecoderShape, block_names
from evalcore.models.facts import Facts, Proof
from evalcore.models.plan import CheckpointError, From, Plan, Shaped, demand_layers, heads_of, is_tied
from evalcore.models.sizes import COMMON
from evalcore.models.values import flag, number_of, unknown_notes, whole

#: the values that rosellm's MLP tells apart; it computes any other as `gelu`
_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh"}
_TOP = {
    "tokens.weight": "token_embedding.weight",
    "positions.weight": "position_embedding.weight",
    "norm.weight": "ln_f.weight",
    "norm.bias": "ln_f.bias",
}
_BLOCK = {
    f"blocks.{{layer}}.{ours}.{part}": f"blocks.{{layer}}.{theirs}.{part}"
    for ours, theirs in (
        ("norm1", "ln1"),
        ("norm2", "ln2"),
        ("attention.qkv", "attn.qkv_proj"),
        ("attention.out", "attn.out_proj"),
        ("up", "mlp.fc1"),
        ("down", "mlp.fc2"),
    )
    for part in ("weight", "bias")
}


FACTS = Facts(
    "rosellm",
    "`token_embedding`, `position_embedding`, `blocks.N.attn.qkv_proj`",
    "`config` in the file: d_model, n_heads, n_layers, d_ff and the other fields of GPTConfig",
    "`step`",
    "exact and tanh GELU (`activation`), tied or separate head, any width of the MLP; shards of a tensor-parallel model"
    " are refused",
    (Proof("chtho-like/rosellm", "5d095df", "GELU", 1.6e-8),),
)


def plan(config: Mapping[str, Any], state: Mapping[str, Shaped]) -> Plan:
    """config: the 8 to 10 fields of GPTConfig. The state dict says whether the head is tied."""
    notes = unknown_notes("rosellm", config, {*COMMON, "use_tensor_parallel", "use_activation_checkpoint"})
    if not flag(config, "bias", True):
        raise CheckpointError(
            "unsupported", "the configuration says bias = False; rosellm has biases", "set model.factory"
        )
    width = whole(config, "d_model")
    heads = whole(config, "n_heads")
    layers = whole(config, "n_layers", high=1 << 16)
    heads_of(width, heads, "d_model", "n_heads")
    _refuse_shard(config, state, width)
    demand_layers("n_layers", layers, state, r"blocks\.(\d+)\.")
    shape = DecoderShape(
        vocab_size=whole(config, "vocab_size", high=1 << 28),
        positions=whole(config, "max_position_embeddings", high=1 << 28),
        layers=layers,
        heads=heads,
        width=width,
        inner=whole(config, "d_ff"),
        activation=_activation(config),
        epsilon=number_of(config, EPSILON, 1e-5),
        tied=is_tied(state, "token_embedding.weight", "lm_head.weight"),
    )
    names = {**_TOP, **block_names(layers, _BLOCK)}
    if not shape.tied:
        names["output.weight"] = "lm_head.weight"
    weights = {ours: From(theirs) for ours, theirs in names.items()}
    return Plan("rosellm", partial(Decoder, shape), weights, shape.positions, shape.vocab_size, notes)


def _activation(config: Mapping[str, Any]) -> str:
    name = config.get("activation") or "gelu"
    if name not in _ACTIVATIONS:
        reason = f"config.activation is {str(name)[:40]!r}, which rosellm's own code computes as gelu"
        hint = 'say activation = "gelu" in [model] config where rosellm trained it; a fork of it needs model.factory'
        raise CheckpointError("unsupported", reason, hint)
    return _ACTIVATIONS[name]


def _refuse_shard(config: Mapping[str, Any], state: Mapping[str, Shaped], width: int) -> None:
    """A tensor-parallel run saves the shard of rank 0 alone: a part of each projection."""
    qkv = state.get("blocks.0.attn.qkv_proj.weight")
    rows = qkv.shape[0] if qkv is not None and len(qkv.shape) == 2 else 3 * width
    if rows != 3 * width and rows > 0 and (3 * width) % rows == 0 and flag(config, "use_tensor_parallel", False):
        reason = f"the file holds one rank's shard of {3 * width // rows} of a tensor-parallel model"
        raise CheckpointError("unsupported", reason, "gather the shards of all ranks before saving")
