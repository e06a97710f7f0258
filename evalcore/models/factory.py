"""User-defined models: built by the user's function from the checkpoint's configuration and plain tensors.

It runs the user's code, never the checkpoint's. Owns the wrapping to `logits(tokens)`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evalcore.archive.meaning.fields import SIZES
from evalcore.messages import ModelSpec
from evalcore.models.plan import CheckpointError

_CONTEXT_NAMES = (
    *SIZES["context"], "seq_len", "sequence_length", "max_length", "max_len", "max_position", "ctx", "window_size",
)  # fmt: skip


class LogitsModel(nn.Module):
    """A user's or transformers' model wrapped as `logits(tokens (B, T)) -> (B, T, V)`."""

    def __init__(self, inner: nn.Module, vocab_size: int, context_length: int | None) -> None:
        super().__init__()
        self.inner = inner
        self.vocab_size = vocab_size
        self.context_length = context_length

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of a model that returns them, a tuple that begins with them, or an object with `.logits`."""
        return logits_in(self.inner(tokens.contiguous()))

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
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        reason = f"model.factory {spec.factory!r} cannot be imported: {error}"
        raise CheckpointError(
            "unsupported", reason, "name its folder: [model] python_path, or --python-path DIR"
        ) from error
    if not callable(function):
        raise CheckpointError("unsupported", f"model.factory {spec.factory!r} is no function")
    return function


def build(spec: ModelSpec, config: dict[str, Any], state: Mapping[str, Tensor], device: str) -> LogitsModel:
    """Call the factory, check its output for two tokens, and wrap it. Weights become float32."""
    function = import_factory(spec)
    try:
        inner = function(config, state)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = f"model.factory {spec.factory} failed: {type(error).__name__}: {str(error)[:300]}"
        raise CheckpointError("unsupported", reason, "call it in a Python shell to see where") from error
    if not isinstance(inner, nn.Module):
        reason = f"model.factory {spec.factory} gave a {type(inner).__name__}, not a torch.nn.Module"
        raise CheckpointError("unsupported", reason, "return the model with its weights loaded")
    return wrap(inner.float().to(device), config, device)


def wrap(inner: nn.Module, config: Mapping[str, Any], device: str) -> LogitsModel:
    """Wrap a module that returns logits; a forward pass over two tokens shows the vocabulary size."""
    inner.eval().requires_grad_(False)
    with torch.inference_mode():
        logits = logits_in(inner(torch.zeros(1, 2, dtype=torch.long, device=device)))
    if logits.shape[1] != 2:
        reason = f"the model gives logits for {logits.shape[1]} of 2 positions"
        raise CheckpointError("unsupported", reason, "its forward(tokens) must give logits for every position")
    own = getattr(inner, "config", None)
    return LogitsModel(inner, logits.shape[2], _number(_CONTEXT_NAMES, config, own))


def _number(names: tuple[str, ...], config: Mapping[str, Any], own: Any) -> int | None:
    """The first whole number; the model's own configuration has precedence over the file's."""
    for name in names:
        value = own.get(name) if isinstance(own, Mapping) else getattr(own, name, None)
        for number in (value, config.get(name)):
            if type(number) is int and number > 0:
                return number
    return None
