"""Causal attention of all families with rotary positions: grouped keys, sliding windows, capped scores; and norms.

Owns arithmetic only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Branches:
    """Tokens that are not one causal text: a shared beginning, then continuations that do not see each other.

    positions (B, T) int64: place of each token in its own text, below T. mask (B, 1, T, T) bool: the keys it sees.
    """

    positions: Tensor
    mask: Tensor

    @classmethod
    def of(cls, positions: Tensor | None, mask: Tensor | None) -> Branches | None:
        """None for one causal text, which has neither."""
        return None if positions is None or mask is None else cls(positions, mask)

    def visible(self, window: int | None) -> Tensor:
        """The mask with the newest `window` keys of each text alone."""
        if window is None:
            return self.mask
        behind = self.positions[:, :, None] - self.positions[:, None, :]  # (B, T, T)
        return self.mask & (behind < window)[:, None]

    def previous(self) -> Tensor:
        """(B, T) int64: where the token before each one in its own text stands; any place for the first of a text."""
        behind = self.positions[:, :, None] - self.positions[:, None, :]
        return (self.mask[:, 0] & (behind == 1)).int().argmax(-1)

    def turned(self, tables: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Rotary tables (T, width) at each token's position: (B, 1, T, width)."""
        return tables[0][self.positions][:, None], tables[1][self.positions][:, None]


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    window: int | None = None,
    cap: float | None = None,
    branches: Branches | None = None,
) -> Tensor:
    """q (B, H, T, Dh), k and v (B, Hk, T, Dh) -> (B, H, T, Dh).

    scale: factor on scores, None for Dh ** -0.5. window: each position sees its newest `window` keys, itself included.
    cap: scores become cap * tanh(score / cap) before the mask.
    """
    if k.shape[1] != q.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    length = q.shape[-2]
    windowed = window is not None and window < length
    if branches is not None:
        visible = branches.visible(window if windowed else None)
    elif cap is None and not windowed:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    else:
        visible = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
        if windowed and window is not None:
            visible = visible.triu(1 - window)
    if cap is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=scale)
    scores = (q @ k.mT).float() * (q.shape[-1] ** -0.5 if scale is None else scale)
    scores = (cap * torch.tanh(scores / cap)).masked_fill(~visible, float("-inf"))
    return scores.softmax(-1).to(v.dtype) @ v


class RMSNorm(nn.Module):
    """x / rms(x) * (offset + weight) + bias, in float32. offset: 1 in Gemma, whose weights are stored less 1."""

    def __init__(
        self, width: int, epsilon: float, offset: float = 0.0, *, weight: bool = True, bias: bool = False
    ) -> None:
        super().__init__()
        self.width, self.epsilon, self.offset = width, epsilon, offset
        self.weight = nn.Parameter(torch.empty(width)) if weight else None
        self.bias = nn.Parameter(torch.empty(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        weight = None if self.weight is None else self.weight.float()
        if weight is not None and self.offset:
            weight = weight + self.offset
        normed = F.rms_norm(x.float(), (self.width,), weight, self.epsilon)
        return (normed if self.bias is None else normed + self.bias).to(x.dtype)


class LayerNorm(nn.Module):
    """Layer norm in float32, its weight and bias there or not."""

    def __init__(self, width: int, epsilon: float, *, weight: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.width, self.epsilon = width, epsilon
        self.weight = nn.Parameter(torch.empty(width)) if weight else None
        self.bias = nn.Parameter(torch.empty(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), (self.width,), self.weight, self.bias, self.epsilon).to(x.dtype)
