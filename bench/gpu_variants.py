"""Our decoder run otherwise on a CUDA device: torch.compile, CUDA graphs, FlexAttention. For bench/gpu.py alone.

The product runs eager; what is measured here decides whether that changes. Each way computes the hidden states only:
head, loss and sums are the product's own. Raises RuntimeError with the reason where a way is not supported.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Hidden = Callable[[Tensor], Tensor]


class Variant(nn.Module):
    """The model with another way to its hidden states."""

    stateless = True

    def __init__(self, model: Any, hidden: Hidden) -> None:
        super().__init__()
        self.model = model
        self.vocab_size, self.context_length = model.vocab_size, model.context_length
        self._hidden = hidden

    def hidden(self, tokens: Tensor) -> Tensor:
        return self._hidden(tokens)

    def head(self) -> tuple[Tensor, Tensor | None]:
        return self.model.head()


def compiled(model: Any) -> Hidden:
    _demand_compiler()
    return torch.compile(model.hidden, dynamic=False)


class Graphs:
    """One CUDA graph for each shape of tokens: captured at its first pass, replayed afterwards.

    The weights must stay where they are: a model that was loaded in the dtype that is measured.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._graphs: dict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}

    def __call__(self, tokens: Tensor) -> Tensor:
        if tokens.shape not in self._graphs:
            self._graphs[tokens.shape] = self._captured(tokens)
        graph, given, hidden = self._graphs[tokens.shape]
        given.copy_(tokens)
        graph.replay()
        return hidden  # overwritten by the next replay, which runs after the head on the same stream

    def _captured(self, tokens: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        given = tokens.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # kernels choose their algorithms and workspaces before the capture
            for _ in range(3):
                self._model.hidden(given)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            hidden = self._model.hidden(given)
        return graph, given, hidden


class Flex:
    """Attention by a compiled FlexAttention kernel with a causal block mask."""

    def __init__(self, model: Any) -> None:
        from torch.nn.attention import flex_attention as flex

        _demand_compiler()
        self._model, self._flex = model, flex
        self._attend = torch.compile(flex.flex_attention, dynamic=False)
        self._masks: dict[int, Any] = {}

    def __call__(self, tokens: Tensor) -> Tensor:
        original = F.scaled_dot_product_attention
        F.scaled_dot_product_attention = self._instead
        try:
            return self._model.hidden(tokens)
        finally:
            F.scaled_dot_product_attention = original

    def _instead(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, is_causal: bool, scale: float | None
    ) -> Tensor:
        if mask is not None or not is_causal:
            raise RuntimeError("flex-attention is measured on causal windows only")
        length = q.shape[-2]
        if length not in self._masks:
            self._masks[length] = self._flex.create_block_mask(
                lambda b, h, query, key: query >= key, None, None, length, length, device=q.device
            )
        return self._attend(q, k, v, block_mask=self._masks[length], scale=scale)


def _demand_compiler() -> None:
    if importlib.util.find_spec("triton") is None:
        raise RuntimeError("torch.compile needs triton on CUDA, and it is not installed")


VARIANTS: dict[str, Callable[[Any], Hidden]] = {"compile": compiled, "cuda-graphs": Graphs, "flex-attention": Flex}


def variant(name: str, model: Any, device: torch.device) -> Variant:
    """The model run that way. Raises RuntimeError with the reason where it cannot be."""
    if device.type != "cuda":
        raise RuntimeError(f"it needs a CUDA device, not {device.type}")
    return Variant(model, VARIANTS[name](model))
