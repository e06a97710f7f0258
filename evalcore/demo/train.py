"""A trainer that knows nothing of ckptwatch and overwrites its checkpoints in place, keeping the last two.

usage: python -m evalcore.demo.train TEXT FOLDER STEPS SAVE_EVERY
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONFIG: dict[str, Any] = {
    "vocab_size": 257,
    "max_position_embeddings": 128,
    "n_layers": 3,
    "n_heads": 4,
    "d_model": 128,
    "d_ff": 512,
    "dropout": 0.0,
    "use_tensor_parallel": False,
    "use_activation_checkpoint": False,
    "activation": "gelu_new",
}


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv_proj(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return self.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, d))


class Mlp(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = Attention(width, heads), Mlp(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Gpt(nn.Module):
    """The layout that rosellm saves, tied head."""

    def __init__(self) -> None:
        super().__init__()
        width = CONFIG["d_model"]
        self.token_embedding = nn.Embedding(CONFIG["vocab_size"], width)
        self.position_embedding = nn.Embedding(CONFIG["max_position_embeddings"], width)
        blocks = [Block(width, CONFIG["n_heads"], CONFIG["d_ff"]) for _ in range(CONFIG["n_layers"])]
        self.blocks = nn.ModuleList(blocks)
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, CONFIG["vocab_size"], bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        self.lm_head.weight = self.token_embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embedding(tokens) + self.position_embedding(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.ln_f(x))  # (B, T, V)


def main(text: str, folder: str, steps: int, save_every: int) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokens = torch.tensor(list(Path(text).read_bytes()))
    model = Gpt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    length, batch = CONFIG["max_position_embeddings"], 12
    Path(folder).mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for step in range(1, steps + 1):
        starts = torch.randint(len(tokens) - length - 1, (batch,))
        window = torch.stack([tokens[start : start + length + 1] for start in starts])  # (B, T + 1)
        loss = F.cross_entropy(model(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(step / 20, 1.0, 0.1 + (steps - step) / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % save_every == 0:
            slot = "ab"[step // save_every % 2]
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "config": CONFIG}
            torch.save(state, Path(folder) / f"minigpt_{slot}.pt")
            seconds = time.monotonic() - began
            said = f"saved       minigpt_{slot}.pt  step {step}, training loss {loss.item():.3f}, {seconds:.0f} s"
            sys.stdout.write(f"{time.strftime('%H:%M:%S')} {said}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
