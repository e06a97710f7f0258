"""User-defined models: built by the user's function from the checkpoint's configuration and plain tensors.

It runs the user's code, never the checkpoint's. Owns the wrapping to `logits(tokens)`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evalcore.archive.meaning.fields import SIZES
from evalcore.archive.model_digest import factory_digest
from evalcore.messages import ModelSpec
from evalcore.models.causality import PROBE_TOKENS, sees_later_tokens
from evalcore.models.plan import CheckpointError
from evalcore.models.user_code import call_user_code

#: names that mean the context length where a model has them, and in a file only perhaps: a trainer's window, say
_LOOSE_NAMES = ("seq_len", "sequence_length", "max_length", "max_len", "max_position", "max_positions", "ctx")
_OWN_CONFIGS = ("config", "cfg", "args", "params", "hparams")


class LogitsModel(nn.Module):
    """A user's or transformers' model wrapped as `logits(tokens (B, T)) -> (B, T, V)`.

    what: the subject of an error in its forward pass. notes: what was assumed about it.
    """

    def __init__(
        self, inner: nn.Module, vocab_size: int, context_length: int | None, what: str, notes: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.inner = inner
        self.vocab_size = vocab_size
        self.context_length = context_length
        self.what = what
        self.notes = list(notes)

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of a model that returns them, a tuple that begins with them, or an object with `.logits`.

        A single token is given twice and the second position dropped: some models take T > 1 only, and in a causal
        model the first position does not depend on the second.
        """
        given = tokens.repeat(1, 2) if tokens.shape[1] == 1 else tokens.contiguous()
        return logits_in(call_user_code(self.what, lambda: self.inner(given)))[:, : tokens.shape[1]]

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits(tokens)


def logits_in(output: Any) -> Tensor:
    """The logits in what a forward pass returned. Raises CheckpointError where there are none."""
    logits = output
    if isinstance(logits, (tuple, list)) and logits:
        logits = logits[0]
    elif isinstance(logits, Mapping) and "logits" in logits:
        logits = logits["logits"]
    elif not isinstance(logits, Tensor):
        logits = getattr(logits, "logits", None)
    if not isinstance(logits, Tensor) or logits.dim() != 3:
        reason = (
            f"the model's forward(tokens) gave {type(output).__name__}, not logits of shape (batch, time, vocabulary)"
        )
        raise CheckpointError("unsupported", reason, "return the logits, a tuple that begins with them, or .logits")
    return logits


def import_factory(spec: ModelSpec) -> Callable[..., nn.Module]:
    """The function that `package.module:function` names, with python_path before sys.path."""
    module_name, colon, function_name = (spec.factory or "").partition(":")
    if not colon or not module_name or not function_name:
        reason = f"model.factory is {spec.factory!r}"
        raise CheckpointError("unsupported", reason, 'write it as "package.module:function"')
    for folder in reversed(spec.python_path):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    importlib.invalidate_caches()
    _refuse_other_code(spec, module_name)
    try:
        if not _exists(module_name):
            raise ModuleNotFoundError(f"No module named {module_name!r}")
    except ImportError as error:
        reason = f"model.factory {spec.factory!r} cannot be imported: {error}"
        raise CheckpointError(
            "unsupported", reason, "name its folder: [model] python_path, or --python-path DIR"
        ) from error
    module = call_user_code(f"the import of {module_name}", lambda: importlib.import_module(module_name))
    function = getattr(module, function_name, None)
    if function is None:
        near = difflib.get_close_matches(function_name, vars(module), n=1)
        reason = f"model.factory {spec.factory!r} cannot be imported: {module.__file__} has no {function_name}"
        raise CheckpointError("unsupported", reason, f"did you mean {module_name}:{near[0]}?" if near else "")
    if not callable(function):
        raise CheckpointError("unsupported", f"model.factory {spec.factory!r} is no function")
    return function


