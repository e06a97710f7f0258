"""Small models with the faces that trainers' models have, and the plain value that any evaluation must equal."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class SmallModel(nn.Module):
    """hidden() and head(): what a model of ours has. Causal by a recurrence, so positions matter."""

    def __init__(self, vocab_size: int = 300, width: int = 24, positions: int | None = 64, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.table = nn.Embedding(vocab_size, width)
            self.mixer = nn.GRU(width, width, batch_first=True)
            self.output = nn.Linear(width, vocab_size)
        self.vocab_size, self.context_length = vocab_size, positions

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.mixer(self.table(tokens) * 3)[0] * 4

    def head(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.output.weight, self.output.bias


class LogitsModel(nn.Module):
    """forward gives logits, in the shape that `answer` says."""

    def __init__(self, answer: str = "tensor", inner: SmallModel | None = None) -> None:
        super().__init__()
        self.inner = inner or SmallModel()
        self.answer = answer

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor | None = None) -> Any:
        logits = self.inner.output(self.inner.hidden(tokens))
        if self.answer == "last only":  # nanoGPT's forward without targets
            return (logits[:, -1:], None) if targets is None else (logits, logits.new_zeros(()))
        if self.answer == "pair":
            return None, logits
        return {"logits": logits} if self.answer == "dict" else logits


def plain_loss(model: SmallModel, tokens: Any, seq_len: int, stride: int | None = None) -> tuple[float, int]:
    """(loss, targets) in float64, window by window, written without any of our code."""
    ids = torch.from_numpy(np.asarray(tokens).astype(np.int64))
    exact = SmallModel(model.vocab_size, model.table.weight.shape[1], model.context_length).double()
    exact.load_state_dict(model.state_dict())
    total, done, start = 0.0, 0, 0
    with torch.no_grad():
        while done < len(ids) - 1:
            stop = min(start + seq_len, len(ids) - 1)
            logits = exact.output(exact.hidden(ids[None, start:stop]))[0]
            nats = F.cross_entropy(logits, ids[start + 1 : stop + 1], reduction="none")
            total += nats[done - start :].sum().item()
            done, start = stop, start + (stride or seq_len)
    return total / (len(ids) - 1), len(ids) - 1


def tokens_for(n: int, vocab_size: int = 256, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, vocab_size, n).astype(np.uint16)
