"""What a whole pickled model shows beside its tensors: activations, norms and heads of its modules, as fields of a
configuration. Reads their records; calls and builds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from evalcore.archive.errors import shown
from evalcore.archive.meaning.config import FoundConfig
from evalcore.archive.meaning.fields import ACTIVATION, EPSILON, SIZES
from evalcore.archive.meaning.state_dicts import State
from evalcore.archive.pickle.values import InertObject, Name, TensorRef

_ACTIVATIONS = {"GELU": "gelu", "NewGELU": "gelu_tanh", "ReLU": "relu", "SiLU": "silu", "SwiGLU": "swiglu"}
_FUNCTIONS = {"gelu": "gelu", "relu": "relu", "silu": "silu"}
_OF_TORCH = "torch.nn.modules."
_NO_ACTIVATIONS = ("Softmax", "LogSoftmax", "MultiheadAttention")
#: modules without parameters that leave values as they are in evaluation
_PLAIN = ("container.", "dropout.", "linear.Identity", "loss.")
_MODULES_MAX = 100_000
#: learned positions, which every GPT-2 shaped family has
_POSITIONS = ("wpe.weight", "position_embedding.weight", "pos_emb.weight")


def with_modules(config: FoundConfig | None, root: Any, state: State | None) -> FoundConfig | None:
    """The configuration corrected by the modules of a GPT-2 shaped model that was pickled whole, and `config` itself
    for every other payload. transformers' own classes are what their configuration says.
    """
    module = _module_at(root, state.name) if state is not None else None
    if state is None or module is None or module.class_name.startswith("transformers."):
        return config
    if not any(name.endswith(_POSITIONS) for name in state.tensors):
        return config
    shown_fields = _fields_shown(module, config.values if config is not None else {})
    if not shown_fields:
        return config
    if config is None:
        return FoundConfig(shown_fields, "payload:modules")
    return replace(config, values={**config.values, **shown_fields}, source=f"{config.source}, modules")


def _module_at(root: Any, name: str) -> InertObject | None:
    """The pickled module under the dotted name of its state dict, "" for the payload itself; None where it is none."""
    for part in name.split(".") if name else ():
        root = root.get(part) if isinstance(root, dict) else None
    is_module = isinstance(root, InertObject) and isinstance(root.fields().get("_modules"), dict)
    return root if is_module else None


def _fields_shown(root: InertObject, values: dict[str, Any]) -> dict[str, Any]:
    """Fields that correct or complete `values`: what a module is, is what the trainer's code computed.

    block_modules: parts that a GPT-2 shaped model does not have, which its family refuses.
    """
    activations, epsilons, heads, strange = set(), set(), set(), set()
    for module in _modules_of(root):
        fields, cls = module.fields(), module.class_name.rpartition(".")[2]
        activations |= {*_activation(module.class_name, fields), *_functions(fields)}
        if "norm" in cls.lower():
            own = {fields[name] for name in ("eps", *EPSILON) if type(fields.get(name)) is float}
            epsilons |= own or {"of its code"}
        heads |= {fields[name] for name in SIZES["heads"] if type(fields.get(name)) is int}
        if ("norm" in cls.lower() and "rms" in cls.lower()) or _is_unknown(module):
            strange.add(cls)
    given: dict[str, Any] = {}
    for found, names, what in (
        (activations, ACTIVATION, "activations"),
        (epsilons, EPSILON, "epsilons"),
        (heads, SIZES["heads"], "numbers of heads"),
    ):
        if len(found) > 1:
            strange.add(f"{what} {', '.join(sorted(map(str, found))[:4])}")
        elif found and found != {"of its code"}:
            given[next((name for name in names if values.get(name) is not None), names[0])] = found.pop()
    if strange:
        given["block_modules"] = shown("; ".join(sorted(strange)), 200)
    return {name: value for name, value in given.items() if values.get(name) != value}


def _modules_of(root: InertObject) -> Iterator[InertObject]:
    """The module and all in it, each once."""
    pending, seen = [root], {id(root)}
    while pending and len(seen) < _MODULES_MAX:
        module = pending.pop()
        yield module
        children = module.fields().get("_modules")
        for child in children.values() if isinstance(children, dict) else ():
            if isinstance(child, InertObject) and id(child) not in seen:
                seen.add(id(child))
                pending.append(child)


def _activation(cls: str, fields: dict[Any, Any]) -> list[str]:
    """The activation that a module of torch's, or minGPT's NewGELU, is."""
    name = cls.rpartition(".")[2]
    if name == "NewGELU":
        return [_ACTIVATIONS[name]]
    if not cls.startswith(f"{_OF_TORCH}activation.") or name in _NO_ACTIVATIONS:
        return []
    if name == "GELU" and fields.get("approximate") == "tanh":
        return ["gelu_tanh"]
    return [_ACTIVATIONS.get(name, name.lower())]


def _functions(fields: dict[Any, Any]) -> list[str]:
    """Activations that are kept as functions: self.act = F.relu."""
    named = [value.text for value in fields.values() if isinstance(value, Name)]
    return [_FUNCTIONS[text.rpartition(".")[2]] for text in named if text.rpartition(".")[2] in _FUNCTIONS]


def _is_unknown(module: InertObject) -> bool:
    """Whether it is a part without parameters that may compute something, such as rotary positions."""
    cls = module.class_name
    name = cls.rpartition(".")[2].lower()
    if cls.startswith(_OF_TORCH) and (".activation." in cls or cls.removeprefix(_OF_TORCH).startswith(_PLAIN)):
        return False
    if "gelu" in name or "drop" in name or "loss" in name or "norm" in name:
        return False
    return not any(
        isinstance(value, TensorRef)
        for part in _modules_of(module)
        for value in (part.fields().get("_parameters") or {}).values()
    )