def _refuse_other_code(spec: ModelSpec, module_name: str) -> None:
    """Raise CheckpointError where the import would give other code than the specification means: a module of the same
    name that this process imported from elsewhere, or files that changed since their digest was taken."""
    top = module_name.partition(".")[0]
    meant = importlib.machinery.PathFinder.find_spec(top, [*spec.python_path, *sys.path])
    loaded = getattr(sys.modules.get(top), "__spec__", None)
    if meant is not None and loaded is not None and _real(meant.origin) != _real(loaded.origin):
        reason = f"model.factory {spec.factory!r} is {meant.origin}; this process has imported {loaded.origin} as {top}"
        raise CheckpointError("unsupported", reason, "give the two modules different names")
    if spec.factory_digest and factory_digest(spec.factory, spec.python_path) != spec.factory_digest:
        reason = f"the code of model.factory {spec.factory!r} has changed since the settings were read"
        raise CheckpointError("unsupported", reason, "reload the daemon (SIGHUP): it reads settings and code anew")


def _real(origin: str | None) -> str | None:
    return None if origin is None else os.path.realpath(origin)


def _exists(module_name: str) -> bool:
    try:
        return importlib.util.find_spec(module_name) is not None
    except ImportError:
        raise
    except Exception:
        return True  # its package raises something: so will the import


def build(spec: ModelSpec, config: dict[str, Any], state: Mapping[str, Tensor], device: str) -> LogitsModel:
    """Call the factory, check its output for two tokens, and wrap it. Weights become float32."""
    function = import_factory(spec)
    inner = call_user_code(f"model.factory {spec.factory}", lambda: function(config, state))
    if not isinstance(inner, nn.Module):
        reason = f"model.factory {spec.factory} gave a {type(inner).__name__}, not a torch.nn.Module"
        raise CheckpointError("unsupported", reason, "return the model with its weights loaded")
    return wrap(inner.float().to(device), config, device, f"forward of {type(inner).__name__} ({spec.factory})")


def wrap(inner: nn.Module, config: Mapping[str, Any], device: str, what: str = "the model's forward") -> LogitsModel:
    """Wrap a module that returns logits; a forward pass over two tokens shows the vocabulary size.

    Raises CheckpointError where its logits depend on later tokens: its loss would mean nothing.
    """
    inner.eval().requires_grad_(False)
    context_length, notes = context_of(inner, config)
    with torch.inference_mode():
        logits = LogitsModel(inner, 0, None, what).logits(torch.zeros(1, 2, dtype=torch.long, device=device))
    if logits.shape[1] != 2:
        reason = f"the model gives logits for {logits.shape[1]} of 2 positions"
        hint = "its forward(tokens) must give logits for every position: wrap a model that returns the last one alone"
        raise CheckpointError("unsupported", reason, hint)
    model = LogitsModel(inner, logits.shape[2], context_length, what, notes)
    _demand_causal(model, min(PROBE_TOKENS, context_length or PROBE_TOKENS), device)
    return model


def _demand_causal(model: LogitsModel, length: int, device: str) -> None:
    try:
        leaks = sees_later_tokens(model.logits, model.vocab_size, length, device)
    except CheckpointError:
        return  # its evaluation raises the same
    if leaks:
        reason = "the model's logits change with later tokens: it is not causal, and a loss would mean nothing"
        raise CheckpointError("unsupported", reason, "evaluate a model whose attention masks later positions")


def context_of(inner: Any, config: Mapping[str, Any]) -> tuple[int | None, tuple[str, ...]]:
    """(most positions or None, notes): from the model's attributes, its own configuration, the checkpoint's.

    The first that has it is used; a field of the checkpoint that may mean something else, with a note.
    """
    own = [inner, *(getattr(inner, name, None) for name in _OWN_CONFIGS)]
    for place in own:
        for name in (*SIZES["context"], *_LOOSE_NAMES):
            if (number := _whole(place, name)) is not None:
                return number, ()
    for name in SIZES["context"]:
        if (number := _whole(config, name)) is not None:
            return number, ()
    for name in _LOOSE_NAMES:
        if (number := _whole(config, name)) is not None:
            assumed = f"context length {number} assumed from {name} in the checkpoint's configuration"
            return number, (f"{assumed}: give the model an attribute context_length",)
    return None, ()


def _whole(place: Any, name: str) -> int | None:
    number = place.get(name) if isinstance(place, Mapping) else getattr(place, name, None)
    return number if type(number) is int and number > 0 else None
