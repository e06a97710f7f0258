"""What is loaded from a payload: which state dict, family and configuration; or a refusal with a remedy.

Owns the words of these refusals and notes. Opens and reads nothing.
"""

from __future__ import annotations

import shlex

from evalcore.archive.errors import LIMITS, shown
from evalcore.archive.meaning.config import nameless_config
from evalcore.archive.meaning.family import AMBIGUOUS, FAMILIES, SELF_DESCRIBING, lacks_config_hint
from evalcore.archive.meaning.indirect_weights import described, weights_in_parts
from evalcore.archive.meaning.megatron import refuse_part
from evalcore.archive.meaning.prefixes import holds_no_weights, is_copy
from evalcore.archive.meaning.state_dicts import MODEL_KEYS, State, choose_state
from evalcore.archive.meaning.trainer import refuse_family, refuse_list, refuse_parts
from evalcore.archive.reading import Reading, notes_of
from evalcore.messages import ModelSpec
from evalcore.models import plan_model
from evalcore.models.plan import CheckpointError, Plan


def usable_state(reading: Reading, spec: ModelSpec) -> State:
    """The chosen state dict, of plain tensors only. Raises CheckpointError where the file has none or hides objects."""
    demand_known_family(spec)
    if spec.state is None:
        refuse_list(reading.payload.root)
    if spec.factory is None:
        refuse_part(reading.trainer, reading.config.values if reading.config else None)
        refuse_family(reading.family, reading.trainer, (*FAMILIES, *AMBIGUOUS))
        refuse_parts(reading.payload.root, reading.trainer)
        if spec.state is None:
            _refuse_twins(reading)
    if reading.payload.legacy is not None and reading.payload.custom_names:
        reason = f"the file, in the format without checksums, names {', '.join(reading.payload.custom_names[:5])}"
        raise CheckpointError("unsafe", reason, "save it in torch's zip format, with the state dict and plain values")
    state = reading.state if reading.state is not None else choose_state(reading.states, spec.state)
    if spec.state is None and holds_no_weights(state.name):
        reason = f"the only state dict of the file is {shown(state.name)}, which by its name holds no weights"
        hint = (
            f"save the model's state_dict; or give --model-state {shlex.quote(shown(state.name))}, if these are weights"
        )
        raise CheckpointError("unsupported", reason, hint)
    strange = {name: what for name, what in state.others.items() if not name.endswith("_extra_state")}
    if strange:
        shown_names = ", ".join(f"{name} ({what})" for name, what in list(strange.items())[:5])
        reason = f"the model's state dict holds something else than tensors: {shown_names}"
        raise CheckpointError("unsafe", reason, "save model.state_dict() alone")
    if spec.factory is None and (parts := weights_in_parts(state.tensors)) is not None:
        raise CheckpointError("unsupported", described(parts), f"{parts.remedy}; or give model.factory")
    return state


def _refuse_twins(reading: Reading) -> None:
    """Raise CheckpointError where two models of the file have the same tensors, and no name says which one is meant."""
    chosen = reading.state
    if chosen is None or (chosen.name.rpartition(".")[2] in MODEL_KEYS and chosen.unseparated is None):
        return
    shapes = {name: tensor.shape for name, tensor in chosen.tensors.items()}
    twins = [
        name
        for name, state in reading.states.items()
        if is_copy(name) == is_copy(chosen.name) and {key: t.shape for key, t in state.tensors.items()} == shapes
    ]
    if len(twins) > 1:
        names = ", ".join(shown(name) for name in twins[: LIMITS.listed])
        reason = (
            f"the file holds {len(twins)} models with the same tensors, and no name says which one to evaluate: {names}"
        )
        hint = f"give --model-state {shlex.quote(shown(twins[0]))} (or another of them), or model.state in the settings"
        raise CheckpointError("unsupported", reason, hint)


def demand_known_family(spec: ModelSpec) -> None:
    """Raise CheckpointError where `[model] config` names an unknown family."""
    family = (spec.config or {}).get("family")
    if spec.factory is None and family is not None and family not in FAMILIES:
        reason = f"[model] config says family = {shown(str(family))!r}; families are {', '.join(FAMILIES)}"
        raise CheckpointError("unsupported", reason, "name one of them, or set model.factory to a function of yours")


def plan_of(reading: Reading, state: State) -> Plan:
    """The plan of the recognised family from the configuration and the assumptions."""
    if reading.config is None and reading.family in (*FAMILIES, *AMBIGUOUS) and reading.family not in SELF_DESCRIBING:
        nameless = nameless_config(reading.payload.root)
        reason = f"the file holds a state dict ({reading.family}) but no model configuration"
        if nameless is not None:
            reason += f": its {nameless} was pickled without the names of its fields"
        raise CheckpointError("unsupported", reason, lacks_config_hint(reading.family))
    if reading.family in AMBIGUOUS:
        reason, answer = AMBIGUOUS[reading.family]
        raise CheckpointError("unsupported", reason, f"say {answer} in [model] config, or by --model-config FILE")
    if reading.config is not None and reading.config.conflict is not None:
        reason = f"there are two model configurations that differ: {reading.config.conflict}"
        hint = f"give the right {reading.config.decides[0]} through [model] config or --model-config FILE"
        raise CheckpointError("unsupported", reason, hint)
    values = reading.config.values if reading.config is not None else {}
    return plan_model(reading.family, {**reading.assumed, **values}, state.tensors)


def load_notes(reading: Reading, state: State, spec: ModelSpec) -> list[str]:
    """What is unusual about the file and the choices made, for a result's note."""
    notes = notes_of(reading)
    if spec.config:
        notes.append("configuration from [model] config")
    others = [shown(name or "(the whole file)") for name in reading.states if name != state.name]
    if others or is_copy(state.name):
        notes.append(f"state dict {shown(state.name or '(the whole file)')}")
    if others:
        notes.append(f"also in the file: {', '.join(others[:5])}{' ...' * (len(others) > 5)}")
    if state.name == "state_dict" and "current_model_state" in reading.states:  # Lightning's WeightAveraging
        notes.append("state_dict is Lightning's average; --model-state current_model_state gives the trained weights")
    if reading.trainer == "deepspeed":
        kinds = sorted({tensor.dtype for tensor in state.tensors.values()})
        notes.append(f"DeepSpeed's working copy of the weights, in {', '.join(kinds)}")
    return notes
