"""Linear layers with the activation behind them, and which of a model's may be held in fewer bits than float32.

Owns that choice, for loading and for measuring alike: all but the head's. Casts no weight.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def squared_relu(x: Tensor) -> Tensor:
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "relu2": squared_relu,
    "silu": F.silu,
}
#: activation -> its name and algorithm in oneDNN
_FUSED = {"gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "relu": ("relu", ""), "silu": ("swish", "")}


class Linear(nn.Linear):
    """activation(x @ weight.T + bias).

    With bfloat16 weights on a CPU, oneDNN adds the bias and applies the activation to the float32 sums, before they are
    rounded. torch's layer copies the bias into every row first, and its tanh GELU takes longer than the product.
    """

    def forward(self, x: Tensor, activation: str | None = None) -> Tensor:
        if self._is_fused(x):
            name, algorithm = _FUSED.get(activation or "", ("none", ""))
            weight, bias = self.weight, None if self.bias is None else self.bias.to(self.weight.dtype)
            product = torch.ops.mkldnn._linear_pointwise(x.to(weight.dtype), weight, bias, name, [], algorithm)
            activation = None if activation in _FUSED else activation
        else:
            product = super().forward(x)
        return product if activation is None else ACTIVATIONS[activation](product)

    def _is_fused(self, x: Tensor) -> bool:
        """The operation knows no gradients."""
        lower = x.is_cpu and self.weight.dtype == torch.bfloat16 and not (torch.is_grad_enabled() and x.requires_grad)
        return lower and not self.weight.requires_grad and has_fused_products()


def add_to_stream(x: Tensor, part: Tensor) -> Tensor:
    """x + part in x's dtype. On a CPU the sum of two dtypes takes twice as long as a cast and a sum."""
    return part.to(x.dtype).add_(x) if x.is_cpu and part.dtype != x.dtype else x + part


def linear_layers(model: Any) -> Iterator[nn.Linear]:
    """Linear layers whose products autocast computes in the lower dtype. The head has its own rule and is left out."""
    head = model.head()[0] if hasattr(model, "head") else None
    # a head may be the first rows of a padded weight: a view, whose base is the parameter
    of_head = {id(head), id(getattr(head, "_base", None))}
    for module in model.modules():
        if isinstance(module, nn.Linear) and id(module.weight) not in of_head:
            yield module


@functools.cache
def has_fused_products() -> bool:
    """Whether this torch and this CPU (AVX-512 at least) have oneDNN's bfloat16 products."""
    operations = torch.ops.mkldnn
    has = hasattr(operations, "_linear_pointwise") and hasattr(operations, "_is_mkldnn_bf16_supported")
    return has and torch.backends.mkldnn.is_available() and bool(operations._is_mkldnn_bf16_supported())
