"""The model families that are evaluated without a factory, and the registry that picks one. One file per family.

A model gives `hidden(tokens (B, T)) -> (B, T, D)` and `head() -> (weight (V, D), bias (V) | None)`; a wrapped foreign
one gives `logits(tokens) -> (B, T, V)` instead. Both have `vocab_size` and `context_length`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from evalcore.archive.meaning.fields import SIZES
from evalcore.models import (
    gpt2,
    hf_llama,
    litgpt,
    llama2c,
    llms_from_scratch,
    minimind,
    nanochat,
    nanogpt,
    olmo,
    olmo_core,
    rosellm,
)
from evalcore.models.facts import Facts
from evalcore.models.hf_relatives import FACTS as OF_LLAMA
from evalcore.models.hf_relatives import RELATIVES
from evalcore.models.plan import CheckpointError, Plan, Shaped
from evalcore.models.values import refuse_two_values

__all__ = ["FAMILIES", "CheckpointError", "Plan", "demand_unquantised", "plan_model"]


class Family(NamedTuple):
    """plan: what turns configuration and state into a model. facts: what docs/reference/formats.md says of it."""

    plan: Callable[[Mapping[str, Any], Mapping[str, Shaped]], Plan]
    facts: Facts


def _of_nanogpt(family: str) -> Family:
    return Family(partial(nanogpt.plan, family=family), nanogpt.FACTS[family])


#: by name; each name stands in FAMILIES of evalcore.archive.meaning.family too, which loads no torch
FAMILIES: dict[str, Family] = {
    "rosellm": Family(rosellm.plan, rosellm.FACTS),
    "nanogpt": _of_nanogpt("nanogpt"),
    "build-nanogpt": _of_nanogpt("build-nanogpt"),
    "mingpt": _of_nanogpt("mingpt"),
    "llms-from-scratch": Family(llms_from_scratch.plan, llms_from_scratch.FACTS),
    "llama2c": Family(llama2c.plan, llama2c.FACTS),
    "nanochat": Family(nanochat.plan, nanochat.FACTS),
    "litgpt": Family(litgpt.plan, litgpt.FACTS),
    "hf-gpt2": Family(gpt2.plan, gpt2.FACTS),
    "minimind": Family(minimind.plan, minimind.FACTS),
    "olmo": Family(olmo.plan, olmo.FACTS),
    "olmo-core": Family(olmo_core.plan, olmo_core.FACTS),
    **{
        family: Family(partial(hf_llama.plan, family=family), OF_LLAMA)
        for family in RELATIVES
        if family.startswith("hf-")
    },
}


def plan_model(family: str, config: Mapping[str, Any], state: Mapping[str, Shaped]) -> Plan:
    """The plan of a known family. Raises CheckpointError: unsupported family, bad configuration value, wrong shape."""
    known = FAMILIES.get(family)
    if known is None:
        unknown = family in ("state-dict", "unknown")
        problem = "its model is of no known family" if unknown else f"its family is {family}"
        reason = f"the file holds a state dict, but {problem}: evaluated without a factory are {', '.join(FAMILIES)}"
        hint = "set model.factory to a function that builds the model; of a model of transformers, give its folder"
        if family.startswith("hf-"):
            hint = f"give the folder with its config.json, which transformers builds, or {hint}"
        raise CheckpointError("unsupported", reason, hint)
    demand_unquantised(config)
    refuse_two_values(config, SIZES["heads"])
    return known.plan(config, state)


def demand_unquantised(config: Mapping[str, Any]) -> None:
    """Raise CheckpointError where transformers' configuration says that the weights are quantised."""
    if config.get("quantization_config"):
        reason = f"config.json says the weights are quantised: {str(config['quantization_config'])[:120]}"
        raise CheckpointError("unsupported", reason, "give the folder before quantisation, or set model.factory")
