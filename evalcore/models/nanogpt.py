"""nanoGPT, build-nanogpt and minGPT: one set of names, two GELUs.

Sources: karpathy/nanoGPT model.py (exact GELU since June 2023, tanh before; biases on or off), karpathy/build-nanogpt
train_gpt2.py and karpathy/minGPT mingpt/model.py (tanh GELU, biases always).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from evalcore.archive.meaning.fields import EPSILON, TYING
from evalcore.models.decoder import Decoder, DecoderShape, block_names
from evalcore.models.facts import Facts, Proof
from evalcore.models.plan import CheckpointError, From, Plan, Shaped, is_tied, tying_field
from evalcore.models.sizes import COMMON, as_here, sizes_of
from evalcore.models.values import activation, flag, number_of, unknown_notes

_EMBEDDING, _HEAD = "transformer.wte.weight", "lm_head.weight"
_GELU = {"nanogpt": "gelu", "build-nanogpt": "gelu_tanh", "mingpt": "gelu_tanh"}
#: minGPT's `model_type`: layers, heads, width; its config.json is written before they are filled in
_MINGPT = {
    "openai-gpt": (12, 12, 768), "gpt2": (12, 12, 768), "gpt2-medium": (24, 16, 1024), "gpt2-large": (36, 20, 1280),
    "gpt2-xl": (48, 25, 1600), "gopher-44m": (8, 16, 512), "gpt-mini": (6, 6, 192), "gpt-micro": (4, 4, 128),
    "gpt-nano": (3, 3, 48),
}  # fmt: skip
#: types of transformers whose models have other names: their configuration does not belong to these tensors
_OTHERS = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi", "phi3", "gpt_neox", "opt", "bloom", "mamba")
_PARTS = (
    ("norm1", "ln_1"),
    ("norm2", "ln_2"),
    ("attention.qkv", "attn.c_attn"),
    ("attention.out", "attn.c_proj"),
    ("up", "mlp.c_fc"),
    ("down", "mlp.c_proj"),
)


_NAMES = "`transformer.wte`, `transformer.wpe`, `transformer.h.N.attn.c_attn`"
FACTS = {
    "nanogpt": Facts(
        "nanoGPT", f"{_NAMES}; `model_args` with `bias`", "`model_args` in the file", "`iter_num`",
        "biases on or off, exact GELU (tanh GELU for files without `bias`, older than June 2023, noted), any activation"
        " that the configuration names",
        (
            Proof("karpathy/nanoGPT", "3adf61e", "with and without biases", 3.8e-9),
            Proof("Lightning-AI/pytorch-lightning", "2.6.6", "its GPT, trained in a LightningModule", 3.3e-10),
            Proof("deepspeedai/DeepSpeed", "0.19.8", "its GPT trained by ZeRO-2: model states, consolidated", 8.9e-10),
        ),
    ),
    "build-nanogpt": Facts(
        "build-nanogpt", f"{_NAMES}; a pickled GPTConfig of five fields", "`config` in the file", "`step`",
        "tanh GELU, biases, tied head; llm.c's `model_N.bin` of version 3 and 5, read without its padding",
        (
            Proof("karpathy/build-nanogpt", "6104ab1", "its GPT", 4.1e-9),
            Proof("karpathy/llm.c", "f1e2ace", "float32 and bfloat16 files of write_model", 1.9e-7),
        ),
    ),
    "mingpt": Facts(
        "minGPT", f"{_NAMES}; `embd_pdrop`, `resid_pdrop`, `attn_pdrop` in the configuration",
        "`config.json` beside `model.pt`; sizes by `model_type` where it names one", "none: the file name's",
        "tanh GELU, biases, separate head", (Proof("karpathy/minGPT", "37baab7", "sizes given, gpt-nano", 3.0e-8),),
        asked="family, where no configuration is beside a bare state dict",
    ),
}  # fmt: skip


def names(layers: int, bias: bool, prefix: str = "transformer.") -> dict[str, str]:
    """Our parameter names -> those of the file, for all that is named like GPT-2."""
    parts = ("weight", "bias") if bias else ("weight",)
    block = {
        f"blocks.{{layer}}.{ours}.{part}": f"{prefix}h.{{layer}}.{theirs}.{part}"
        for ours, theirs in _PARTS
        for part in parts
    }
    top = {"tokens.weight": f"{prefix}wte.weight", "positions.weight": f"{prefix}wpe.weight"}
    top |= {f"norm.{part}": f"{prefix}ln_f.{part}" for part in parts}
    return top | block_names(layers, block)


def plan(config: Mapping[str, Any], state: Mapping[str, Shaped], *, family: str = "nanogpt") -> Plan:
    """family: nanogpt, build-nanogpt or mingpt; an activation in the configuration has precedence over the family's."""
    if config.get("model_type") in _OTHERS:
        reason = f"config.model_type is {config['model_type']}, and the tensors are named as nanoGPT's"
        raise CheckpointError("unsupported", reason, f'say model_type = "gpt" in [model] config, if it is {family}')
    if family == "mingpt" and config.get("model_type") in _MINGPT:
        sizes_by_type = dict(zip(("n_layer", "n_head", "n_embd"), _MINGPT[config["model_type"]], strict=True))
        config = {**config, **{name: n for name, n in sizes_by_type.items() if config.get(name) is None}}
    sizes = sizes_of(
        config, state, embedding=_EMBEDDING, positions="transformer.wpe.weight", blocks=r"transformer\.h\.(\d+)\.",
        up="transformer.h.0.mlp.c_fc.weight",
    )  # fmt: skip
    bias = flag(config, "bias", "transformer.ln_f.bias" in state)
    notes = [*sizes.notes, *unknown_notes(family, config, COMMON | as_here(config, sizes, bias))]
    declared = all(flag(config, name, family != "mingpt") for name in TYING)
    shape = DecoderShape(
        vocab_size=sizes.vocab_size,
        positions=sizes.positions,
        layers=sizes.layers,
        heads=sizes.heads,
        width=sizes.width,
        inner=sizes.inner,
        activation=activation(config, _GELU[family]),
        linear_bias=bias,
        norm_bias=bias,
        epsilon=number_of(config, EPSILON, 1e-5),
        tied=is_tied(state, _EMBEDDING, _HEAD, declared),
    )
    of_file = names(sizes.layers, bias)
    if not shape.tied:
        of_file["output.weight"] = _HEAD
    weights = {ours: From(theirs) for ours, theirs in of_file.items()}
    says_tied = tying_field(config, state, _EMBEDDING, _HEAD)
    build = partial(Decoder, shape)
    return Plan(family, build, weights, shape.positions, shape.vocab_size, notes, says_tied=says_tied)
