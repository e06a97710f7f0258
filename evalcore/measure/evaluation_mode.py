"""Evaluation mode of a model while it is measured, and the mode of each of its modules after.

Owns how the mode is read and put back: a trainer may have frozen parts of a model in evaluation mode, or may have set a
part below a wrapper (DDP) to training mode alone. Never changes weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """No module of the model trains inside; each is as it was after, also where the body raises."""
    modules = list(model.modules()) if hasattr(model, "modules") else [model]
    trained = [bool(getattr(module, "training", False)) for module in modules]
    if not any(trained):
        yield
        return
    model.eval()  # the model's own method: some do more in it than set the flag
    try:
        yield
    finally:
        if trained[0]:
            model.train()
        for module, training in zip(modules, trained, strict=True):
            module.training = training
