"""The GPT-2 shaped decoder that six families share: pre-LN, learned absolute positions.

Owns the arithmetic; the families' files own names and configurations. Inference only: no dropout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalcore.models.linear import Linear, add_to_stream


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of one decoder. positions, width, inner: rows of the position table, residual stream, MLP.

    scale: factor on attention scores, None for head width ** -0.5; by_layer divides it further by layer + 1.
    separate: queries, keys and values have a weight each; qkv_bias: whether they have a bias, None for linear_bias.
    """

    vocab_size: int
    positions: int
    layers: int
    heads: int
    width: int
    inner: int
    activation: str = "gelu"
    linear_bias: bool = True
    norm_bias: bool = True
    epsilon: float = 1e-5
    tied: bool = True
    scale: float | None = None
    by_layer: bool = False
    separate: bool = False
    qkv_bias: bool | None = None


class Table(nn.Embedding):
    """An embedding that is not drawn at random: on meta its draw would import the whole compiler, for over a second."""

    def reset_parameters(self) -> None:
        pass  # the checkpoint fills it


class Attention(nn.Module):
    def __init__(self, shape: DecoderShape, layer: int) -> None:
        super().__init__()
        self.heads = shape.heads
        bias = shape.linear_bias if shape.qkv_bias is None else shape.qkv_bias
        if shape.separate:
            self.q, self.k, self.v = (Linear(shape.width, shape.width, bias=bias) for _ in range(3))
        else:
            self.qkv = Linear(shape.width, 3 * shape.width, bias=bias)
        self.separate = shape.separate
        self.out = Linear(shape.width, shape.width, bias=shape.linear_bias)
        scale = shape.scale if shape.scale is not None else (shape.width // shape.heads) ** -0.5
        self.scale = scale / (layer + 1) if shape.by_layer else scale

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        batch, length, width = x.shape
        if self.separate:
            q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        else:
            qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, T, D/H)
        mixed = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, scale=self.scale)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self, shape: DecoderShape, layer: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, shape.epsilon, bias=shape.norm_bias)
        self.attention = Attention(shape, layer)
        self.norm2 = nn.LayerNorm(shape.width, shape.epsilon, bias=shape.norm_bias)
        self.up = Linear(shape.width, shape.inner, bias=shape.linear_bias)
        self.down = Linear(shape.inner, shape.width, bias=shape.linear_bias)
        self.activation = shape.activation

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = add_to_stream(x, self.attention(self.norm1(x), mask))
        return add_to_stream(x, self.down(self.up(self.norm2(x), self.activation)))


class Decoder(nn.Module):
    """tokens (B, T) -> hidden states (B, T, D); the head's weight stands apart, so that losses can tile it."""

    stateless = True
    takes_branches = True

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.vocab_size = shape.vocab_size
        self.context_length = shape.positions
        self.tokens = Table(shape.vocab_size, shape.width)
        self.positions = Table(shape.positions, shape.width)
        self.blocks = nn.ModuleList(Block(shape, layer) for layer in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width, shape.epsilon, bias=shape.norm_bias)
        self.output = None if shape.tied else nn.Linear(shape.width, shape.vocab_size, bias=False)

    def hidden(self, tokens: Tensor, positions: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Final normed hidden states (B, T, D) of tokens (B, T), T at most context_length.

        positions (B, T) int64, mask (B, 1, T, T) bool: of tokens that are not one causal text; both or neither.
        """
        places = self.positions.weight[: tokens.shape[1]] if positions is None else self.positions(positions)
        x = self.tokens(tokens) + places
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)

    def head(self) -> tuple[Tensor, Tensor | None]:
        """(weight (V, D), bias (V) or None) of the projection to logits."""
        return (self.tokens.weight if self.output is None else self.output.weight), None

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V)."""
        return F.linear(self.hidden(tokens), *self.head())


def block_names(layers: int, names: dict[str, str]) -> dict[str, str]:
    """The per-block names of a family written out: {layer} in keys and values filled in for each layer."""
    return {k.format(layer=i): v.format(layer=i) for i in range(layers) for k, v in names.items()}


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """The model without memory: shapes only."""
    with torch.device("meta"):
        return build()


def allocated(meta_model: nn.Module, device: str) -> nn.Module:
    """The model with memory of its own, not yet filled.

    Module.to_empty would do, but on meta its empty_like imports the whole compiler, for a third of a second.
    """
    return meta_model._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype, device=device))
