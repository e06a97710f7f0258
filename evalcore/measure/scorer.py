"""Computes per-token nats from a model's hidden states and head, or from its logits.

Owns the adapters and the dtype. Never cuts a stream, never sums.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from evalcore.data.errors import DataError
from evalcore.measure import precision
from evalcore.measure.evaluation_mode import evaluation_mode
from evalcore.measure.loss import Head, nats_of_logits, target_nats
from evalcore.measure.thread_pool import BatchThreadPool

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class RowBatch:
    """tokens (B, T) with targets (R,) at chosen positions: rows (R,) index the flattened (B * T).

    positions (B, T) and mask (B, 1, T, T): of tokens that are not one causal text (`Decoder.hidden`); None otherwise.
    """

    tokens: torch.Tensor
    rows: torch.Tensor
    targets: torch.Tensor
    positions: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    wants_likeliest: bool = False


class Scorer:
    """One model on one device in one dtype: nats(tokens, targets, skip) inside `running()`."""

    def __init__(
        self, model: Any, device: torch.device, dtype: str, chunk_tokens: int | None = None, largest_id: int = 0
    ) -> None:
        self.model = model
        self.device = device
        self.dtype = DTYPES[dtype]
        self.chunk_tokens = chunk_tokens
        self.largest_id = largest_id
        self.makes_logits = not (hasattr(model, "hidden") and hasattr(model, "head"))
        self._head: Head | None = None
        self._pool: BatchThreadPool | None = None
        self._logits: Callable[..., Any] = getattr(model, "logits", model)
        self._wants_targets = False

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Evaluation mode, no gradients, autocast unless in float32; each module has its mode back after."""
        try:
            with (
                evaluation_mode(self.model),
                torch.inference_mode(),
                self._lower_precision(),
                # one context for the whole evaluation: its cache casts each weight once
                precision.autocast(self.device, self.dtype),
                self._thread_pool() as self._pool,
            ):
                yield
        finally:
            self._head = self._pool = None

    @contextlib.contextmanager
    def _lower_precision(self) -> Iterator[None]:
        """The head, and whatever of the model is in another precision while it runs."""
        weight, bias = (None, None) if self.makes_logits else self.model.head()
        cap = getattr(self.model, "logit_cap", None)
        if self.dtype == torch.float32 or not is_stateless(self.model):
            self._head = None if weight is None else Head(weight, bias, cap).cast(self.dtype)
            lower = self.dtype != torch.float32
            with precision.cached_by_autocast(self._parameters() if lower else []):
                yield
            return
        is_bfloat16_on_cpu = self.device.type == "cpu" and self.dtype == torch.bfloat16
        head_dtype = torch.float32 if is_bfloat16_on_cpu else self.dtype
        self._head = None if weight is None else Head(weight, bias, cap).cast(head_dtype)
        products = precision.float32_products_from_bfloat16() if is_bfloat16_on_cpu else contextlib.nullcontext()
        with precision.cast_once(self.model, self.dtype), products:
            yield

    def _thread_pool(self) -> contextlib.AbstractContextManager[BatchThreadPool | None]:
        """A thread pool where it pays and is safe: on a CPU, in a model that keeps nothing between calls."""
        threads = torch.get_num_threads()
        if self.device.type != "cpu" or threads == 1 or not is_stateless(self.model):
            return contextlib.nullcontext()
        return BatchThreadPool(threads, lambda: precision.autocast(self.device, self.dtype, cache=False))

    def _parameters(self) -> list[torch.Tensor]:
        return list(self.model.parameters()) if hasattr(self.model, "parameters") else []

    def nats(self, tokens: torch.Tensor, targets: torch.Tensor, skip: int) -> torch.Tensor:
        """tokens, targets (B, T) on the device -> nats (B, T - skip), float32."""
        if self._pool is not None and len(tokens) >= self._pool.count:
            return self._pool.run(self._nats, (tokens, targets), skip)
        return self._nats(tokens, targets, skip)

    def _nats(self, tokens: torch.Tensor, targets: torch.Tensor, skip: int) -> torch.Tensor:
        wanted = targets[:, skip:]
        if self._head is not None:
            hidden = self.model.hidden(tokens)[:, skip:].to(self._head.weight.dtype)  # (B, T - skip, D)
            with torch.autocast(self.device.type, enabled=False):
                return target_nats(hidden, self._head, wanted, self.chunk_tokens)
        logits = self._whole_logits(tokens, targets)[:, skip:]
        self._refuse_ids_above(logits.shape[-1])
        with torch.autocast(self.device.type, enabled=False):
            return nats_of_logits(logits, wanted, self.chunk_tokens)

    def row_nats(self, batch: RowBatch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(nats float32 (R,), likeliest ids (R,) where asked for) of chosen positions: the head runs on these alone."""
        tokens, wanted = batch.tokens, batch.targets
        best = torch.zeros_like(wanted) if batch.wants_likeliest else None
        if self._head is not None:
            layout = () if batch.positions is None else (batch.positions, batch.mask)
            hidden = self.model.hidden(tokens, *layout).flatten(0, 1)[batch.rows]  # (R, D)
            hidden = hidden.to(self._head.weight.dtype)
            with torch.autocast(self.device.type, enabled=False):
                return target_nats(hidden, self._head, wanted, self.chunk_tokens, likeliest=best), best
        logits = self._whole_logits(tokens, tokens)
        self._refuse_ids_above(logits.shape[-1])
        logits = logits.flatten(0, 1)[batch.rows]  # (R, V)
        with torch.autocast(self.device.type, enabled=False):
            return nats_of_logits(logits, wanted, self.chunk_tokens), logits.argmax(-1) if best is not None else None

    def last_logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens (1, T) on the device -> the last position's logits (V,), float32."""
        if self._head is not None:
            hidden = self.model.hidden(tokens)[:, -1].to(self._head.weight.dtype)  # (1, D)
            with torch.autocast(self.device.type, enabled=False):
                return self._head.logits(hidden)[0]
        answer = _as_logits(self._logits(tokens.contiguous()))  # nanoGPT's forward gives the last position only
        if answer.dim() not in (2, 3) or answer.shape[0] != 1:
            raise DataError(
                f"{type(self.model).__name__} gives no logits of shape (batch, time, vocabulary)",
                "give it a method logits(tokens), or hidden(tokens) and head()",
                kind="unsupported",
            )
        return (answer[0, -1] if answer.dim() == 3 else answer[0]).float()

    def row_nats_of(self, batches: Sequence[RowBatch]) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        """`row_nats` of each batch; in parallel where threads pay."""
        if self._pool is not None and len(batches) > 1:
            return self._pool.map(self.row_nats, batches)
        return [self.row_nats(batch) for batch in batches]

    @property
    def n_parallel(self) -> int:
        """Batches that are computed at the same time, inside `running()`."""
        return 1 if self._pool is None else self._pool.count

    def _refuse_ids_above(self, vocab_size: int) -> None:
        if self.largest_id >= vocab_size:
            raise DataError(
                f"token id {self.largest_id} is outside the model's vocabulary of {vocab_size}",
                "the data was made with another tokenizer than the model",
                kind="shape",
            )

    def _whole_logits(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Logits (B, T, V). nanoGPT's forward gives the last position only unless it is given targets.

        Windows are views of a stream; foreign models get them contiguous, for many call `view` on them.
        """
        tokens, targets = tokens.contiguous(), targets.contiguous()
        if not self._wants_targets:
            logits = _as_logits(self._logits(tokens))
            if logits.dim() == 3 and logits.shape[:2] == tokens.shape:
                return logits
        try:
            logits = _as_logits(self._logits(tokens, targets))
        except TypeError:  # it takes tokens alone
            logits = torch.empty(0)
        if logits.dim() != 3 or logits.shape[:2] != tokens.shape:
            raise DataError(
                f"{type(self.model).__name__} gives no logits of shape (batch, time, vocabulary)",
                "give it a method logits(tokens), or hidden(tokens) and head()",
                kind="unsupported",
            )
        self._wants_targets = True
        return logits


def is_stateless(model: Any) -> bool:
    """Whether the model declares that several threads may call it at once, as every built-in family does."""
    return bool(getattr(model, "stateless", False))


def _as_logits(answer: Any) -> torch.Tensor:
    """A tensor as it is; the `logits` of an output object or dict; the first tensor of a tuple with 3 dimensions."""
    if isinstance(answer, torch.Tensor):
        return answer
    logits = answer.get("logits") if isinstance(answer, dict) else getattr(answer, "logits", None)
    if isinstance(logits, torch.Tensor):
        return logits
    parts = answer if isinstance(answer, (tuple, list)) else ()
    tensors = [part for part in parts if isinstance(part, torch.Tensor)]
    wide = [part for part in tensors if part.dim() == 3]
    if not tensors:
        raise DataError(f"the model returned {type(answer).__name__}, which holds no logits", kind="unsupported")
    return wide[0] if wide else tensors[0]


def linear_dtype(declared: Sequence[str | None], device: torch.device) -> torch.dtype:
    """The dtype for weights of linear layers of a model that is measured in each declared dtype; float32 for None."""
    try:
        resolved = {None if name is None else resolve_dtype(name, device) for name in declared}
    except DataError:  # a name that is not known: the measurement reports it
        return torch.float32
    name = resolved.pop() if len(resolved) == 1 else None
    return torch.float32 if name is None else DTYPES[name]


def resolve_dtype(declared: str, device: torch.device) -> str:
    """`auto` is bfloat16 on CUDA and XPU, else float32; DataError for a name that is not known."""
    if declared == "auto":
        return "float32" if device.type in ("cpu", "mps") else "bfloat16"
    if declared not in DTYPES:
        raise DataError(f"dtype {declared!r} is not known", f"use auto, {', '.join(DTYPES)}")
    return declared
