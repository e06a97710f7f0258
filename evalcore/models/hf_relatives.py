"""What the relatives of Llama in transformers do otherwise, one entry for each model type, and how layers differ.

Sources: huggingface/transformers models/{llama,mistral,qwen2,qwen3,smollm3,gemma,gemma2,gemma3,olmo2}. Defaults
are those of the configuration classes: a config.json omits what equals a default of every model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalcore.models.facts import Facts, Proof
from evalcore.models.plan import CheckpointError
from evalcore.models.values import flag, whole, whole_list

_SLIDING, _FULL = "sliding_attention", "full_attention"
_OTHER = "give it as a Hugging Face folder, or set model.factory"


@dataclass(frozen=True)
class Relative:
    """known: fields beyond those of all. head_width: None for width / heads. theta: base of rotary positions.

    qkv_bias: whether queries, keys and values always have one. gemma: norms with 1 + weight, scaled embeddings, tanh
    GELU. local_theta: base in layers with a window. pattern: every pattern-th layer
    attends to all keys, where the configuration lists no layer types.
    """

    known: tuple[str, ...] = ("attention_bias",)
    tied: bool = False
    head_width: int | None = None
    theta: float = 1e4
    epsilon: float = 1e-6
    qkv_bias: bool = False
    qk_norm: str | None = None
    gemma: bool = False
    norms: str = "before"
    local_theta: float | None = None
    pattern: int | None = None
    score_cap: float | None = None
    logit_cap: float | None = None


_SLIDES = ("use_sliding_window", "sliding_window", "max_window_layers", "layer_types")
_GEMMA2 = (
    "attention_bias", "query_pre_attn_scalar", "sliding_window", "layer_types", "final_logit_softcapping",
    "attn_logit_softcapping", "cache_implementation", "sliding_window_size",
)  # fmt: skip
RELATIVES = {
    "hf-llama": Relative(("attention_bias", "mlp_bias", "pretraining_tp")),
    "hf-mistral": Relative(("sliding_window",)),
    "hf-qwen2": Relative(_SLIDES, qkv_bias=True),
    "hf-qwen3": Relative(("attention_bias", *_SLIDES), head_width=128, qk_norm="head"),
    "hf-smollm3": Relative(
        ("attention_bias", "mlp_bias", "no_rope_layers", "no_rope_layer_interval", "pretraining_tp", *_SLIDES),
        tied=True, theta=2e6,
    ),
    "hf-gemma": Relative(tied=True, head_width=256, gemma=True),
    "hf-gemma2": Relative(
        _GEMMA2, tied=True, head_width=256, gemma=True, norms="both", pattern=2, score_cap=50.0, logit_cap=30.0
    ),
    "hf-gemma3_text": Relative(
        (*_GEMMA2, "rope_local_base_freq", "sliding_window_pattern", "_sliding_window_pattern"), tied=True,
        head_width=256, theta=1e6, qk_norm="head", gemma=True, norms="both", local_theta=1e4, pattern=6,
    ),
    "hf-olmo2": Relative(epsilon=1e-5, qk_norm="whole", norms="after"),
    "minimind": Relative(("inference_rope_scaling", "flash_attn"), tied=True, theta=1e6, qk_norm="head"),
}  # fmt: skip


FACTS = Facts(
    "Hugging Face Llama and relatives",
    "`embed_tokens`, `layers.N.self_attn.q_proj`, and `model_type`",
    "`config.json` of the folder or beside a file, or `config` in the file",
    "`trainer_state.json` of the folder, or a key of the file",
    "grouped keys, biases, tied heads; rotary scaling default, linear, dynamic, llama3 and yarn (others through"
    " transformers, from a folder); sliding windows; Qwen 3's norms; SmolLM3's layers without positions; Gemma's caps",
    (
        Proof("huggingface/transformers", "5.23.0", "Llama with each rotary scaling", 3.1e-8),
        Proof("huggingface/transformers", "5.23.0", "Mistral, Qwen 2 and 3 with and without windows", 3.3e-8),
        Proof("huggingface/transformers", "5.23.0", "SmolLM3, Gemma 1 to 3, OLMo 2", 2.4e-8),
        Proof("meta-pytorch/torchtune", "bd2a0fc", "folders of its Llama 3.1, Qwen 2 and 3, Gemma", 1.5e-8),
        Proof(
            "meta-pytorch/torchtune",
            "bd2a0fc",
            "folder of its Gemma 2, with its last bound moved from the hidden states to the logits",
            2.2e-9,
        ),
    ),
)


def windows_of(family: str, config: Mapping[str, Any], layers: int) -> tuple[int | None, ...]:
    """Keys that each layer sees, None for all; () where no layer has a window."""
    relative = RELATIVES[family]
    if family == "hf-mistral" and config.get("sliding_window") is not None:
        return (whole(config, "sliding_window", high=1 << 28),) * layers
    if "layer_types" not in relative.known or not _slides(relative, config):
        return ()
    if config.get("sliding_window", 0) is None:  # transformers fails at it
        reason = "config.sliding_window is null, and layers with a window are configured"
        raise CheckpointError("unsupported", reason, "give its size through [model] config, or set model.factory")
    size = whole(config, "sliding_window", high=1 << 28, default=4096)
    return tuple(size if kind == _SLIDING else None for kind in _layer_types(family, config, layers))


def unrotated_layers(family: str, config: Mapping[str, Any], layers: int) -> tuple[int, ...]:
    """Layers without rotary positions: SmolLM3 has one of four so."""
    if family != "hf-smollm3":
        return ()
    if config.get("no_rope_layers") is not None:
        rotated = whole_list(config, "no_rope_layers", layers, 1)  # despite its name, 1 means rotated
    else:
        interval = whole(config, "no_rope_layer_interval", default=4)
        rotated = [int((layer + 1) % interval != 0) for layer in range(layers)]
    return tuple(layer for layer, turns in enumerate(rotated) if not turns)


def _slides(relative: Relative, config: Mapping[str, Any]) -> bool:
    if "use_sliding_window" in relative.known:
        return flag(config, "use_sliding_window", False) and config.get("sliding_window") is not None
    return relative.pattern is not None


def _layer_types(family: str, config: Mapping[str, Any], layers: int) -> list[str]:
    given = config.get("layer_types")
    if given is not None:
        if not isinstance(given, (list, tuple)) or len(given) != layers or set(given) - {_SLIDING, _FULL}:
            reason = f"config.layer_types is {str(given)[:80]!r}; known are {layers} of {_FULL} and {_SLIDING}"
            raise CheckpointError("unsupported", reason, _OTHER)
        return list(given)
    if family == "hf-smollm3":
        unrotated = unrotated_layers(family, config, layers)
        return [_SLIDING if layer in unrotated else _FULL for layer in range(layers)]
    pattern = RELATIVES[family].pattern
    if pattern is not None:
        pattern = whole(config, "sliding_window_pattern", default=pattern)
        return [_SLIDING if (layer + 1) % pattern else _FULL for layer in range(layers)]
    first = whole(config, "max_window_layers", low=0, default=28)
    return [_SLIDING if layer >= first else _FULL for layer in range(layers)]
