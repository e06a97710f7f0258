"""Forward passes written without any of our code: what a trainer's own model computes on the same weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def plain_gpt(state, heads, gelu, tokens, names):
    """The same model written without any of our code: explicit mask, explicit softmax, one line per step."""
    x = state[names["token"]][tokens] + state[names["position"]][: tokens.shape[1]]
    width, length = x.shape[-1], tokens.shape[1]
    mask = torch.full((length, length), float("-inf")).triu(1)

    def norm(x, name):
        return F.layer_norm(x, (width,), state[f"{name}.weight"], state.get(f"{name}.bias"), 1e-5)

    def linear(x, name):
        return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    layer = 0
    while f"{names['block'].format(layer)}.{names['qkv']}.weight" in state:
        block = names["block"].format(layer)
        q, k, v = linear(norm(x, f"{block}.{names['ln1']}"), f"{block}.{names['qkv']}").split(width, dim=-1)
        q, k, v = (t.unflatten(-1, (heads, width // heads)).transpose(1, 2) for t in (q, k, v))
        weights = (q @ k.transpose(-1, -2) / (width // heads) ** 0.5 + mask).softmax(-1)
        x = x + linear((weights @ v).transpose(1, 2).flatten(2), f"{block}.{names['out']}")
        x = x + linear(
            gelu(linear(norm(x, f"{block}.{names['ln2']}"), f"{block}.{names['up']}")), f"{block}.{names['down']}"
        )
        layer += 1
    return norm(x, names["norm"]) @ state["lm_head.weight"].T


ROSE = {
    "token": "token_embedding.weight", "position": "position_embedding.weight", "block": "blocks.{}", "ln1": "ln1",
    "ln2": "ln2", "qkv": "attn.qkv_proj", "out": "attn.out_proj", "up": "mlp.fc1", "down": "mlp.fc2", "norm": "ln_f",
}  # fmt: skip
NANO = {
    "token": "transformer.wte.weight", "position": "transformer.wpe.weight", "block": "transformer.h.{}",
    "ln1": "ln_1", "ln2": "ln_2", "qkv": "attn.c_attn", "out": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj",
    "norm": "transformer.ln_f",
}  # fmt: skip


def tanh_gelu(x):
    return F.gelu(x, approximate="tanh")


def relu2(x):
    return x.clamp_min(0) ** 2


def plain_llama(state, heads, kv_heads, tokens, *, theta=10000.0, epsilon=1e-5):
    """Meta's Llama by its names: rotary pairs are neighbours, turned as complex numbers; explicit mask and softmax."""
    x = state["tok_embeddings.weight"][tokens]
    width, length = x.shape[-1], tokens.shape[1]
    size = width // heads
    angles = torch.outer(torch.arange(length), theta ** -(torch.arange(0, size, 2) / size))
    turns = torch.polar(torch.ones_like(angles), angles)  # (T, Dh / 2)
    mask = torch.full((length, length), float("-inf")).triu(1)

    def norm(x, name):
        return x / (x.pow(2).mean(-1, keepdim=True) + epsilon).sqrt() * state[f"{name}.weight"]

    def turned(x):
        pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * turns[:, None]).flatten(-2)

    layer = 0
    while f"layers.{layer}.attention.wq.weight" in state:
        block = f"layers.{layer}"
        y = norm(x, f"{block}.attention_norm")
        q, k, v = ((y @ state[f"{block}.attention.w{n}.weight"].T).unflatten(-1, (-1, size)) for n in "qkv")
        q, k = turned(q), turned(k)  # (B, T, H, Dh)
        k, v = (t.repeat_interleave(heads // kv_heads, dim=2) for t in (k, v))
        weights = (torch.einsum("bqhd,bkhd->bhqk", q, k) / size**0.5 + mask).softmax(-1)
        mixed = torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2)
        x = x + mixed @ state[f"{block}.attention.wo.weight"].T
        y = norm(x, f"{block}.ffn_norm")
        gate, up = (y @ state[f"{block}.feed_forward.w{n}.weight"].T for n in "13")
        x = x + (gate * torch.sigmoid(gate) * up) @ state[f"{block}.feed_forward.w2.weight"].T
        layer += 1
    return norm(x, "norm") @ state["output.weight"].T
