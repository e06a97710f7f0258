"""The measurement: every target of a stream scored once, summed in float64, the same on any number of ranks.

Owns `evaluate` and `EvalResult`. Never loads a checkpoint, never writes a file.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evalcore.data.errors import DataError
from evalcore.data.stream import TokenStream, as_stream
from evalcore.data.windows import Window, plan_windows
from evalcore.measure import memory
from evalcore.measure.accumulator import LossAccumulator
from evalcore.measure.metrics import MIN_DOCUMENTS, bits_per_byte, perplexity, standard_error
from evalcore.measure.process_group import ProcessGroup
from evalcore.measure.scorer import Scorer, resolve_dtype

DEFAULT_SEQ_LEN = 1024


class OutOfMemory(Exception):
    """Not even one window fits."""


class RankFailed(Exception):
    """Another rank failed in a way that nobody foresaw; the message has its rank and its last words."""


@dataclass(frozen=True)
class EvalResult:
    """loss: nats per target; ppl, bits_per_byte, loss_stderr: None where they cannot be had (note says why).

    tokens: scored targets. bytes: text bytes that the scored targets stand for. window_nats float64 (W,),
    window_targets int64 (W,): per window, in order.
    """

    loss: float
    ppl: float | None
    bits_per_byte: float | None
    loss_stderr: float | None
    finite: bool
    tokens: int
    bytes: int | None
    seq_len: int
    stride: int
    batch_size: int
    dtype: str
    device: str
    world_size: int
    eval_seconds: float
    tokens_per_second: float
    peak_memory_bytes: int
    note: str | None
    window_nats: np.ndarray
    window_targets: np.ndarray


def evaluate(
    model: Any,
    stream: TokenStream | Any,
    *,
    seq_len: int | None = None,
    stride: int | None = None,
    batch_size: int | None = None,
    dtype: str = "auto",
    device: torch.device | str | None = None,
    context_length: int | None = None,
    vocab_size: int | None = None,
    group: ProcessGroup | None = None,
    chunk_tokens: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvalResult:
    """Mean nats per target of a model over a stream, each target scored exactly once.

    model: `hidden(tokens)` and `head()`, or `logits(tokens)`, or a module whose forward gives logits. stream: a
    TokenStream, or a 1-D array or tensor of ids. seq_len, stride: tokens; None is the context length, 1024 at most.
    batch_size: windows per pass and rank; None is found by memory; halved on out-of-memory. group: all its ranks must
    call (a trainer's: `process_group.current_group()`); None is this process alone. on_progress(done, total):
    windows. Raises DataError for data that this model cannot be measured on, OutOfMemory where one window is too much.
    """
    stream = as_stream(stream)
    group = group or ProcessGroup(_device_of(model, device))
    dtype = resolve_dtype(dtype, group.device)
    context_length = context_length or getattr(model, "context_length", None)
    vocab_size = vocab_size or getattr(model, "vocab_size", None)
    seq_len = _resolve_seq_len(seq_len, context_length)
    if vocab_size is not None:
        stream.check_vocabulary(vocab_size)
    windows = plan_windows(stream.n_tokens, seq_len, stride)
    scorer = Scorer(model, group.device, dtype, chunk_tokens, stream.id_range[1])
    auto = memory.auto_batch_size(model, group.device, seq_len, vocab_size if scorer.makes_logits else None)
    wanted = batch_size or min(auto, -(-len(windows) // group.world_size))
    run = _Run(scorer, stream, windows, group, wanted, on_progress)
    if batch_size is None and group.device.type == "cuda":
        run.fit_batch_size(seq_len)
    memory.reset_peak(group.device)
    started = time.perf_counter()
    failure = run.score()
    peak = _agree(group, failure, memory.peak_bytes(group.device))
    accumulator = run.accumulator.reduced(group)
    seconds = time.perf_counter() - started
    return _result(
        accumulator, stream, windows, seq_len, stride or seq_len, run.batch_size, dtype, group, seconds, peak
    )


class _Run:
    """One pass over this rank's batches."""

    def __init__(
        self,
        scorer: Scorer,
        stream: TokenStream,
        windows: Sequence[Window],
        group: ProcessGroup,
        batch_size: int,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        if batch_size < 1:
            raise DataError(f"batch_size is {batch_size}; it must be at least 1", "leave it out to have it found")
        self.scorer, self.stream, self.windows, self.group = scorer, stream, windows, group
        self.batch_size = batch_size
        self.accumulator = LossAccumulator(stream, windows)
        self._on_progress = on_progress or (lambda done, total: None)

    def fit_batch_size(self, seq_len: int) -> None:
        """Fewer windows per pass where this rank or another has not the memory for as many; all ranks must call."""
        try:
            with self.scorer.running():
                fitting = memory.fitted_batch_size(
                    self.batch_size, seq_len, self.group.device, lambda count: self._forward(list(self.windows[:count]))
                )
        except Exception:  # score() meets it again, where it is told, or halves the batch
            fitting = max(1, self.batch_size // 2)
        self.batch_size = min(self.group.gather(fitting))

    def score(self) -> BaseException | None:
        """Score this rank's share; an error is given back, so that no rank waits alone in the reduction."""
        done = 0
        waiting: tuple[list[Window], torch.Tensor] | None = None
        try:
            with self.scorer.running():
                for batch in self._own_batches():
                    for part, nats in self._pieces(batch):
                        if waiting is not None:  # one behind: the copy back overlaps with the next pass on CUDA
                            self.accumulator.add(*waiting)
                        waiting = (part, nats)
                    done += len(batch)
                    self._on_progress(min(done * self.group.world_size, len(self.windows)), len(self.windows))
                if waiting is not None:
                    self.accumulator.add(*waiting)
        except (DataError, OutOfMemory) as error:
            return error
        except Exception as error:  # foreign model code may raise anything; the other ranks must hear of it
            return error
        return None

    def _own_batches(self) -> Iterator[list[Window]]:
        """Whole batches go to ranks in turn: a batch has the same windows on any number of ranks, so the same bits."""
        for number, batch in enumerate(batches(self.windows, self.batch_size)):
            if number % self.group.world_size == self.group.rank:
                yield batch

    def _pieces(self, batch: list[Window]) -> Iterator[tuple[list[Window], torch.Tensor]]:
        """The batch, or its halves where memory does not suffice; what did not fit is not tried again."""
        size = min(len(batch), self.batch_size)
        start = 0
        while start < len(batch):
            part = batch[start : start + size]
            try:
                nats = self._forward(part)
            except Exception as error:
                if not memory.is_out_of_memory(error):
                    raise
                if size == 1:
                    raise OutOfMemory(f"one window of {part[0].length} tokens does not fit: {error}") from None
                nats = None
            if nats is None:  # outside the except block: the traceback would keep the tensors alive
                size = self.batch_size = max(1, size // 2)
                if self.group.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            yield part, nats
            start += len(part)

    def _forward(self, part: list[Window]) -> torch.Tensor:
        length = part[0].length
        ids = np.stack([self.stream.read(window.start, window.start + length + 1) for window in part])  # (B, T + 1)
        tokens = torch.from_numpy(ids)
        if self.group.device.type == "cuda":
            tokens = tokens.pin_memory().to(self.group.device, non_blocking=True)
        return self.scorer.nats(tokens[:, :-1], tokens[:, 1:], part[0].skip)


def batches(windows: Sequence[Window], batch_size: int) -> Iterator[list[Window]]:
    """Consecutive windows of one shape, batch_size at most: no padding, so a short last window goes alone."""
    batch: list[Window] = []
    for window in windows:
        if batch and (len(batch) == batch_size or (window.length, window.skip) != (batch[0].length, batch[0].skip)):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _resolve_seq_len(seq_len: int | None, context_length: int | None) -> int:
    if seq_len is None:
        return min(context_length or DEFAULT_SEQ_LEN, DEFAULT_SEQ_LEN)
    if context_length is not None and seq_len > context_length:
        raise DataError(
            f"seq_len {seq_len} is longer than the model's {context_length} positions",
            f"say seq_len = {context_length} or less",
            kind="shape",
        )
    return seq_len


def _device_of(model: Any, device: torch.device | str | None) -> torch.device:
    if device is not None:
        return torch.device(device)
    parameters = model.parameters() if hasattr(model, "parameters") else iter(())
    first = next(iter(parameters), None)
    return torch.device("cpu") if first is None else first.device


def _agree(group: ProcessGroup, failure: BaseException | None, peak: int) -> int:
    """Every rank learns of any rank's failure and raises; the largest peak otherwise."""
    shared = failure if failure is None or group.world_size == 1 else _portable(failure)
    answers = group.gather((shared, peak))
    if failure is not None:
        raise failure
    for rank, (error, _) in enumerate(answers):
        if error is not None:
            raise RankFailed(f"rank {rank}: {error[1]}") if error[0] is None else error[0](error[1], *error[2:])
    return max(peak for _, peak in answers)


def _portable(error: BaseException) -> tuple[Any, ...]:
    if isinstance(error, DataError):
        return DataError, error.reason, error.hint, error.kind
    if isinstance(error, OutOfMemory):
        return OutOfMemory, str(error)
    return None, f"{type(error).__name__}: {error}"


def _result(
    accumulator: LossAccumulator,
    stream: TokenStream,
    windows: Sequence[Window],
    seq_len: int,
    stride: int,
    batch_size: int,
    dtype: str,
    group: ProcessGroup,
    seconds: float,
    peak: int,
) -> EvalResult:
    targets = accumulator.window_targets
    tokens = int(targets.sum())
    loss = float(np.sum(accumulator.window_nats)) / tokens
    ppl, why_not = perplexity(loss)
    wrong = int(np.count_nonzero(~np.isfinite(accumulator.window_nats)))
    notes = [*stream.notes]
    if wrong:
        notes.append(f"loss: not finite in {wrong} of {len(windows)} windows")
    if why_not:
        notes.append(why_not)
    groups = accumulator.documents() if accumulator.n_documents >= MIN_DOCUMENTS else (accumulator.window_nats, targets)
    return EvalResult(
        loss=loss,
        ppl=ppl,
        bits_per_byte=None if accumulator.bytes is None else bits_per_byte(accumulator.text_nats, accumulator.bytes),
        loss_stderr=standard_error(*groups),
        finite=math.isfinite(loss),
        tokens=tokens,
        bytes=accumulator.bytes,
        seq_len=seq_len,
        stride=stride,
        batch_size=batch_size,
        dtype=dtype,
        device=group.device.type,
        world_size=group.world_size,
        eval_seconds=seconds,
        tokens_per_second=tokens / seconds if seconds > 0 else 0.0,
        peak_memory_bytes=peak,
        note="; ".join(dict.fromkeys(notes)) or None,
        window_nats=accumulator.window_nats,
        window_targets=targets,
    )
