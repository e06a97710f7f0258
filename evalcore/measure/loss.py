"""Per-target nats from hidden states: the head in chunks of rows and tiles of vocabulary, never the full logits.

Owns the numerics of the loss: log-sum-exp in float32 from at least float32 logits, the target's logit gathered apart.
Never sums; sums are float64 and belong to the evaluation.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from evalcore import device_memory

#: Rows and columns of one head tile on a CPU: its logits (8 MiB) stay in the cache for the passes that follow.
CHUNK_TOKENS = 1024
TILE_COLUMNS = 2048


@dataclass(frozen=True)
class Head:
    """weight (V, D), bias (V,) or None: logits = hidden @ weight.T + bias, then cap * tanh(logits / cap) with a cap."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    cap: float | None = None

    def cast(self, dtype: torch.dtype) -> Head:
        bias = None if self.bias is None else self.bias.float()
        return Head(self.weight if self.weight.dtype == dtype else self.weight.to(dtype), bias, self.cap)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (N, D) in the head's dtype -> all logits (N, V), float32."""
        logits = F.linear(hidden, self.weight).float()
        if self.bias is not None:
            logits = logits + self.bias
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


def target_nats(
    hidden: torch.Tensor,
    head: Head,
    targets: torch.Tensor,
    chunk_tokens: int | None = None,
    tile: int | None = None,
    likeliest: torch.Tensor | None = None,
) -> torch.Tensor:
    """-log p(target) per position, in nats, float32.

    hidden (..., D) in the head's dtype; targets (...) int64. likeliest (N,) int64: is filled with the id of the highest
    logit of each position. Memory: chunk_tokens * tile floats, whatever V is.
    """
    chunk_tokens = chunk_tokens or (CHUNK_TOKENS if hidden.is_cpu else device_memory.CHUNK_TOKENS)
    tile = min(tile or (TILE_COLUMNS if hidden.is_cpu else device_memory.TILE_COLUMNS), head.weight.shape[0])
    flat = hidden.reshape(-1, hidden.shape[-1])  # (N, D)
    wanted = targets.reshape(-1)  # (N,)
    nats = torch.empty(len(wanted), dtype=torch.float32, device=hidden.device)
    wide = not hidden.is_cpu and hidden.dtype != torch.float32 and _wide_mm_works(hidden.device, hidden.dtype)
    buffer = None if wide else torch.empty(min(chunk_tokens, len(wanted)) * tile, device=hidden.device)
    for start in range(0, len(wanted), chunk_tokens):
        rows = slice(start, start + chunk_tokens)
        best = None if likeliest is None else likeliest[rows]
        nats[rows] = _chunk_nats(flat[rows], head, wanted[rows], tile, buffer, best)
    return nats.reshape(targets.shape)


def _chunk_nats(
    hidden: torch.Tensor,
    head: Head,
    wanted: torch.Tensor,
    tile: int,
    buffer: torch.Tensor | None,
    likeliest: torch.Tensor | None,
) -> torch.Tensor:
    """One chunk: the log-sum-exp over the tiles, less the target's logit. buffer: reused for every tile.

    The highest logit less the target's comes first: where the target is the likely one, the difference is exact, and a
    loss near 0 keeps its digits beside logits of 20.
    """
    highest = torch.full((len(wanted),), -torch.inf, device=hidden.device)
    vocab = head.weight.shape[0]
    target_logit = torch.zeros(len(wanted), dtype=torch.float32, device=hidden.device)
    tops, sums = [], []
    for start in range(0, vocab, tile):
        stop = min(start + tile, vocab)
        logits = _logits(hidden, head, start, stop, buffer)  # (n, stop - start), float32
        # the very logit that the sum contains, so that nats are never negative; no `nonzero`: it would wait for the GPU
        column = (wanted - start).clamp_(0, stop - start - 1)
        inside = (wanted >= start) & (wanted < stop)
        target_logit = torch.where(inside, logits.gather(1, column[:, None]).squeeze(1), target_logit)
        if likeliest is not None:
            best, at = logits.max(dim=1)
            higher = best > highest  # not >=: of equal logits the lowest id counts, as for argmax
            likeliest.copy_(torch.where(higher, at + start, likeliest))
            highest = torch.where(higher, best, highest)
        tile_top, tile_sum = _top_and_sum_in_place(logits)
        tops.append(tile_top)
        sums.append(tile_sum)
    all_tops = torch.stack(tops)  # (tiles, n)
    top = _finite(all_tops.amax(dim=0))
    total = (torch.stack(sums) * torch.exp(all_tops - top)).sum(dim=0)
    return (top - target_logit) + torch.log(total)


def _top_and_sum_in_place(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(highest logit, sum of exp(logit - highest)) over dim 1, without another tensor of that size: they are spent."""
    top = logits.amax(dim=1)
    return top, logits.sub_(_finite(top)[:, None]).exp_().sum(dim=1)


def _finite(top: torch.Tensor) -> torch.Tensor:
    """inf - inf would be NaN where the sum is plainly infinite."""
    return torch.where(top.isinf(), 0.0, top)


def _logits(hidden: torch.Tensor, head: Head, start: int, stop: int, buffer: torch.Tensor | None) -> torch.Tensor:
    weight = head.weight[start:stop]
    if buffer is None:
        logits = torch.mm(hidden, weight.t(), out_dtype=torch.float32)
    else:
        logits = buffer[: len(hidden) * (stop - start)].view(len(hidden), stop - start)
        if hidden.dtype == torch.float32:
            torch.mm(hidden, weight.t(), out=logits)
        else:
            logits.copy_(F.linear(hidden, weight))
    if head.bias is not None:
        logits.add_(head.bias[start:stop])
    return logits if head.cap is None else logits.div_(head.cap).tanh_().mul_(head.cap)


@functools.cache
def _wide_mm_works(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this torch multiplies half-width matrices into float32 logits on this device (2.8 and later do)."""
    probe = torch.ones(16, 16, dtype=dtype, device=device)
    try:
        return torch.mm(probe, probe, out_dtype=torch.float32).dtype == torch.float32
    except (TypeError, RuntimeError):
        return False


def nats_of_logits(logits: torch.Tensor, targets: torch.Tensor, chunk_tokens: int | None = None) -> torch.Tensor:
    """-log p(target) per position from logits (..., V) that a model insists on making whole; float32 inside."""
    flat = logits.reshape(-1, logits.shape[-1])
    wanted = targets.reshape(-1)
    chunk_tokens = chunk_tokens or CHUNK_TOKENS
    nats = torch.empty(len(wanted), dtype=torch.float32, device=logits.device)
    for start in range(0, len(wanted), chunk_tokens):
        part = flat[start : start + chunk_tokens].float()  # (n, V)
        goal = part.gather(1, wanted[start : start + chunk_tokens, None]).squeeze(1)
        top = _finite(part.amax(dim=1))
        nats[start : start + chunk_tokens] = (top - goal) + (part - top[:, None]).exp_().sum(dim=1).log_()
    return nats.reshape(targets.shape)
