"""The model families that are evaluated without a factory, and the registry that picks one. One file per family.

A model gives `hidden(tokens (B, T)) -> (B, T, D)` and `head() -> (weight (V, D), bias (V) | None)`; a wrapped foreign
one gives `logits(tokens) -> (B, T, V)` instead. Both have `vocab_size` and `context_length`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

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

__all__ = ["FACTS", "FAMILIES", "CheckpointError", "Plan", "plan_model"]

#: family name -> function of (config, state) that plans it
FAMILIES: dict[str, Callable[[Mapping[str, Any], Mapping[str, Shaped]], Plan]] = {
    "rosellm": rosellm.plan,
    "nanogpt": nanogpt.plan,
    "build-nanogpt": partial(nanogpt.plan, family="build-nanogpt"),
    "mingpt": partial(nanogpt.plan, family="mingpt"),
    "llms-from-scratch": llms_from_scratch.plan,
    "llama2c": llama2c.plan,
    "nanochat": nanochat.plan,
    "litgpt": litgpt.plan,
    "hf-gpt2": gpt2.plan,
    "minimind": minimind.plan,
    "olmo": olmo.plan,
    "olmo-core": olmo_core.plan,
    **{family: partial(hf_llama.plan, family=family) for family in RELATIVES if family.startswith("hf-")},
}


#: family name -> what is known about it, for docs/reference/formats.md
FACTS: dict[str, Facts] = {
    "rosellm": rosellm.FACTS,
    **nanogpt.FACTS,
    "llms-from-scratch": llms_from_scratch.FACTS,
    "llama2c": llama2c.FACTS,
    "nanochat": nanochat.FACTS,
    "litgpt": litgpt.FACTS,
    "hf-gpt2": gpt2.FACTS,
    "minimind": minimind.FACTS,
    "olmo": olmo.FACTS,
    "olmo-core": olmo_core.FACTS,
    **{family: OF_LLAMA for family in FAMILIES if family in RELATIVES and family != "minimind"},
}


def plan_model(family: str, config: Mapping[str, Any], state: Mapping[str, Shaped]) -> Plan:
    """The plan of a known family. Raises CheckpointError: unsupported family, bad configuration value, wrong shape."""
    plan_family = FAMILIES.get(family)
    if plan_family is None:
        unknown = family in ("state-dict", "unknown")
        problem = "its model is of no known family" if unknown else f"its family is {family}"
        reason = f"the file holds a state dict, but {problem}: evaluated without a factory are {', '.join(FAMILIES)}"
        hint = "set model.factory to a function that builds the model"
        if family.startswith("hf-"):
            hint = f"give the folder with its config.json, which transformers builds, or {hint}"
        raise CheckpointError("unsupported", reason, hint)
    refuse_two_values(config, SIZES["heads"])
    return plan_family(config, state)
