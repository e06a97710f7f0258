"""Hugging Face GPT-2: GPT2Config's fields; linear weights are stored transposed (in, out).

Source: huggingface/transformers, models/gpt2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from evalcore.archive.meaning.fields import ACTIVATION, EPSILON
from evalcore.models import nanogpt
from evalcore.models.decoder import Decoder, DecoderShape
from evalcore.models.facts import Facts
from evalcore.models.plan import CheckpointError, From, Plan, Shaped, demand_layers, heads_of, is_tied, tying_field
from evalcore.models.values import activation_of_transformers, aliases, flag, number_of, unknown_notes, whole

_SIZES = {
    "layers": "n_layer", "width": "n_embd", "heads": "n_head", "vocabulary": "vocab_size", "context": "n_positions",
    "inner": "n_inner",
}  # fmt: skip
_KNOWN = {*_SIZES.values(), *ACTIVATION, *EPSILON} | {
    "n_ctx", "tie_word_embeddings", "model_type", "family",
    "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "add_cross_attention",
    "reorder_and_upcast_attn", "is_encoder_decoder", "is_decoder", "use_bidirectional_attention",
    "cross_attention_hidden_size",
}  # fmt: skip
_TRANSPOSED = ("attention.qkv.weight", "attention.out.weight", "up.weight", "down.weight")


FACTS = Facts(
    "Hugging Face GPT-2",
    "`wte`, `wpe` and `attn.c_attn` stored as (in, out)",
    "`config.json` of the folder, or `config` in the file",
    "`trainer_state.json` of the folder",
    "GPT2Config's activations, scaling of scores, tying; cross attention is refused",
    (),
)


def plan(config: Mapping[str, Any], state: Mapping[str, Shaped]) -> Plan:
    """With or without the head, and with or without the prefix `transformer.`."""
    as_biased = {"bias"} if flag(config, "bias", True) else set()
    notes = unknown_notes("hf-gpt2", config, _KNOWN | aliases(config, _SIZES) | as_biased, open_ended=True)
    prefix = "" if "wte.weight" in state else "transformer."
    width, heads = whole(config, "n_embd"), whole(config, "n_head")
    layers = whole(config, "n_layer", high=1 << 16)
    heads_of(width, heads, "n_embd", "n_head")
    demand_layers("n_layer", layers, state, re.escape(prefix) + r"h\.(\d+)\.")
    if flag(config, "add_cross_attention", False):
        raise CheckpointError("unsupported", "a GPT-2 with cross attention", "set model.factory")
    shape = DecoderShape(
        vocab_size=whole(config, "vocab_size", high=1 << 28),
        positions=whole(config, "n_positions", "n_ctx", high=1 << 28),
        layers=layers,
        heads=heads,
        width=width,
        inner=whole(config, "n_inner", default=4 * width),
        activation=activation_of_transformers(config, "activation_function", "gelu_tanh"),
        epsilon=number_of(config, EPSILON, 1e-5),
        tied=is_tied(state, f"{prefix}wte.weight", "lm_head.weight", flag(config, "tie_word_embeddings", True)),
        scale=None if flag(config, "scale_attn_weights", True) else 1.0,
        by_layer=flag(config, "scale_attn_by_inverse_layer_idx", False),
    )
    of_file = nanogpt.names(layers, True, prefix)
    if not shape.tied:
        of_file["output.weight"] = "lm_head.weight"
    weights = {ours: From(theirs, ours.endswith(_TRANSPOSED)) for ours, theirs in of_file.items()}
    says_tied = tying_field(config, state, f"{prefix}wte.weight", "lm_head.weight", "tie_word_embeddings")
    build = partial(Decoder, shape)
    return Plan("hf-gpt2", build, weights, shape.positions, shape.vocab_size, notes, says_tied=says_tied)
