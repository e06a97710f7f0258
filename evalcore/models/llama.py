"""The arithmetic of Llama and its relatives: norms, rotary positions, grouped keys and values, gated or plain MLP.

Owns no names and no configurations: hf_llama.py, llama2c.py, litgpt.py, minimind.py and olmo.py do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalcore.models.attention import Branches, LayerNorm, RMSNorm, attend
from evalcore.models.decoder import Table
from evalcore.models.linear import ACTIVATIONS, Linear, add_to_stream
from evalcore.models.rotary import Rotary, rotate

Rope = tuple[tuple[str, Any], ...]
Tables = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class NormShape:
    """kind: rms or layer. offset: added to the weight of an RMS norm. weight, bias: whether there are any."""

    kind: str = "rms"
    offset: float = 0.0
    weight: bool = True
    bias: bool = False

    def build(self, width: int, epsilon: float) -> nn.Module:
        if self.kind == "layer":
            return LayerNorm(width, epsilon, weight=self.weight, bias=self.bias)
        return RMSNorm(width, epsilon, self.offset, weight=self.weight, bias=self.bias)


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of one Llama, and what its relatives do otherwise.

    rope: what the rotary tables are made from, see rotary.py; rotary_width: how many elements of a head they turn.
    adjacent: rotary pairs are neighbours (0, 1), (2, 3), as Meta writes them; else halves apart, as transformers does.
    qkv_bias: None for attention_bias. fused: queries, keys and values in one weight, as `blocks` one after the other or
    as `groups` of the queries that share a key, their key, their value. fused_gate: up and gate in one weight.
    qk_norm: over each `head`, or over all heads together (`whole`). residual: `sequential`, `parallel` (both parts of a
    block read its input) or `shared` (and have one norm). norms: `before` attention and MLP, `after`, or `both`.
    windows: keys that each layer sees, None for all; local_rope: of layers with a window. unrotated: layers without
    rotary positions. clip: bound on queries, keys and values. score_cap, logit_cap: bounds by tanh.
    """

    vocab_size: int
    positions: int | None
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
    rope: Rope
    adjacent: bool = False
    rotary_width: int | None = None
    activation: str = "silu"
    gated: bool = True
    norm: NormShape = NormShape()
    qk_norm: str | None = None
    qk_norm_shape: NormShape | None = None
    qkv_bias: bool | None = None
    fused: str | None = None
    fused_gate: bool = False
    residual: str = "sequential"
    norms: str = "before"
    windows: tuple[int | None, ...] = ()
    local_rope: Rope | None = None
    unrotated: tuple[int, ...] = ()
    scale: float | None = None
    clip: float | None = None
    score_cap: float | None = None
    logit_cap: float | None = None
    embedding_scale: float = 1.0
    output_scale: float = 1.0
    output_bias: bool = False
    embedding_norm: bool = False


