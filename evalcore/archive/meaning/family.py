"""Which model family a state dict holds, by names, shapes and configuration; and what had to be assumed for it.

A family is named only by what is there, never by what is absent: where two fit, it is one of AMBIGUOUS and the user is
asked.
"""

from __future__ import annotations

import re
from typing import Any

from evalcore.archive.errors import shown
from evalcore.archive.meaning.fields import ACTIVATION
from evalcore.archive.meaning.state_dicts import State
from evalcore.archive.meaning.trainer import REFUSALS

#: what is evaluated without a factory; evalcore.models has one plan for each
FAMILIES = (
    "rosellm", "nanogpt", "build-nanogpt", "mingpt", "llms-from-scratch", "llama2c", "nanochat", "litgpt",
    "minimind", "olmo", "olmo-core", "hf-gpt2", "hf-llama", "hf-mistral", "hf-qwen2", "hf-qwen3", "hf-smollm3",
    "hf-gemma", "hf-gemma2", "hf-gemma3_text", "hf-olmo2",
)  # fmt: skip
#: families whose shapes show all but constants that every file of theirs has
SELF_DESCRIBING = ("minimind",)
#: names that several families share: why, and the setting that decides
AMBIGUOUS = {
    "nanogpt-like": (
        "the names and the configuration fit nanoGPT (exact GELU) as well as build-nanogpt and minGPT (tanh GELU): they"
        " differ in their GELU, and so in the loss",
        'family = "nanogpt", "build-nanogpt" or "mingpt"',
    ),
    "llama-like": (
        "the names fit Llama, Mistral, Gemma and other models of transformers, and no model_type says which it is",
        'model_type = "llama" (or another)',
    ),
}
_BUILD_NANOGPT_FIELDS = {"block_size", "vocab_size", "n_layer", "n_head", "n_embd"}
_MINGPT_FIELDS = {"embd_pdrop", "resid_pdrop", "attn_pdrop", "block_size"}


def family_of(trainer: str | None, state: State | None, config: dict[str, Any] | None, cls: str | None) -> str:
    """The model family by the names and shapes in the chosen state dict and the fields of the configuration."""
    keys = state.tensors if state is not None else {}
    config = config or {}
    if state is None:
        return trainer or "unknown"
    if config.get("family") in FAMILIES:
        return str(config["family"])
    if any(re.search(r"\.lora_[AaBb]\b|\.lora_[AB]$|lora_(down|up)\.", key) for key in keys):
        return "lora"
    if any(key.endswith("flat_param") for key in keys):
        return "fsdp-flat"
    if any(re.fullmatch(r"layers\.\d+\.sa_norm\.scale", key) for key in keys):
        return "torchtune"
    pickled = re.match(r"transformers\.models\.(\w+)\.", cls or "")
    if pickled and "model_type" not in config:  # a class attribute there, so not among the pickled fields
        text_part = (cls or "").endswith("TextConfig") and pickled[1] == "gemma3"
        config = {**config, "model_type": "gemma3_text" if text_part else pickled[1]}
    if "position_embedding.weight" in keys and any(".attn.qkv_proj." in key for key in keys):
        return "rosellm"
    if "pos_emb.weight" in keys and any(".att.W_query." in key for key in keys):
        return "llms-from-scratch"
    if "tok_embeddings.weight" in keys and any(".wq." in key for key in keys):
        return "llama2c"
    if "transformer.wte.weight" in keys and "transformer.wpe.weight" in keys:
        return _gpt2_named(trainer, state, config, cls)
    if "wte.weight" in keys and "wpe.weight" in keys:
        return "state-dict" if _c_attn_is_transposed(state) is False else "hf-gpt2"
    if any(key.endswith("embed_tokens.weight") for key in keys) and any(".self_attn.q_proj." in key for key in keys):
        return _llama_named(state, config.get("model_type"))
    if trainer in REFUSALS:
        return str(trainer)
    if any(key.startswith("transformer.h.") and ".attn.c_q." in key for key in keys):
        return "nanochat"
    if any(re.match(r"transformer\.(blocks|block_groups\.\d+)\.\d+\.ff_proj\.weight$", key) for key in keys):
        return "olmo"
    if "embeddings.weight" in keys and any(re.match(r"blocks\.\d+\.attention\.w_q\.", key) for key in keys):
        return "olmo-core"
    if any(".attn.qkv." in key or ".attn.attn." in key for key in keys) and (
        "padded_vocab_size" in config or any(".norm_1." in key for key in keys)
    ):
        return "litgpt"
    if isinstance(config.get("model_type"), str):
        return f"hf-{shown(config['model_type'], 40)}"
    return "lightning" if trainer == "lightning" else "state-dict"


