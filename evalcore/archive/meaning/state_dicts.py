"""Which parts of a payload are state dicts, and whose: model, EMA, or several. Reads no record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evalcore.archive.errors import LIMITS, ArchiveError, shown
from evalcore.archive.pickle.values import InertObject, InertTensor, TensorRef

#: the usual names of the model's state dict, the likeliest first
MODEL_KEYS = (
    "model",
    "model_state_dict",
    "state_dict",
    "model_state",
    "module",
    "ema",
    "net",
    "network",
    "params",
    "weights",
)
_NOT_MODELS = (
    "optim",
    "random",
    "batch",
    "scheduler",
    "scaler",
    "rng",
    "dataloader",
    "loader",
    "sampler",
    "loop",
    "callback",
    "loss_scale",
)
_PREFIXES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module.")
_DERIVED = (
    ".attn.bias", ".attn.masked_bias", ".attention.bias", ".rotary_emb.inv_freq", ".attn.mask", ".att.mask",
    "freqs_cos", "freqs_sin", "freqs_cis", "n_averaged",
)  # fmt: skip
_TENSOR_WORDS = {
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_qtensor": "a quantised tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a meta tensor, which has no values",
    "torch._utils._rebuild_wrapper_subclass": "a tensor subclass",
}
_SEARCH_DEPTH = 3
_MAX_COUNT = (1 << 63) - 1  # what a database column holds; strides of 0 make any count out of one number


@dataclass(frozen=True)
class State:
    """One state dict. tensors: by stripped name; others: names of values that are no tensors, with what they are.

    aside: names of tensors beside the model that are no part of it. unseparated: every tensor of the mapping that this
    model was separated from, by stripped name; None where it is the whole of it.
    """

    name: str
    tensors: dict[str, TensorRef]
    others: dict[str, str]
    aside: tuple[str, ...] = ()
    unseparated: dict[str, TensorRef] | None = None

    @property
    def parameters(self) -> int:
        """Elements, each counted once however many names share it; causal masks and rotary tables left out.

        At most 2^63 - 1.
        """
        unique: dict[tuple[str, int, tuple[int, ...]], int] = {}
        for name, tensor in self.tensors.items():
            if not is_derived(name):
                unique[tensor.storage.key, tensor.offset, tensor.shape] = tensor.numel
        return min(sum(unique.values()), _MAX_COUNT)


def is_derived(name: str) -> bool:
    """Whether the tensor is computed (a causal mask, a rotary table) or counts, and is not learned."""
    return name.endswith(_DERIVED)


def strip(name: str) -> str:
    """The name without what wrappers add: compile, FSDP, activation checkpointing and Fabric anywhere, DDP in front."""
    for prefix in _PREFIXES:
        name = name.replace(prefix, "")
    while name.startswith("module."):
        name = name[len("module.") :]
    return name


def find_states(root: Any) -> dict[str, State]:
    """Every state dict in the payload by its dotted name, the likeliest model first; "" names the payload itself."""
    states: dict[str, State] = {}
    _search(root, "", 0, states, set())
    if len(states) > 1 and "" in states and not any(len(t.shape) > 1 for t in states[""].tensors.values()):
        del states[""]  # a payload that also holds a tensor or two of its own
    ordered = sorted(states, key=_rank)
    return {name: states[name] for name in ordered}


def parts_in(root: Any) -> tuple[str, int] | None:
    """(key, number) of state dicts in a list under a model's key: parts of a pipeline. None where there are none."""
    for key in MODEL_KEYS if isinstance(root, dict) else ():
        parts = root.get(key)
        several = isinstance(parts, (list, tuple)) and len(parts) > 1
        if several and all(isinstance(part, dict) and _as_state(key, part) for part in parts):
            return key, len(parts)
    return None


def choose_state(states: dict[str, State], wanted: str | None, lists: Sequence[str] = ()) -> State:
    """The state dict named `wanted`, else the likeliest. Raises ArchiveError `unsupported` listing the names.

    lists: names of lists of weights, which are no state dicts.
    """
    if not states:
        hint = "save the model's state_dict under the key 'model'"
        raise ArchiveError("unsupported", "the file holds no state dict: no mapping from names to tensors", hint)
    if wanted is None:
        return _with_readable_names(next(iter(states.values())))
    if wanted in states:
        return _with_readable_names(states[wanted])
    names = ", ".join(shown(name or "(the whole file)") for name in list(states)[: LIMITS.listed])
    hint = "set model.state to one of them"
    if unnamed := [name for name in lists if name == wanted or name.startswith(f"{wanted}.")]:
        names += f"; {shown(unnamed[0])} is a list of tensors without names"
        hint += ", or save model.state_dict() after ema.copy_to(model.parameters())"
    raise ArchiveError("unsupported", f"there is no state dict {shown(wanted)!r} in the file; there is {names}", hint)


