"""Rotary positions: angular frequencies by type of scaling, tables of cosines and sines, and the two ways to pair.

Owns the formulas, which are those of huggingface/transformers' rope utilities. Owns no configuration's names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

#: types of scaling that `rotary_frequencies` knows


class Rotary:
    """One kind of rotary positions. adjacent: pairs are neighbours, else halves apart.

    Its frequencies are copied to a device once: a copy in each forward pass would wait for the device each time.
    """

    def __init__(self, rope: Mapping[str, Any], width: int, adjacent: bool = False) -> None:
        self._rope, self._width, self._adjacent = rope, width, adjacent
        self._frequencies: dict[torch.device, Tensor] = {}

    def frequencies(self) -> list[Tensor]:
        """Angular frequencies (width / 2), scaled and unscaled: files of older releases hold either."""
        unscaled = {**self._rope, "type": "default"}
        return [rotary_frequencies(rope, self._width) for rope in (self._rope, unscaled)]

    def tables(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """(cos, sin), each (T, width), float32."""
        frequencies = self._frequencies.get(device)
        if frequencies is None:
            frequencies = self._frequencies[device] = rotary_frequencies(self._rope, self._width).to(device)
        angles = torch.outer(torch.arange(length, device=device, dtype=torch.float32), frequencies)
        angles = angles.repeat_interleave(2, -1) if self._adjacent else torch.cat((angles, angles), dim=-1)
        factor = self._rope.get("attention_factor", 1.0)
        return angles.cos() * factor, angles.sin() * factor


def rotate(x: Tensor, tables: tuple[Tensor, Tensor], adjacent: bool) -> Tensor:
    """x (B, H, T, Dh) with its first elements, the number that the tables have, turned by their position."""
    width = tables[0].shape[-1]
    turn = rotate_adjacent if adjacent else rotate_halves
    if width == x.shape[-1]:
        return turn(x, *tables)
    return torch.cat((turn(x[..., :width], *tables), x[..., width:]), dim=-1)


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on x (B, H, T, Dh), element i paired with i + Dh/2 as in transformers."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return (x * cos + turned * sin).to(x.dtype)


def rotate_adjacent(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on x (B, H, T, Dh), element 2i paired with 2i + 1 as in Meta's code and llama2.c."""
    turned = torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)
    return (x * cos + turned * sin).to(x.dtype)


def rotary_frequencies(rope: Mapping[str, Any], width: int) -> Tensor:
    """Angular frequencies (width / 2), scaled as the configuration says: default, linear, llama3 or yarn."""
    base = 1.0 / (rope["theta"] ** (torch.arange(0, width, 2, dtype=torch.int64).float() / width))
    kind = rope["type"]
    if kind == "linear":
        return base / rope["factor"]
    if kind == "llama3":
        return _llama3(rope, base)
    return _yarn(rope, base, width) if kind == "yarn" else base


def _llama3(rope: Mapping[str, Any], base: Tensor) -> Tensor:
    old = rope["original"]
    wavelength = 2 * math.pi / base
    smooth = (old / wavelength - rope["low"]) / (rope["high"] - rope["low"])
    blended = (1 - smooth) * base / rope["factor"] + smooth * base
    scaled = torch.where(wavelength > old / rope["low"], base / rope["factor"], base)
    medium = (wavelength >= old / rope["high"]) & (wavelength <= old / rope["low"])
    return torch.where(medium, blended, scaled)


def _yarn(rope: Mapping[str, Any], base: Tensor, width: int) -> Tensor:
    """Long wavelengths are interpolated, short ones kept, with a linear ramp between (arXiv 2309.00071)."""

    def dimension(rotations: float) -> float:
        return width * math.log(rope["original"] / (rotations * 2 * math.pi)) / (2 * math.log(rope["theta"]))

    low, high = dimension(rope["beta_fast"]), dimension(rope["beta_slow"])
    if rope["truncate"]:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    high = high + 0.001 if low == high else high
    ramp = torch.clamp((torch.arange(width // 2, dtype=torch.float32) - low) / (high - low), 0, 1)
    return base / rope["factor"] * ramp + base * (1 - ramp)
