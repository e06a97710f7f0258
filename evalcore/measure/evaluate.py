"""The measurement: every target of a stream scored once, summed in float64, the same on any number of ranks.

Owns `evaluate` and `EvalResult`. Never loads a checkpoint, never writes a file.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evalcore.data.errors import DataError
from evalcore.data.stream import TokenStream, as_stream
from evalcore.data.windows import Window, plan_windows
from evalcore.measure import accelerator, memory
from evalcore.measure.accumulator import LossAccumulator
from evalcore.measure.agreement import Plan, agreed_batch_size, refuse_gaps, share
from evalcore.measure.batch_run import BatchRun
from evalcore.measure.metrics import MIN_DOCUMENTS, bits_per_byte, perplexity, standard_error
from evalcore.measure.process_group import ProcessGroup
from evalcore.measure.scorer import Scorer, resolve_dtype
from evalcore.measure.spikes import describe
from evalcore.spikes import Spike

DEFAULT_SEQ_LEN = 1024


@dataclass(frozen=True)
class EvalResult:
    """loss: nats per target; ppl, bits_per_byte, loss_stderr: None where they cannot be had (note says why).

    tokens: scored targets. bytes: text bytes that the scored targets stand for. window_nats float64 (W,),
    window_targets int64 (W,): per window, in order. position_nats, position_targets (seq_len,): by the place in the
    window, over all windows. spikes: the windows with the highest loss.
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
    position_nats: np.ndarray
    position_targets: np.ndarray
    spikes: tuple[Spike, ...]


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
    windows. Raises DataError for data that this model cannot be measured on, OutOfMemory where one window is too
    much, RanksDisagree where the ranks would not measure the same.
    """
    stream = as_stream(stream)
    group = group or ProcessGroup(device_of(model, device))
    context_length = context_length or getattr(model, "context_length", None)
    vocab_size = vocab_size or getattr(model, "vocab_size", None)
    failure: BaseException | None = None
    own = None
    try:
        stream = _of_vocabulary(stream, vocab_size)
        lengths = (seq_len, stride, context_length)
        own = _own_part(model, stream, group, lengths, batch_size, dtype, vocab_size, chunk_tokens)
    except Exception as error:  # one rank's data may differ: the others must not wait for it in a collective
        failure = error
    wanted, plan = (0, None) if own is None else (own.batch_size, own.plan)
    common_batch_size = agreed_batch_size(group, failure, wanted, plan)
    assert own is not None and plan is not None  # a failure was raised by the agreement
    windows = own.windows
    run = BatchRun(own.scorer, stream, windows, group, common_batch_size, on_progress)
    if batch_size is None and accelerator.is_accelerator(group.device):
        run.fit_batch_size(plan.seq_len)
    memory.reset_peak(group.device)
    started = time.perf_counter()
    failure = run.score()
    peak = max(share(group, failure, memory.peak_bytes(group.device)))
    accumulator = run.accumulator.reduced(group)
    refuse_gaps(accumulator.window_scored, group.world_size)
    spikes = describe(accumulator.spikes.reduced(group), windows, stream)
    seconds = time.perf_counter() - started
    notes = [*stream.notes]
    if seq_len is None and context_length is None:
        notes.append(f"seq_len: the model's context length is not known, so windows have {DEFAULT_SEQ_LEN} tokens")
    return _result(accumulator, plan, notes, run.batch_size, group, seconds, peak, spikes)


@dataclass(frozen=True)
class _OwnPart:
    """What this rank would measure, and how, before the ranks agree."""

    plan: Plan
    windows: list[Window]
    scorer: Scorer
    batch_size: int


def _own_part(
    model: Any,
    stream: TokenStream,
    group: ProcessGroup,
    lengths: tuple[int | None, int | None, int | None],
    batch_size: int | None,
    dtype: str,
    vocab_size: int | None,
    chunk_tokens: int | None,
) -> _OwnPart:
    """lengths: seq_len, stride, the model's context length."""
    checksum = stream.checksum() if group.world_size > 1 else 0
    seq_len, stride, context_length = lengths
    plan, windows = _plan(stream, checksum, seq_len, stride, resolve_dtype(dtype, group.device), context_length)
    scorer = Scorer(model, group.device, plan.dtype, chunk_tokens, plan.largest_id)
    auto = memory.auto_batch_size(model, group.device, plan.seq_len, vocab_size if scorer.makes_logits else None)
    wanted = min(auto, -(-len(windows) // group.world_size)) if batch_size is None else batch_size
    if wanted < 1:
        raise DataError(f"batch_size is {wanted}; it must be at least 1", "leave it out to have it chosen")
    return _OwnPart(plan, windows, scorer, wanted)


def _of_vocabulary(stream: TokenStream, vocab_size: int | None) -> TokenStream:
    """The stream for a model with so many ids. Raises DataError for an id that it does not have."""
    if vocab_size is not None:
        stream.check_vocabulary(vocab_size)
        return stream.for_vocabulary(vocab_size)
    if stream.id_range[0] < 0:
        raise DataError(f"token id {stream.id_range[0]} in {stream.label} is negative", "check --token-dtype", "shape")
    return stream


def _plan(
    stream: TokenStream,
    checksum: int,
    seq_len: int | None,
    stride: int | None,
    dtype: str,
    context_length: int | None,
) -> tuple[Plan, list[Window]]:
    seq_len = _resolve_seq_len(seq_len, context_length)
    windows = plan_windows(stream.n_tokens, seq_len, stride)
    return Plan(stream.n_tokens, *stream.id_range, checksum, len(windows), seq_len, stride or seq_len, dtype), windows


def _resolve_seq_len(seq_len: int | None, context_length: int | None) -> int:
    if seq_len is None:
        return min(context_length or DEFAULT_SEQ_LEN, DEFAULT_SEQ_LEN)
    if context_length is not None and seq_len > context_length:
        raise DataError(
            f"seq_len {seq_len} is longer than the model's {context_length} positions",
            f"give --seq-len {context_length} or less (`seq_len` in the settings)",
            kind="shape",
        )
    return seq_len


def device_of(model: Any, device: torch.device | str | None) -> torch.device:
    """The device given, else that of the model's first parameter."""
    if device is not None:
        return torch.device(device)
    parameters = model.parameters() if hasattr(model, "parameters") else iter(())
    first = next(iter(parameters), None)
    return torch.device("cpu") if first is None else first.device


def _result(
    accumulator: LossAccumulator,
    plan: Plan,
    notes: list[str],
    batch_size: int,
    group: ProcessGroup,
    seconds: float,
    peak: int,
    spikes: tuple[Spike, ...],
) -> EvalResult:
    targets = accumulator.window_targets
    tokens = int(targets.sum())
    loss = float(np.sum(accumulator.window_nats)) / tokens
    ppl, why_not = perplexity(loss)
    not_finite = int(np.count_nonzero(~np.isfinite(accumulator.window_nats)))
    if not_finite:
        notes.append(f"loss: not finite in {not_finite} of {plan.windows} windows")
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
        seq_len=plan.seq_len,
        stride=plan.stride,
        batch_size=batch_size,
        dtype=plan.dtype,
        device=group.device.type,
        world_size=group.world_size,
        eval_seconds=seconds,
        tokens_per_second=tokens / seconds if seconds > 0 else 0.0,
        peak_memory_bytes=peak,
        note="; ".join(dict.fromkeys(notes)) or None,
        window_nats=accumulator.window_nats,
        window_targets=targets,
        position_nats=accumulator.position_nats,
        position_targets=accumulator.position_targets,
        spikes=spikes,
    )