def _with_readable_names(state: State) -> State:
    """The state dict itself. Raises ArchiveError where a tensor's name cannot be printed, stored, or is endless."""
    for name in state.tensors:
        if len(name) > LIMITS.name_chars or not name.isprintable():
            what = f"{len(name)} characters" if len(name) > LIMITS.name_chars else "characters that cannot be printed"
            reason = f"a tensor's name has {what}: {shown(name)}"
            raise ArchiveError("unsupported", reason, "rename it in the state dict and save again")
    return state


def _rank(name: str) -> tuple[int, int, str]:
    last = name.rpartition(".")[2]
    if name in MODEL_KEYS:
        return MODEL_KEYS.index(name), 0, name
    if last in MODEL_KEYS:
        return len(MODEL_KEYS) + MODEL_KEYS.index(last), name.count("."), name
    return 3 * len(MODEL_KEYS), name.count("."), name


def _search(value: Any, name: str, depth: int, states: dict[str, State], seen: set[int]) -> None:
    if isinstance(value, (list, tuple)) and len(value) == 1 and name in MODEL_KEYS:
        value = value[0]  # a pipeline of one part
    if not isinstance(value, (dict, InertObject)) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, InertObject):
        state = _module_state(name, value)
        if state is not None:
            states[name] = state
        if state is not None or not value.items:
            return
        value = value.items  # a subclass of dict
    state = _as_state(name, value)
    if state is not None:
        states[name] = state
        if name:
            return
    if depth == _SEARCH_DEPTH or len(value) > 10_000:
        return
    for key, part in value.items():
        if isinstance(key, str) and len(key) <= 200 and not key.lower().startswith(_NOT_MODELS):
            _search(part, f"{name}.{key}" if name else key, depth + 1, states, seen)


def _as_state(name: str, value: dict[Any, Any]) -> State | None:
    """The mapping as a state dict where at least half of its values are tensors under text keys."""
    tensors = {key: item for key, item in value.items() if isinstance(item, TensorRef) and isinstance(key, str)}
    if not any(item.shape for item in tensors.values()) or 2 * len(tensors) < len(value):
        return None
    if not name and not any("." in key or key in ("weight", "bias") for key in tensors):
        return None  # a payload's own tensors: a step, a generator's state
    others = {
        shown(str(key)): _what(item)
        for key, item in value.items()
        if key not in tensors and item is not None and not (isinstance(item, dict) and (not item or not name))
    }
    return State(name, _stripped(tensors), others)


def _stripped(tensors: dict[str, TensorRef]) -> dict[str, TensorRef]:
    stripped: dict[str, TensorRef] = {}
    for key, tensor in tensors.items():
        short = strip(key)
        if short in stripped and stripped[short] != tensor:
            raise ArchiveError("shape", f"two tensors are both named {shown(short)} once wrapper prefixes are gone")
        stripped[short] = tensor
    return stripped


def _what(value: Any) -> str:
    if isinstance(value, InertTensor):
        return _TENSOR_WORDS.get(value.class_name, f"a {shown(value.class_name, 120)}")
    if isinstance(value, InertObject):
        return shown(value.class_name, 120)
    return type(value).__name__


def _module_state(name: str, root: InertObject) -> State | None:
    """The state dict of a whole pickled module, gathered from its records: nothing of it is built or called."""
    tensors: dict[str, TensorRef] = {}
    others: dict[str, str] = {}
    open_modules: list[tuple[str, InertObject]] = [("", root)]
    seen: set[int] = set()
    while open_modules:
        prefix, module = open_modules.pop()
        fields = module.fields()
        if id(module) in seen or not isinstance(fields.get("_modules"), dict):
            continue
        seen.add(id(module))
        if len(prefix) > 400 or len(tensors) > 100_000:
            return None
        skipped = fields.get("_non_persistent_buffers_set")
        for part in ("_parameters", "_buffers"):
            owned = fields.get(part)
            if isinstance(owned, dict) and (part == "_parameters" or not _nonempty(skipped)):
                tensors.update({f"{prefix}{k}": t for k, t in owned.items() if isinstance(t, TensorRef)})
                others |= {
                    shown(f"{prefix}{k}"): _what(t)
                    for k, t in owned.items()
                    if t is not None and not isinstance(t, TensorRef)
                }
        children = fields["_modules"].items()
        open_modules.extend((f"{prefix}{k}.", child) for k, child in children if isinstance(child, InertObject))
    return State(name, _stripped(tensors), others) if tensors else None


def _nonempty(value: Any) -> bool:
    return isinstance(value, InertObject) and bool(value.args) and bool(value.args[0])
