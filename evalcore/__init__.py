"""evalcore evaluates a language model on a token stream: exact loss, perplexity and bits per byte.

Importing this package loads no torch; the names below load what they need when first used.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "evaluate": ("evalcore.measure.evaluate", "evaluate"),
    "current_group": ("evalcore.measure.process_group", "current_group"),
    "evaluate_task": ("evalcore.tasks.evaluate_task", "evaluate_task"),
    "TaskResult": ("evalcore.tasks.evaluate_task", "TaskResult"),
    "prepare_task": ("evalcore.tasks.prepare", "prepare"),
    "TaskSpec": ("evalcore.tasks.spec", "TaskSpec"),
    "EvalResult": ("evalcore.measure.evaluate", "EvalResult"),
    "save_checkpoint": ("evalcore.saving", "save_checkpoint"),
    "pin_checkpoint": ("evalcore.saving", "pin_checkpoint"),
}

__all__ = [
    "EvalResult",
    "TaskResult",
    "TaskSpec",
    "__version__",
    "current_group",
    "evaluate",
    "evaluate_task",
    "pin_checkpoint",
    "prepare_task",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'evalcore' has no attribute {name!r}")
    import importlib

    module, attribute = _LAZY[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value
