"""The arithmetic of Llama: RMSNorm, rotary positions, grouped keys and values, SwiGLU.

Owns no names and no configurations: hf_llama.py and llama2c.py do. The rotary scaling of Llama 3.1 is that of
huggingface/transformers' rope utilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalcore.models.decoder import Table


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of one Llama. rope: what the rotary tables are made from, see `rotary_frequencies`.

    adjacent: rotary pairs are neighbours (0, 1), (2, 3), as Meta writes them; else halves apart, as transformers does.
    """

    vocab_size: int
    positions: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    width: int
    inner: int
    epsilon: float
    attention_bias: bool
    mlp_bias: bool
    tied: bool
    rope: tuple[tuple[str, Any], ...]
    adjacent: bool = False


class RMSNorm(nn.Module):
    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.epsilon).to(x.dtype)


class LlamaBlock(nn.Module):
    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = shape.heads, shape.kv_heads, shape.head_width
        self.rotate = rotate_adjacent if shape.adjacent else rotate_halves
        all_heads = shape.heads * shape.head_width
        self.norm1 = RMSNorm(shape.width, shape.epsilon)
        self.q = nn.Linear(shape.width, all_heads, bias=shape.attention_bias)
        self.k = nn.Linear(shape.width, shape.kv_heads * shape.head_width, bias=shape.attention_bias)
        self.v = nn.Linear(shape.width, shape.kv_heads * shape.head_width, bias=shape.attention_bias)
        self.out = nn.Linear(all_heads, shape.width, bias=shape.attention_bias)
        self.norm2 = RMSNorm(shape.width, shape.epsilon)
        self.gate = nn.Linear(shape.width, shape.inner, bias=shape.mlp_bias)
        self.up = nn.Linear(shape.width, shape.inner, bias=shape.mlp_bias)
        self.down = nn.Linear(shape.inner, shape.width, bias=shape.mlp_bias)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape
        normed = self.norm1(x)
        q = self.q(normed).view(batch, length, self.heads, self.head_width).transpose(1, 2)  # (B, H, T, Dh)
        k = self.k(normed).view(batch, length, self.kv_heads, self.head_width).transpose(1, 2)
        v = self.v(normed).view(batch, length, self.kv_heads, self.head_width).transpose(1, 2)
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        if self.kv_heads != self.heads:
            k = k.repeat_interleave(self.heads // self.kv_heads, dim=1)
            v = v.repeat_interleave(self.heads // self.kv_heads, dim=1)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, -1))
        normed = self.norm2(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


class Llama(nn.Module):
    """tokens (B, T) -> hidden states (B, T, D); the head's weight stands apart."""

    stateless = True

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.vocab_size = shape.vocab_size
        self.context_length = shape.positions
        self.shape = shape
        self.tokens = Table(shape.vocab_size, shape.width)
        self.blocks = nn.ModuleList(LlamaBlock(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.epsilon)
        self.output = None if shape.tied else nn.Linear(shape.width, shape.vocab_size, bias=False)

    def hidden(self, tokens: Tensor) -> Tensor:
        """Final normed hidden states (B, T, D) of tokens (B, T)."""
        frequencies = rotary_frequencies(dict(self.shape.rope), self.shape.head_width).to(tokens.device)
        angles = torch.outer(torch.arange(tokens.shape[1], device=tokens.device, dtype=torch.float32), frequencies)
        angles = angles.repeat_interleave(2, -1) if self.shape.adjacent else torch.cat((angles, angles), dim=-1)
        cos, sin = angles.cos(), angles.sin()  # (T, Dh)
        x = self.tokens(tokens)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.norm(x)

    def head(self) -> tuple[Tensor, Tensor | None]:
        """(weight (V, D), None) of the projection to logits."""
        return (self.tokens.weight if self.output is None else self.output.weight), None

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V)."""
        return F.linear(self.hidden(tokens), *self.head())


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on x (B, H, T, Dh), element i paired with i + Dh/2 as in transformers."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return (x * cos + turned * sin).to(x.dtype)


def rotate_adjacent(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on x (B, H, T, Dh), element 2i paired with 2i + 1 as in Meta's code and llama2.c."""
    turned = torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)
    return (x * cos + turned * sin).to(x.dtype)


def rotary_frequencies(rope: dict[str, Any], head_width: int) -> Tensor:
    """Angular frequencies (Dh / 2), scaled as the configuration says: default, linear or llama3."""
    base = 1.0 / (rope["theta"] ** (torch.arange(0, head_width, 2, dtype=torch.int64).float() / head_width))
    if rope["type"] == "linear":
        return base / rope["factor"]
    if rope["type"] != "llama3":
        return base
    old = rope["original"]
    wavelength = 2 * math.pi / base
    smooth = (old / wavelength - rope["low"]) / (rope["high"] - rope["low"])
    blended = (1 - smooth) * base / rope["factor"] + smooth * base
    scaled = torch.where(wavelength > old / rope["low"], base / rope["factor"], base)
    medium = (wavelength >= old / rope["high"]) & (wavelength <= old / rope["low"])
    return torch.where(medium, blended, scaled)
