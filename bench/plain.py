"""The plain way to evaluate a rosellm checkpoint, for comparison: what a trainer's own script does.

Owns nothing of the product and imports none of it. Whole-file torch.load, attention with full T x T scores, full
logits and cross_entropy over them, float32 or bfloat16 autocast. It scores the same targets as we do, so that the two
numbers can be compared; it is written the obvious way, not made slow.
usage: python bench/plain.py CHECKPOINT TOKENS.npy SEQ_LEN BATCH_SIZE [bfloat16] [cuda]
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv_proj(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)) * (d // self.heads) ** -0.5  # (B, H, T, T)
        weights = torch.softmax(scores.masked_fill(mask[:t, :t], float("-inf")), dim=-1)
        return self.out_proj((weights @ v).transpose(1, 2).reshape(b, t, d))


class Mlp(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, inner)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln1(x), mask)
        return x + self.mlp(self.ln2(x))


class Gpt(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["d_model"]
        self.token_embedding = nn.Embedding(config["vocab_size"], width)
        self.position_embedding = nn.Embedding(config["max_position_embeddings"], width)
        self.blocks = nn.ModuleList(Block(width, config["n_heads"], config["d_ff"]) for _ in range(config["n_layers"]))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, config["vocab_size"], bias=False)

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        t = tokens.shape[1]
        mask = torch.triu(torch.ones(t, t, dtype=torch.bool, device=tokens.device), diagonal=1)
        x = self.token_embedding(tokens) + self.position_embedding(torch.arange(t, device=tokens.device))
        for block in self.blocks:
            x = block(x, mask)
        return self.lm_head(self.ln_f(x))

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self.logits(tokens)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def main() -> None:
    checkpoint, data, seq_len, batch_size, *more = sys.argv[1:]
    t, b, device = int(seq_len), int(batch_size), "cuda" if "cuda" in more else "cpu"
    started = time.perf_counter()
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    model = Gpt(saved["config"])
    model.load_state_dict(saved["model"])
    model.to(device).eval()
    loaded = time.perf_counter()
    tokens = torch.from_numpy(np.load(data).astype(np.int64))
    windows = [tokens[s : s + t + 1] for s in range(0, len(tokens) - 1, t)]
    full = [w for w in windows if len(w) == t + 1]
    groups = [full[i : i + b] for i in range(0, len(full), b)] + [[w] for w in windows if len(w) < t + 1]
    amp = torch.autocast(device, torch.bfloat16) if "bfloat16" in more else contextlib.nullcontext()
    total, count = 0.0, 0
    with torch.no_grad(), amp:
        for group in groups:
            batch = torch.stack(group).to(device)
            total += model(batch[:, :-1], batch[:, 1:]).double().item() * batch[:, 1:].numel()
            count += batch[:, 1:].numel()
    seconds = time.perf_counter() - loaded
    loss = total / count
    printed = {"loss": loss, "ppl": math.exp(loss), "tokens": count, "load_seconds": loaded - started}
    print(json.dumps(printed | {"eval_seconds": seconds}))


if __name__ == "__main__":
    main()
