"""llama2.c, and whatever has Meta's own names of Llama: torchtitan, Meta's consolidated.pth. Adjacent rotary pairs.

Sources: karpathy/llama2.c model.py, meta-llama/llama model.py, pytorch/torchtitan models/llama3.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from evalcore.archive.meaning.fields import EPSILON, TYING
from evalcore.models.decoder import block_names
from evalcore.models.llama import Llama, LlamaShape
from evalcore.models.plan import CheckpointError, From, Plan, Shaped, demand_layers, demand_shape, is_tied, matrix_shape
from evalcore.models.sizes import COMMON
from evalcore.models.values import activation, flag, number, number_of, refuse_unknown, whole

_EMBEDDING, _HEAD = "tok_embeddings.weight", "output.weight"
_KNOWN = COMMON | {
    "n_kv_heads", "multiple_of", "ffn_dim_multiplier", "norm_eps", "rope_theta", "max_batch_size", "use_scaled_rope",
    "norm_type", "depth_init", "use_flex_attn", "attn_mask_type", "attn_type",
}  # fmt: skip
_BLOCK = {
    "norm1": "attention_norm", "norm2": "ffn_norm", "q": "attention.wq", "k": "attention.wk", "v": "attention.wv",
    "out": "attention.wo", "gate": "feed_forward.w1", "down": "feed_forward.w2", "up": "feed_forward.w3",
}  # fmt: skip


def plan(config: Mapping[str, Any], state: Mapping[str, Shaped]) -> Plan:
    """config: ModelArgs' fields. n_heads, max_seq_len must be there; rows, width and inner are in the tensors."""
    refuse_unknown("llama2c", config, _KNOWN)
    if flag(config, "use_scaled_rope", False) or str(config.get("norm_type", "rmsnorm")).lower() != "rmsnorm":
        reason = "the configuration says scaled rotary positions, or another norm than RMSNorm"
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
    kv_heads = whole(config, "n_kv_heads", default=heads)
    if width % heads or heads % kv_heads or (width // heads) % 2:
        raise CheckpointError("shape", f"{heads} heads do not fit the width {width} or {kv_heads} heads of keys")
    context = whole(config, "max_seq_len", "context_length", "block_size", high=1 << 28)
    shape = LlamaShape(
        vocab_size=rows,
        positions=context,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_width=width // heads,
        width=width,
        inner=matrix_shape(state, "layers.0.feed_forward.w1.weight")[0],
        epsilon=number_of(config, EPSILON, 1e-5),
        attention_bias=False,
        mlp_bias=False,
        tied=is_tied(state, _EMBEDDING, _HEAD, any(flag(config, name, False) for name in TYING)),
        rope=(("type", "default"), ("theta", number(config, "rope_theta", 10000.0))),
        adjacent=True,
    )
    block = {f"blocks.{{layer}}.{ours}.weight": f"layers.{{layer}}.{theirs}.weight" for ours, theirs in _BLOCK.items()}
    names = {"tokens.weight": _EMBEDDING, "norm.weight": "norm.weight", **block_names(layers, block)}
    if not shape.tied:
        names["output.weight"] = _HEAD
    weights = {ours: From(theirs) for ours, theirs in names.items()}
    return Plan("llama2c", partial(Llama, shape), weights, context, rows, tied_head=_HEAD)
