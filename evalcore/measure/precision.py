"""A model that computes in fewer bits than its weights have: autocast, linear layers cast once, float32 logits.

Owns what is changed for that and undone afterwards. Never computes anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from evalcore.models.linear import linear_layers


def autocast(device: torch.device, dtype: torch.dtype, cache: bool = True) -> contextlib.AbstractContextManager[Any]:
    """torch.autocast where dtype is not float32. It holds for one thread."""
    lower = dtype != torch.float32
    return torch.autocast(device.type, dtype if lower else None, enabled=lower, cache_enabled=cache)


@contextlib.contextmanager
def cast_once(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """The weights of linear layers in dtype until the block ends; autocast would cast them in every pass and thread."""
    originals: list[tuple[nn.Linear, torch.Tensor]] = []
    copies: dict[int, nn.Parameter] = {}
    try:
        for module in linear_layers(model):
            if module.weight.dtype != dtype:
                weight = module.weight
                if id(weight) not in copies:
                    copies[id(weight)] = nn.Parameter(weight.detach().to(dtype), requires_grad=False)
                originals.append((module, weight))
                module.weight = copies[id(weight)]
        yield
    finally:
        for module, weight in originals:
            module.weight = weight  # type: ignore[assignment]


@contextlib.contextmanager
def cached_by_autocast(parameters: list[torch.Tensor]) -> Iterator[None]:
    """autocast keeps its casts only of weights that would want a gradient; without that it casts them every pass."""
    frozen = [p for p in parameters if not p.requires_grad and p.is_floating_point()]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


@contextlib.contextmanager
def float32_products_from_bfloat16() -> Iterator[None]:
    """Float32 matrix products of this process on a CPU: operands rounded to bfloat16, sums and results in float32.

    A CPU without bfloat16 instructions computes them in float32 throughout.
    """
    settings = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before
