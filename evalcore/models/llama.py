"""Hugging Face Llama: RMSNorm, rotary positions, grouped keys and values, SwiGLU.

Sources: huggingface/transformers, models/llama; the rotary scaling of Llama 3.1 from its rope utilities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalcore.models.decoder import Table, block_names
from evalcore.models.plan import CheckpointError, From, Plan, Shaped, demand_layers, flag, is_tied, number, whole


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of one Llama. rope: what the rotary tables are made from, see `rotary_frequencies`."""

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
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
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
        angles = torch.cat((angles, angles), dim=-1)  # (T, Dh)
        cos, sin = angles.cos(), angles.sin()
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


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on x (B, H, T, Dh), halves side by side as in transformers."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
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


def plan(config: Mapping[str, Any], state: Mapping[str, Shaped]) -> Plan:
    """config: LlamaConfig's fields, of any version of transformers that has them."""
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        raise CheckpointError("unsupported", f"a Llama with the activation {str(config['hidden_act'])[:40]!r}")
    if config.get("sliding_window") is not None:
        raise CheckpointError(
            "unsupported", "a Llama with sliding-window attention", "give it as a Hugging Face folder"
        )
    width, heads = whole(config, "hidden_size"), whole(config, "num_attention_heads")
    layers = whole(config, "num_hidden_layers", high=1 << 16)
    kv_heads = whole(config, "num_key_value_heads", default=heads)
    prefix = "" if "embed_tokens.weight" in state else "model."
    if heads % kv_heads or (width % heads and config.get("head_dim") is None):
        raise CheckpointError("shape", f"{heads} heads do not fit the width {width} or {kv_heads} heads of keys")
    demand_layers("num_hidden_layers", layers, state, prefix.replace(".", r"\.") + r"layers\.(\d+)\.")
    shape = LlamaShape(
        vocab_size=whole(config, "vocab_size", high=1 << 28),
        positions=whole(config, "max_position_embeddings", high=1 << 28),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_width=whole(config, "head_dim", default=width // heads),
        width=width,
        inner=whole(config, "intermediate_size"),
        epsilon=number(config, "rms_norm_eps", 1e-6),
        attention_bias=flag(config, "attention_bias", False),
        mlp_bias=flag(config, "mlp_bias", False),
        tied=is_tied(
            state, f"{prefix}embed_tokens.weight", "lm_head.weight", flag(config, "tie_word_embeddings", False)
        ),
        rope=_rope(config),
    )
    return Plan("hf-llama", partial(Llama, shape), _names(shape, prefix), shape.positions, shape.vocab_size)


def _names(shape: LlamaShape, prefix: str) -> dict[str, From]:
    names = {"tokens.weight": f"{prefix}embed_tokens.weight", "norm.weight": f"{prefix}norm.weight"}
    block = {
        "blocks.{layer}.norm1.weight": f"{prefix}layers.{{layer}}.input_layernorm.weight",
        "blocks.{layer}.norm2.weight": f"{prefix}layers.{{layer}}.post_attention_layernorm.weight",
    }
    for ours, theirs, bias in (
        ("q", "self_attn.q_proj", shape.attention_bias),
        ("k", "self_attn.k_proj", shape.attention_bias),
        ("v", "self_attn.v_proj", shape.attention_bias),
        ("out", "self_attn.o_proj", shape.attention_bias),
        ("gate", "mlp.gate_proj", shape.mlp_bias),
        ("up", "mlp.up_proj", shape.mlp_bias),
        ("down", "mlp.down_proj", shape.mlp_bias),
    ):
        for part in ("weight", "bias") if bias else ("weight",):
            block[f"blocks.{{layer}}.{ours}.{part}"] = f"{prefix}layers.{{layer}}.{theirs}.{part}"
    names |= block_names(shape.layers, block)
    if not shape.tied:
        names["output.weight"] = "lm_head.weight"
    return {ours: From(theirs) for ours, theirs in names.items()}


def _rope(config: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """`rope_parameters` (transformers 5), or `rope_theta` with `rope_scaling` (before)."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, Mapping):
        raise CheckpointError("unsupported", f"config.rope_scaling is {str(given)[:40]!r}, not a mapping")
    kind = given.get("rope_type", given.get("type", "default"))
    rope: dict[str, Any] = {"type": kind, "theta": number({**config, **given}, "rope_theta", 10000.0)}
    if kind == "linear":
        rope["factor"] = number(given, "factor", 1.0)
    elif kind == "llama3":
        rope |= {
            "factor": number(given, "factor", 8.0),
            "low": number(given, "low_freq_factor", 1.0),
            "high": number(given, "high_freq_factor", 4.0),
            "original": number(given, "original_max_position_embeddings", 8192),
        }
    elif kind != "default":
        raise CheckpointError("unsupported", f"rotary scaling of the type {str(kind)[:40]!r}", "give model.factory")
    return tuple(rope.items())
