"""The vocabulary of model configurations: which names mean which size, and which names change a forward pass.

Owns names only. What a value means for a family is decided where the family is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from evalcore.archive.meaning.aside_fields import OF_TRANSFORMERS, is_aside

#: size -> its names in the configurations of different trainers
SIZES: dict[str, tuple[str, ...]] = {
    "layers": ("n_layer", "n_layers", "num_hidden_layers", "num_layers", "n_blocks", "num_blocks"),
    "width": ("n_embd", "d_model", "hidden_size", "dim", "emb_dim", "embed_dim", "embedding_dim", "n_embed"),
    "heads": ("n_head", "n_heads", "num_attention_heads", "num_heads"),
    "vocabulary": ("vocab_size", "n_vocab", "padded_vocab_size"),
    "context": (
        "block_size", "context_length", "n_positions", "n_ctx", "max_position_embeddings", "max_seq_len", "max_seqlen",
        "sequence_len", "max_sequence_length", "max_seq_length", "context_size", "ctx_len",
    ),
    "inner": ("d_ff", "n_inner", "intermediate_size", "ffn_dim", "ffn_hidden_size", "hidden_dim", "mlp_hidden_size"),
}  # fmt: skip
ACTIVATION = (
    "activation", "activation_function", "activation_fn", "act_fn", "act", "hidden_act", "mlp_activation",
    "activation_type", "hidden_activation", "nonlinearity",
)  # fmt: skip
TYING = ("tie_word_embeddings", "tie_weights", "weight_tying", "tie_embeddings", "tied")
EPSILON = (
    "layer_norm_epsilon", "layer_norm_eps", "norm_eps", "ln_eps", "rms_norm_eps", "layernorm_eps", "layernorm_epsilon",
    "norm_epsilon", "ln_epsilon", "rms_eps",
)  # fmt: skip

_TRAINING = re.compile(r"^(lr|learning|batch|epochs?|iters|optim|optimizer|adam|warmup|seed|grad)$")
_ARCHITECTURE = re.compile(
    r"^(act|activation|gelu|relu|swiglu|geglu|glu|norm|rms|rmsnorm|layernorm|ln|prenorm|postnorm|rope|rotary|alibi|pos|"
    r"position|positional|window|sliding|sparse|moe|expert|experts|head|heads|kv|softcap|cap|capping|scale|scaled|"
    r"scaling|tie|tied|tying|share|shared|parallel|residual|resid|bias|biases|attn|attention|mlp|ffn|ff|hidden|inner|"
    r"multiple|embd|emb|embed|embedding|embeddings|mup|layer|layers|logit|logits|qk|qkv|causal|mask|latent|mla|mtp|"
    r"conv|conv1d|ssm|mamba|loop|loops|recurrent|recurrence|block|blocks|dim|width|depth|expansion|ratio|factor|gate|"
    r"gated|gating|skip|unet|squared|multiplier|nonlinearity|mixer|canon|qknorm|softmax|softmax1|nope|mqa|gqa|deepnorm|"
    r"layerscale|rezero|ngpt|bitnet|bitlinear|quant|quantized?|quantization|ternary|qat|universal|recursion|looped|"
    r"unroll|unrolled|ponder|thinking|shift|sinks?|registers?|dilated|dilation|router|bidirectional|connections)\d*$"
)
_NEUTRAL_ONE = re.compile(r"^(scale|scaling|factor|multiplier|parallel|experts|groups|size|repeat|loops)$")
#: with one of these a 1 is no neutral value: a switch (parallel_residual), or another scale than 1 / sqrt(head width)
_NOT_NEUTRAL = re.compile(r"^(use|residual|block|blocks|mlp|ffn|attn|attention|softmax|qk|query)$")

#: what every model here does, each GPT-2 shaped one in any case: these change it where they are false
ALWAYS = (
    "pre_norm", "prenorm", "norm_first", "pre_ln", "causal", "is_causal", "causal_mask", "use_causal_mask",
    "scale_attn", "scale_attention", "scale_attn_weights",
)  # fmt: skip
#: parts that every GPT-2 shaped model has, by the names of the switches that forks give them
GPT_PARTS = re.compile(
    r"(?:use|has|with|add|enable)?_?(?:layer_?norms?|ln|final_(?:ln|norm|layer_?norm)|ln_f|residuals?|"
    r"(?:residual|skip)_connections?|pe|pos_?emb(?:ed|edding)?s?|position(?:al)?_?(?:emb(?:ed|edding)s?|encodings?)|"
    r"(?:learned|learnable)_pos(?:ition)?s?|gelu|attention|attn|mlp|ffn)"
)
GPT_SHAPED = ("rosellm", "nanogpt", "build-nanogpt", "mingpt", "llms-from-scratch", "hf-gpt2")
#: a mask that is switched off by any of these values
_MASKS = ("mask", "use_mask", "mask_type", "attn_mask", "attention_mask")


def sizes_in(values: Mapping[Any, Any]) -> set[str]:
    """Which sizes the mapping gives, as whole numbers or their text."""
    return {size for size, names in SIZES.items() if any(_is_whole(values.get(name)) for name in names)}


def size_values(values: Mapping[Any, Any]) -> dict[str, str]:
    """Size -> its value as text, by the first of its names that has one."""
    found = {size: [values[n] for n in SIZES[size] if values.get(n) is not None] for size in sizes_in(values)}
    return {size: _number_text(given[0]) for size, given in found.items()}


def architecture_in(values: Mapping[Any, Any]) -> dict[str, Any]:
    """The fields of a mapping that by their names change a forward pass, sizes left out."""
    sizes = {name for names in SIZES.values() for name in names}
    return {k: v for k, v in values.items() if isinstance(k, str) and k not in sizes and _is_architecture(k)}


@dataclass(frozen=True)
class UnknownFields:
    """Fields that a family does not have: those that may change its forward pass, and those of unknown meaning."""

    refused: list[str]
    noted: list[str]


def unknown_fields(
    values: Mapping[str, Any], known: Iterable[str], *, open_ended: bool = False, closed: bool = False
) -> UnknownFields:
    """The fields that a family with the fields `known` does not have, values that switch a thing off left out.

    Beside training settings, or where a library adds fields of its own (open_ended), those are refused whose names are
    about architecture; in a configuration of the model alone (closed: it is known to be that) every field is. The rest
    is noted, but for names of training, data, bookkeeping and generation.
    """
    known = {*known, *(OF_TRANSFORMERS if open_ended else ())}
    alone = closed or (not open_ended and not any(_has(name, _TRAINING) for name in values))
    unknown = [
        name for name, value in values.items() if name not in known and not _is_neutral(name, value)
        if not is_aside(name, words(name), _has_architecture(name))
    ]  # fmt: skip
    refused = [name for name in unknown if _is_refused(name, alone)]
    return UnknownFields(refused, [name for name in unknown if name not in refused])


def _is_refused(name: str, alone: bool) -> bool:
    """A private field, or one with a word of training beside one of architecture, is noted at most."""
    return not name.startswith("_") and not is_aside(name, words(name), False) and (alone or _has_architecture(name))


def words(name: str) -> set[str]:
    """n_kvHeads -> {n, kv, heads}."""
    return set(re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower().replace("-", "_").replace(".", "_").split("_"))


def _is_architecture(name: str) -> bool:
    return not name.startswith("_") and not is_aside(name, words(name), False) and _has_architecture(name)


def _has_architecture(name: str) -> bool:
    return name in ACTIVATION or _has(name, _ARCHITECTURE)


def _has(name: str, word: re.Pattern[str]) -> bool:
    return any(map(word.match, words(name)))


def _is_neutral(name: str, value: Any) -> bool:
    if name in ALWAYS:
        return value is None or value is True or value == "true"
    if name in _MASKS:
        return value is None
    if value is None or value is False or value in ("", "none", "None", "false", "False", [], {}, ()):
        return True
    if type(value) in (int, float):
        return value == 0 or (value == 1 and _has(name, _NEUTRAL_ONE) and not _is_switch_or_scores(name))
    return False


def _is_switch_or_scores(name: str) -> bool:
    """Whether a 1 under this name changes a forward pass: parallel_residual, attention_scale; not residual_scale."""
    found = {word for word in words(name) if _NOT_NEUTRAL.match(word)}
    return bool(found - {"residual", "block", "blocks", "mlp", "ffn"}) or (bool(found) and "parallel" in words(name))


def _number_text(value: Any) -> str:
    """12 for 12, 12.0, "12" and "12.0"."""
    return str(value).strip().removesuffix(".0")


def _is_whole(value: Any) -> bool:
    if isinstance(value, str):
        return _number_text(value).isdecimal() and len(value) < 12
    return type(value) is int or (type(value) is float and value.is_integer())