def _gpt2_named(trainer: str | None, state: State, config: dict[str, Any], cls: str | None) -> str:
    """nanoGPT (exact GELU) and build-nanogpt and minGPT (tanh GELU) share their names; other facts decide."""
    orientation = _c_attn_is_transposed(state)
    model_type = config.get("model_type")
    if model_type == "gpt_bigcode":  # GPT-2's names, and (out, in)
        return "hf-gpt_bigcode"
    if orientation or (orientation is None and model_type == "gpt2"):
        return "hf-gpt2" if model_type in (None, "gpt2") else f"hf-{shown(str(model_type), 40)}"
    if trainer == "nanogpt" or "bias" in config or not any(key.endswith("ln_1.bias") for key in state.tensors):
        return "nanogpt"
    if config.keys() >= _MINGPT_FIELDS:
        return "mingpt"
    if (cls or "").endswith("GPTConfig") and config.keys() == _BUILD_NANOGPT_FIELDS and trainer is None:
        return "build-nanogpt"
    return "nanogpt" if any(name in config for name in ACTIVATION) else "nanogpt-like"


def _llama_named(state: State, model_type: Any) -> str:
    """A model type decides; without one, only norms of queries and keys over each head show a family's constants."""
    if model_type is not None:
        return "minimind" if model_type == "minimind" else f"hf-{shown(str(model_type), 40)}"
    first = {key.partition("layers.0.")[2]: t for key, t in state.tensors.items() if "layers.0." in key}
    shapes = {key: t.shape for key, t in first.items()}
    norm, queries = shapes.get("self_attn.q_norm.weight", ()), shapes.get("self_attn.q_proj.weight", ())
    known = {"input_layernorm.weight", "post_attention_layernorm.weight"}
    norms = {name for name in shapes if name.endswith("layernorm.weight")}
    per_head = len(norm) == 1 and len(queries) == 2 and norm[0] < queries[0]
    return "minimind" if per_head and norms == known else "llama-like"


def assumed_for(family: str, trainer: str | None, state: State | None, config: dict[str, Any] | None) -> dict[str, Any]:
    """Fields that the file lacks, with the values that the trainer's history suggests."""
    keys, config = (state.tensors if state is not None else {}), config or {}
    if family == "nanogpt" and trainer == "nanogpt" and not any(name in config for name in ACTIVATION):
        masked = any(key.endswith(".attn.bias") for key in keys)  # a buffer that nanoGPT has without flash attention
        if "bias" not in config and any(key.endswith("ln_1.bias") for key in keys):
            return {"activation": "gelu_tanh"}
        return {"activation": "gelu"} if masked or "bias" not in config else {}
    if family == "minimind":
        return {name: value for name, value in _MINIMIND.items() if name not in config}
    if family == "llama2c" and trainer != "llama2c" and config and "rope_theta" not in config:
        return {"rope_theta": 10000.0}
    return {}


#: MiniMindConfig's defaults for what shapes do not show
_MINIMIND = {"rope_theta": 1e6, "rms_norm_eps": 1e-6, "max_position_embeddings": 32768}


def assumption_note(field: str, value: Any) -> str:
    """The note that an assumption adds to a result."""
    why = {
        ("activation", "gelu_tanh"): "nanoGPT files without `bias` are older than its exact GELU (June 2023)",
        ("activation", "gelu"): "nanoGPT had the tanh GELU until June 2023, and the file does not say",
        ("rope_theta", 10000.0): "as in llama2.c and Llama 2; Llama 3 has 500000",
        ("rope_theta", 1e6): "as in minimind and Qwen3, whose names these are",
        ("rms_norm_eps", 1e-6): "as in minimind and Qwen3, whose names these are",
        ("max_position_embeddings", 32768): "as in minimind and Qwen3, whose names these are",
    }.get((field, value), "the file does not say")
    return f"assumed {field} = {value}: {why}; [model] config can set it"


def lacks_config_hint(family: str) -> str:
    """What to give through `[model] config` where the file has no configuration at all."""
    fields = {
        "nanogpt-like": f"{AMBIGUOUS['nanogpt-like'][1]}, and n_head",
        "nanogpt": "n_head (and bias, where it has biases)",
        "build-nanogpt": "n_head",
        "mingpt": "n_head",
        "llms-from-scratch": "n_heads",
        "rosellm": "n_heads",
        "nanochat": "n_layer, n_head, n_kv_head, n_embd, vocab_size, sequence_len and window_pattern"
        " (model_config in meta_N.json; not for modded-nanogpt, whose names are the same: that needs model.factory)",
        "litgpt": "the fields of its model_config.yaml",
        "llama2c": "n_heads, max_seq_len, and norm_eps and rope_theta where they are not 1e-5 and 10000",
        "hf-gpt2": "n_embd, n_head, n_layer, vocab_size and n_positions (the fields of its config.json)",
        "llama-like": "model_type and the other fields of its config.json",
    }.get(family, "its configuration")
    return f"give {fields} through [model] config or --model-config FILE, or save it under 'config'"


def _c_attn_is_transposed(state: State) -> bool | None:
    """GPT-2 by transformers keeps its linear weights as (in, out), nanoGPT as (out, in); None without such a weight."""
    for key, tensor in state.tensors.items():
        if key.endswith("attn.c_attn.weight") and len(tensor.shape) == 2:
            return tensor.shape[1] == 3 * tensor.shape[0]
    return None
