"""The GPT of "Build a Large Language Model (From Scratch)": names of its GPTModel, separate queries, keys and values.

Source: rasbt/LLMs-from-scratch, ch04 and ch05. Its files hold no configuration: all but the heads is in the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from evalcore.archive.meaning.fields import EPSILON
from evalcore.models.decoder import Decoder, DecoderShape, block_names
from evalcore.models.facts import Facts, Proof
from evalcore.models.plan import From, Plan, Shaped, is_tied
from evalcore.models.sizes import COMMON, as_here, sizes_of
from evalcore.models.values import activation, flag, number_of, unknown_notes

_TOP = {
    "tokens.weight": "tok_emb.weight",
    "positions.weight": "pos_emb.weight",
    "norm.weight": "final_norm.scale",
    "norm.bias": "final_norm.shift",
}
_BLOCK = {
    "norm1.weight": "norm1.scale",
    "norm1.bias": "norm1.shift",
    "norm2.weight": "norm2.scale",
    "norm2.bias": "norm2.shift",
    "attention.q.weight": "att.W_query.weight",
    "attention.k.weight": "att.W_key.weight",
    "attention.v.weight": "att.W_value.weight",
    "attention.out.weight": "att.out_proj.weight",
    "attention.out.bias": "att.out_proj.bias",
    "up.weight": "ff.layers.0.weight",
    "up.bias": "ff.layers.0.bias",
    "down.weight": "ff.layers.2.weight",
    "down.bias": "ff.layers.2.bias",
}
_QKV_BIAS = {
    f"attention.{ours}.bias": f"att.W_{theirs}.bias"
    for ours, theirs in zip("qkv", ("query", "key", "value"), strict=True)
}


FACTS = Facts(
    "LLMs-from-scratch",
    "`tok_emb`, `pos_emb`, `trf_blocks.N.att.W_query`",
    "none in the file: sizes from the shapes",
    "none: the file name's",
    "tanh GELU, biases of queries, keys and values or none, separate head",
    (Proof("rasbt/LLMs-from-scratch", "28c65cd", "with and without biases of queries", 2.8e-8),),
    asked="`n_heads`, which no shape shows",
)


def plan(config: Mapping[str, Any], state: Mapping[str, Shaped]) -> Plan:
    """config: n_heads at least; emb_dim, n_layers, context_length, vocab_size and qkv_bias are checked where given."""
    sizes = sizes_of(
        config, state, embedding="tok_emb.weight", positions="pos_emb.weight", blocks=r"trf_blocks\.(\d+)\.",
        up="trf_blocks.0.ff.layers.0.weight", first_heads="n_heads",
    )  # fmt: skip
    known = {*COMMON, "qkv_bias", "drop_rate"} | as_here(config, sizes, True)
    notes = [*sizes.notes, *unknown_notes("llms-from-scratch", config, known)]
    qkv_bias = flag(config, "qkv_bias", "trf_blocks.0.att.W_query.bias" in state)
    shape = DecoderShape(
        vocab_size=sizes.vocab_size,
        positions=sizes.positions,
        layers=sizes.layers,
        heads=sizes.heads,
        width=sizes.width,
        inner=sizes.inner,
        activation=activation(config, "gelu_tanh"),
        epsilon=number_of(config, EPSILON, 1e-5),
        tied=is_tied(state, "tok_emb.weight", "out_head.weight", False),
        separate=True,
        qkv_bias=qkv_bias,
    )
    block = _BLOCK | (_QKV_BIAS if qkv_bias else {})
    block = {f"blocks.{{layer}}.{ours}": f"trf_blocks.{{layer}}.{theirs}" for ours, theirs in block.items()}
    of_file = _TOP | block_names(sizes.layers, block)
    if not shape.tied:
        of_file["output.weight"] = "out_head.weight"
    weights = {ours: From(theirs) for ours, theirs in of_file.items()}
    build = partial(Decoder, shape)
    return Plan("llms-from-scratch", build, weights, shape.positions, shape.vocab_size, notes, "out_head.weight")