class LlamaBlock(nn.Module):
    def __init__(self, shape: LlamaShape, layer: int) -> None:
        super().__init__()
        self.shape = shape
        self.window = shape.windows[layer] if shape.windows else None
        self.rotates = layer not in shape.unrotated
        queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
        bias = shape.attention_bias if shape.qkv_bias is None else shape.qkv_bias
        norm = shape.norm.build
        if shape.norms != "after":
            self.norm1 = norm(shape.width, shape.epsilon)
            if shape.residual != "shared":
                self.norm2 = norm(shape.width, shape.epsilon)
        if shape.norms != "before":
            self.post1, self.post2 = norm(shape.width, shape.epsilon), norm(shape.width, shape.epsilon)
        if shape.fused:
            self.qkv = Linear(shape.width, queries + 2 * keys, bias=bias)
        else:
            self.q = Linear(shape.width, queries, bias=bias)
            self.k = Linear(shape.width, keys, bias=bias)
            self.v = Linear(shape.width, keys, bias=bias)
        if shape.qk_norm:
            per_head = shape.qk_norm == "head"
            qk_norm = (shape.qk_norm_shape or shape.norm).build
            self.q_norm = qk_norm(shape.head_width if per_head else queries, shape.epsilon)
            self.k_norm = qk_norm(shape.head_width if per_head else keys, shape.epsilon)
        self.out = Linear(queries, shape.width, bias=shape.attention_bias)
        if shape.fused_gate:
            self.up_gate = Linear(shape.width, 2 * shape.inner, bias=shape.mlp_bias)
        else:
            if shape.gated:
                self.gate = Linear(shape.width, shape.inner, bias=shape.mlp_bias)
            self.up = Linear(shape.width, shape.inner, bias=shape.mlp_bias)
        self.down = Linear(shape.inner, shape.width, bias=shape.mlp_bias)

    def forward(self, x: Tensor, tables: Tables, branches: Branches | None = None) -> Tensor:
        shape = self.shape
        normed = x if shape.norms == "after" else self.norm1(x)
        mixed = self.attention(normed, tables, branches)
        mixed = mixed if shape.norms == "before" else self.post1(mixed)
        if shape.residual == "sequential":
            x = add_to_stream(x, mixed)
            inner = self.mlp(x if shape.norms == "after" else self.norm2(x))
        else:
            inner = self.mlp(normed if shape.residual == "shared" else self.norm2(x))
            x = add_to_stream(x, mixed)
        return add_to_stream(x, inner if shape.norms == "before" else self.post2(inner))

    def attention(self, x: Tensor, tables: Tables, branches: Branches | None) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        shape = self.shape
        q, k, v = self._queries_keys_values(x)  # (B, T, H, Dh), (B, T, Hk, Dh) twice
        if shape.qk_norm == "whole":
            q = self.q_norm(q.flatten(-2)).unflatten(-1, q.shape[-2:])
            k = self.k_norm(k.flatten(-2)).unflatten(-1, k.shape[-2:])
        elif shape.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        if self.rotates:
            q, k = rotate(q, tables, shape.adjacent), rotate(k, tables, shape.adjacent)
        mixed = attend(q, k, v, scale=shape.scale, window=self.window, cap=shape.score_cap, branches=branches)
        return self.out(mixed.transpose(1, 2).flatten(-2))

    def _queries_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shape = self.shape
        if shape.fused:
            parts = self.qkv(x)
            if shape.clip is not None:
                parts = parts.clamp(-shape.clip, shape.clip)
            if shape.fused == "groups":
                shared = shape.heads // shape.kv_heads
                groups = parts.unflatten(-1, (shape.kv_heads, shared + 2, shape.head_width))  # (B, T, Hk, n + 2, Dh)
                return groups[..., :shared, :].flatten(2, 3), groups[..., shared, :], groups[..., shared + 1, :]
            sizes = [n * shape.head_width for n in (shape.heads, shape.kv_heads, shape.kv_heads)]
            q, k, v = parts.split(sizes, dim=-1)
        else:
            q, k, v = self.q(x), self.k(x), self.v(x)
            if shape.clip is not None:
                q, k, v = (t.clamp(-shape.clip, shape.clip) for t in (q, k, v))
        q, k, v = (t.unflatten(-1, (-1, shape.head_width)) for t in (q, k, v))
        return q, k, v

    def mlp(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        activation = self.shape.activation
        if self.shape.fused_gate:
            up, gate = self.up_gate(x).chunk(2, dim=-1)
            return self.down(ACTIVATIONS[activation](gate) * up)
        if self.shape.gated:
            return self.down(self.gate(x, activation) * self.up(x))
        return self.down(self.up(x, activation))


class Llama(nn.Module):
    """tokens (B, T) -> hidden states (B, T, D); the head's weight stands apart."""

    stateless = True
    takes_branches = True

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.vocab_size = shape.vocab_size
        self.context_length = shape.positions
        self.logit_cap = shape.logit_cap
        self.shape = shape
        self.tokens = Table(shape.vocab_size, shape.width)
        if shape.embedding_norm:
            self.embedding_norm = shape.norm.build(shape.width, shape.epsilon)
        self.blocks = nn.ModuleList(LlamaBlock(shape, layer) for layer in range(shape.layers))
        self.norm = shape.norm.build(shape.width, shape.epsilon)
        self.output = None if shape.tied else nn.Linear(shape.width, shape.vocab_size, bias=shape.output_bias)
        width = shape.head_width if shape.rotary_width is None else shape.rotary_width
        local = shape.local_rope
        self._rotary = Rotary(dict(shape.rope), width, shape.adjacent)
        self._local_rotary = None if local is None else Rotary(dict(local), width, shape.adjacent)

    def frequencies(self) -> list[Tensor]:
        """Angular frequencies of its rotary positions, see Rotary."""
        return [f for rotary in (self._rotary, self._local_rotary) if rotary is not None for f in rotary.frequencies()]

    def hidden(self, tokens: Tensor, positions: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Final normed hidden states (B, T, D) of tokens (B, T). positions, mask: as in `Branches`."""
        shape, branches = self.shape, Branches.of(positions, mask)
        tables = local = self._rotary.tables(tokens.shape[1], tokens.device)
        if self._local_rotary is not None:
            local = self._local_rotary.tables(tokens.shape[1], tokens.device)
        if branches is not None:
            tables, local = branches.turned(tables), branches.turned(local)
        x = self.tokens(tokens)
        if shape.embedding_scale != 1.0:
            x = x * torch.tensor(shape.embedding_scale, dtype=x.dtype)  # on the host: a copy would wait for the device
        if shape.embedding_norm:
            x = self.embedding_norm(x)
        for block in self.blocks:
            x = block(x, tables if block.window is None else local, branches)
        x = self.norm(x)
        return x if shape.output_scale == 1.0 else x * shape.output_scale

    def head(self) -> tuple[Tensor, Tensor | None]:
        """(weight (V, D), bias (V) or None) of the projection to logits, which `logit_cap` bounds."""
        if self.output is None:
            return self.tokens.weight, None
        return self.output.weight, self.output.bias

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V)."""
        return capped(F.linear(self.hidden(tokens), *self.head()), self.logit_cap)


def capped(logits: Tensor, cap: float | None) -> Tensor:
    """cap * tanh(logits / cap), or the logits as they are."""
    return logits if cap is None else cap * torch.tanh(logits / cap)
