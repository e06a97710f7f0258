"""The linear layers of a model whose weights may be held in fewer bits than float32: all but the head's.

Owns that choice, for loading and for measuring alike. Casts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


def linear_layers(model: Any) -> Iterator[nn.Linear]:
    """Linear layers whose products autocast computes in the lower dtype. The head has its own rule and is left out."""
    head = model.head()[0] if hasattr(model, "head") else None
    # a head may be the first rows of a padded weight: a view, whose base is the parameter
    of_head = {id(head), id(getattr(head, "_base", None))}
    for module in model.modules():
        if isinstance(module, nn.Linear) and id(module.weight) not in of_head:
            yield module
