"""The scores of one task on one model, the same for any batch size, order and number of ranks.

Owns `evaluate_task` and `TaskResult`. Never loads a checkpoint, never writes a file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

import torch

from evalcore.data.errors import DataError
from evalcore.data.tokenizers import Tokenizer
from evalcore.measure import accelerator, memory
from evalcore.measure.agreement import agreed_batch_size, refuse_gaps, share
from evalcore.measure.evaluate import device_of
from evalcore.measure.process_group import ProcessGroup
from evalcore.measure.scorer import Scorer, resolve_dtype
from evalcore.tasks.packing import Packed, batches, pack
from evalcore.tasks.prepare import PreparedTask, prepare
from evalcore.tasks.scores import Scores, score_items
from evalcore.tasks.scoring_run import ScoringRun
from evalcore.tasks.sniffing import sniff_task
from evalcore.tasks.spec import LANGUAGE_MODELING, TaskSpec, task_spec


@dataclass(frozen=True)
class TaskResult(Scores):
    """Scores and how they were made; the fields are those of Measurement. ppl, stride: always None."""

    task: str
    random_baseline: float
    ppl: None
    seq_len: int
    stride: None
    batch_size: int
    dtype: str
    device: str
    world_size: int
    eval_seconds: float
    tokens_per_second: float
    peak_memory_bytes: int
    note: str | None


@dataclass(frozen=True)
class _Plan:
    """What must be the same on every rank."""

    items: int
    checksum: int
    sequences: int
    seq_len: int
    dtype: str


def evaluate_task(
    model: Any,
    items: PreparedTask | str | os.PathLike[str] | Iterable[Any],
    tokenizer: str | Tokenizer | None = None,
    *,
    task: str | TaskSpec | None = None,
    scoring: str | None = None,
    shots: int | None = None,
    max_items: int | None = None,
    seq_len: int | None = None,
    batch_size: int | None = None,
    dtype: str = "auto",
    device: torch.device | str | None = None,
    context_length: int | None = None,
    vocab_size: int | None = None,
    group: ProcessGroup | None = None,
    chunk_tokens: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> TaskResult:
    """Accuracy, loss and bits per byte of a model on the items of a task.

    model: as for `evaluate`. items: a file, several files, rows as dicts, or a PreparedTask, which a trainer makes once
    for many steps. task: a name (see `spec.TASKS`) or a description; None: what the file's fields tell. scoring, shots,
    max_items: as in TaskSpec. seq_len: limit of a request in tokens; None is the context length. batch_size: sequences
    per pass and rank; None is found by memory; halved on out-of-memory. group: all its ranks must call (a trainer's:
    `current_group()`). on_progress(done, total): sequences. Raises DataError for items that cannot be scored,
    OutOfMemory where one item is too much, RanksDisagree where the ranks would not measure the same.
    """
    group = group or ProcessGroup(device_of(model, device))
    context_length = context_length or getattr(model, "context_length", None)
    vocab_size = vocab_size or getattr(model, "vocab_size", None)
    failure: BaseException | None = None
    prepared = own = None
    try:
        prepared = _prepared(items, tokenizer, task, scoring, shots, max_items)
        _refuse_ids(prepared, vocab_size)
        own = _own_part(model, prepared, group, _limit(seq_len, context_length), dtype, vocab_size, chunk_tokens)
        if batch_size is not None and batch_size < 1:
            raise DataError(f"batch_size is {batch_size}; it must be at least 1", "leave it out to have it chosen")
    except Exception as error:  # one rank's data may differ: the others must not wait for it in a collective
        failure = error
    wanted, plan = (0, None) if own is None else (own.batch_tokens, own.plan)
    tokens = agreed_batch_size(group, failure, wanted, plan)
    assert prepared is not None and own is not None and plan is not None  # a failure was raised by the agreement
    packed = own.packed
    run = ScoringRun(
        own.scorer,
        batches(packed.sequences, tokens, batch_size),
        sum(len(item.requests) for item in prepared.items),
        group,
        prepared.spec.kind == LANGUAGE_MODELING,
        on_progress,
    )
    if batch_size is None and accelerator.is_accelerator(group.device):
        run.fit()
    memory.reset_peak(group.device)
    started = time.perf_counter()
    failure = run.score()
    peak = max(share(group, failure, memory.peak_bytes(group.device)))
    run.reduced()
    refuse_gaps(run.scored, group.world_size, "sequence")
    seconds = time.perf_counter() - started
    return _result(prepared, packed, plan, run, group, seconds, peak, context_length is None and seq_len is None)


@dataclass(frozen=True)
class _OwnPart:
    """What this rank would measure, and how, before the ranks agree. batch_tokens: of all sequences of a pass."""

    plan: _Plan
    packed: Packed
    scorer: Scorer
    batch_tokens: int


def _own_part(
    model: Any,
    prepared: PreparedTask,
    group: ProcessGroup,
    limit: int | None,
    dtype: str,
    vocab_size: int | None,
    chunk_tokens: int | None,
) -> _OwnPart:
    dtype = resolve_dtype(dtype, group.device)
    keep = limit if limit is None or prepared.spec.scoring == "core" else limit + 1
    packed = pack(prepared.items, keep, may_share=bool(getattr(model, "takes_branches", False)))
    longest = len(packed.sequences[0])
    plan = _Plan(len(prepared.items), prepared.checksum, len(packed.sequences), limit or longest, dtype)
    scorer = Scorer(model, group.device, dtype, chunk_tokens, prepared.largest_id[0])
    # a batch is as many tokens as make one for a stream; vocab_size bounds those of whole logits
    wanted = memory.auto_batch_size(model, group.device, 1, vocab_size if scorer.makes_logits else None)
    return _OwnPart(plan, packed, scorer, wanted)


def _prepared(
    items: Any,
    tokenizer: str | Tokenizer | None,
    task: str | TaskSpec | None,
    scoring: str | None,
    shots: int | None,
    max_items: int | None,
) -> PreparedTask:
    if isinstance(items, PreparedTask):
        return items
    sources = [items] if isinstance(items, (str, os.PathLike)) else list(items)
    if not sources:
        raise DataError("there are no items", "name a file, or give rows as dicts")
    if task is None:
        first = sources[0]
        evidence = None if isinstance(first, dict) else sniff_task(os.fspath(first))
        if evidence is None or evidence.task is None:
            raise DataError(f"which task the items of {str(first)[:200]} are of is not clear", "give `task`")
        task = evidence.task
    if isinstance(task, TaskSpec):
        return prepare(task, sources, tokenizer)
    try:
        spec = task_spec(task, scoring=scoring, shots=shots, max_items=max_items)
    except ValueError as error:
        raise DataError(str(error)) from None
    return prepare(spec, sources, tokenizer)


def _limit(seq_len: int | None, context_length: int | None) -> int | None:
    if seq_len is None:
        return context_length
    if seq_len < 1 or (context_length is not None and seq_len > context_length):
        raise DataError(
            f"seq_len {seq_len} is not between 1 and the model's {context_length} positions",
            "leave it out (`seq_len` in the settings): the limit is then the context length",
            kind="shape",
        )
    return seq_len


def _refuse_ids(task: PreparedTask, vocab_size: int | None) -> None:
    largest, where = task.largest_id
    if vocab_size is not None and largest >= vocab_size:
        raise DataError(
            f"{where} has token id {largest}, outside the model's vocabulary of {vocab_size}",
            f"give the tokenizer that the model was trained with; this is {task.tokenizer or 'the one of the file'}",
            kind="shape",
        )


def _result(
    task: PreparedTask,
    packed: Packed,
    plan: _Plan,
    run: ScoringRun,
    group: ProcessGroup,
    seconds: float,
    peak: int,
    unlimited: bool,
) -> TaskResult:
    scores = score_items(task, run.region_nats, run.whole_nats, run.misses)
    notes = [*task.notes, *scores.notes]
    if packed.n_cut:
        notes.append(f"{packed.n_cut} of {scores.items} items were longer than the context and cut from the left")
    if unlimited:
        notes.append("seq_len: the model's context length is not known, so no item was cut")
    inputs = sum(map(len, packed.sequences))
    return TaskResult(
        **{field.name: getattr(scores, field.name) for field in fields(Scores)},
        task=task.spec.name,
        random_baseline=task.random_baseline,
        ppl=None,
        seq_len=plan.seq_len,
        stride=None,
        batch_size=run.batch_size,
        dtype=plan.dtype,
        device=group.device.type,
        world_size=group.world_size,
        eval_seconds=seconds,
        tokens_per_second=inputs / seconds if seconds > 0 else 0.0,
        peak_memory_bytes=peak,
        note="; ".join(dict.fromkeys(notes)) or None,
    )
