"""One checkpoint on its eval sets and tasks: load once, measure each, answer each attempt with one outcome.

Owns what becomes an outcome and of which kind. All ranks run it in step; only rank 0 writes.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch

import evalcore
from evalcore.data import ReportPhase, TokenStream, open_stream
from evalcore.loading.checkpoint import LoadedModel, still_same
from evalcore.loading.reading import LoadOptions
from evalcore.measure.evaluate import EvalResult, evaluate
from evalcore.measure.process_group import ProcessGroup
from evalcore.measure.scorer import linear_dtype
from evalcore.measure.selfcheck import selfcheck
from evalcore.messages import (
    DATA_CHANGED,
    AttemptRequest,
    EvalSetSpec,
    Item,
    LaunchSpec,
    Measurement,
    Outcome,
    SampleText,
)
from evalcore.progress import ProgressReporter
from evalcore.tasks.evaluate_task import TaskResult, evaluate_task
from evalcore.tasks.item_scores import to_text
from evalcore.tasks.prepare import PreparedTask, prepare
from evalcore.tasks.selfcheck import task_selfcheck
from evalcore.worker.failpoints import failpoint
from evalcore.worker.failures import Failure, failure_of, first_failure
from evalcore.worker.launch_io import LaunchFolderIO
from evalcore.worker.load_item import load_item
from evalcore.worker.own_tokenizer import NOTE, folder_of, with_own_tokenizer
from evalcore.worker.read_ahead import ReadAhead
from evalcore.worker.samplers import PUT_OFF, Samplers, is_as_hashed, is_still


class ItemEvaluator:
    """Keeps what one launch pays for once: the model of the last checkpoint, and the data of the eval sets."""

    def __init__(
        self, spec: LaunchSpec, group: ProcessGroup, launch_io: LaunchFolderIO, reporter: ProgressReporter
    ) -> None:
        self._spec, self._group, self._launch_io, self._reporter = spec, group, launch_io, reporter
        self._sets = {eval_set.name: eval_set for eval_set in spec.eval_sets}
        self._opened: dict[tuple[str, str], TokenStream | PreparedTask] = {}  # by name and digest of the tokenizer
        self._last: LoadedModel | None = None
        self._read_ahead = ReadAhead(spec.model)
        self._last_item: Item | None = None
        self._samplers = Samplers(spec.eval_sets, group, launch_io, reporter)

    def evaluate_item(self, item: Item) -> None:
        """Answer every attempt of the item; whatever is wrong with it costs this item alone."""
        group = self._group
        if not item.attempts:
            return
        if self._samplers.is_put_off(item):
            for request in item.attempts:
                self._answer(request, PUT_OFF)
            return
        self._start(item.attempts[0])
        started = time.perf_counter()
        loaded, failure = self._load(item)
        load_seconds = time.perf_counter() - started
        failpoint("after_load", group.rank)
        failure = first_failure(group.gather(failure))
        if failure is not None or loaded is None:
            for request in item.attempts:
                self._start(request)
                self._answer(request, failure or ("crash", "the checkpoint was not loaded", None))
            return
        if group.is_main:
            self._read_ahead.begin(self._launch_io.peek())
        for request in sorted(item.attempts, key=self._samplers.is_sample):  # losses and tasks first
            self._start(request)
            if self._samplers.is_sample(request):
                self._answer(request, *self._samplers.texts(request, loaded, folder_of(item)), loaded.content_digest)
            elif self._is_known(request, loaded):
                self._answer(request, None, None, loaded.content_digest)
            else:
                self._answer(request, *self._measure(request, loaded, load_seconds, folder_of(item)))

    def close(self) -> None:
        if self._last is not None:
            self._last.close()

    def _load(self, item: Item) -> tuple[LoadedModel | None, Failure | None]:
        last, last_item = self._last, self._last_item
        if last and last_item and self._samplers.are_all(item) and self._is_loaded(item, last_item, last):
            return last, None
        reuse, self._last = self._last, None
        device, dtype = str(self._group.device), self._linear_dtype(item)
        options = LoadOptions(self._spec.model, device, self._spec.verify, reuse, dtype)
        first = item.attempts[0]

        def report(done: int, total: int) -> None:
            self._reporter.report("loading", first.attempt, done=done, total=total, unit="bytes")

        try:
            with self._reporter.while_working("loading", first.attempt):
                loaded = load_item(item, self._spec, options, report)
        except Exception as error:  # every file costs itself only
            return None, failure_of(error, item.shown_path or item.path)
        finally:
            if reuse is not None:
                reuse.close()
        self._last, self._last_item = loaded, item
        return loaded, None

    def _is_loaded(self, item: Item, last_item: Item, last: LoadedModel) -> bool:
        """Weights of a lower dtype serve texts of that dtype alone."""
        return is_still(item, last_item, last) and self._linear_dtype(item) == self._linear_dtype(last_item)

    def _linear_dtype(self, item: Item) -> torch.dtype:
        """The dtype that every attempt computes in; float32 where they differ, or where one of them is no eval set."""
        sets = [self._sets.get(request.eval_set) for request in item.attempts]
        return linear_dtype([None if eval_set is None else eval_set.dtype for eval_set in sets], self._group.device)

    def _is_known(self, request: AttemptRequest, loaded: LoadedModel) -> bool:
        """The bytes that were read, by every rank, have a value already."""
        same = loaded.content_digest in request.known_contents and still_same(loaded)
        return all(self._group.gather(same)) if request.known_contents else False

    def _measure(
        self, request: AttemptRequest, loaded: LoadedModel, load_seconds: float, folder: str
    ) -> tuple[Failure | None, Measurement | None]:
        """(failure, measurement) of one attempt; the same on every rank."""
        group, eval_set = self._group, self._sets.get(request.eval_set)
        if eval_set is None:
            return ("protocol", f"the launch has no eval set {request.eval_set!r}", None), None
        if not all(group.gather(is_as_hashed(eval_set))):
            return (DATA_CHANGED, "the data files changed after they were hashed", None), None
        declared, eval_set = eval_set, with_own_tokenizer(eval_set, folder)
        data, failure = self._open(request, eval_set)
        if failure is not None or data is None:
            return failure, None
        try:
            result = self._evaluate(request, eval_set, loaded, data)
            measurement = measurement_of(result, loaded, load_seconds)
            if eval_set is not declared:
                measurement = replace(measurement, note="; ".join(filter(None, (measurement.note, NOTE))))
        except Exception as error:  # evaluate has shared it with all ranks
            return failure_of(error, eval_set.name), None
        if not all(group.gather(still_same(loaded))):
            return ("superseded", "the file changed while it was evaluated", None), None
        if not all(group.gather(is_as_hashed(eval_set))):
            return (DATA_CHANGED, "the data files changed after they were hashed", None), None
        return None, measurement

    def _evaluate(
        self, request: AttemptRequest, eval_set: EvalSetSpec, loaded: LoadedModel, data: TokenStream | PreparedTask
    ) -> EvalResult | TaskResult:
        def progressed(done: int, total: int) -> None:
            unit = "windows" if eval_set.task is None else "items"
            self._reporter.report("evaluating", request.attempt, request.eval_set, done, total, unit)
            failpoint("mid_eval", self._group.rank)

        settings: dict[str, Any] = {
            "seq_len": eval_set.seq_len,
            "dtype": eval_set.dtype,
            "context_length": loaded.context_length,
            "vocab_size": loaded.vocab_size,
            "group": self._group,
            "on_progress": progressed,
        }
        result: EvalResult | TaskResult
        if isinstance(data, PreparedTask):
            result = evaluate_task(loaded.model, data, batch_size=self._spec.batch_size, **settings)
            check = task_selfcheck(loaded.model, data, result, **settings) if self._spec.selfcheck else None
        else:
            settings["stride"] = eval_set.stride
            result = evaluate(loaded.model, data, batch_size=self._spec.batch_size, **settings)
            check = selfcheck(loaded.model, data, result, **settings) if self._spec.selfcheck else None
        if check is None:
            return result
        return replace(result, note="; ".join(filter(None, (result.note, check.sentence))))

    def _open(
        self, request: AttemptRequest, eval_set: EvalSetSpec
    ) -> tuple[TokenStream | PreparedTask | None, Failure | None]:
        """The stream or the items of an eval set, opened once per launch."""
        key = eval_set.name, eval_set.tokenizer_digest
        if key in self._opened:
            return self._opened[key], None

        def report(phase: str, done: int, total: int) -> None:
            unit = "items" if phase == "encoding" else "bytes"
            self._reporter.report(phase, request.attempt, request.eval_set, done, total, unit)

        with self._reporter.while_working("opening data", request.attempt, request.eval_set):
            data, failure = open_together(self._group, eval_set, self._spec.cache_dir, report)
        if data is not None:
            self._opened[key] = data
        return data, failure

    def _start(self, request: AttemptRequest) -> None:
        if self._group.is_main and not self._launch_io.folder.started(request.attempt).exists():
            self._launch_io.start(request.attempt)
            failpoint("after_started", self._group.rank)

    def _answer(
        self,
        request: AttemptRequest,
        failure: Failure | None,
        answer: Measurement | tuple[SampleText, ...] | None = None,
        content: str = "",
    ) -> None:
        """content: the digest of what was read, where no measurement has it."""
        if not self._group.is_main:
            return
        failpoint("before_outcome", self._group.rank)
        if failure is None and isinstance(answer, tuple):
            outcome = Outcome(request.attempt, request.token, "succeeded", content_digest=content, samples=answer)
        elif failure is None and content:
            outcome = Outcome(request.attempt, request.token, "known", content_digest=content)
        elif failure is None:
            assert isinstance(answer, Measurement)
            outcome = Outcome(request.attempt, request.token, "succeeded", measurement=answer)
        elif failure[0] == PUT_OFF[0]:
            outcome = Outcome(request.attempt, request.token, "released", reason=failure[1])
        elif failure[0] in ("superseded", DATA_CHANGED):
            kind = DATA_CHANGED if failure[0] == DATA_CHANGED else None
            outcome = Outcome(request.attempt, request.token, "superseded", kind, failure[1], failure[2])
        else:
            outcome = Outcome(request.attempt, request.token, "failed", *failure)
        self._launch_io.answer(outcome)
        failpoint("after_outcome", self._group.rank)


def open_together(
    group: ProcessGroup, eval_set: EvalSetSpec, cache_dir: str | None, report: ReportPhase | None = None
) -> tuple[TokenStream | PreparedTask | None, Failure | None]:
    """The data, or the same failure, on every rank: one rank of each machine tokenises, then the rest."""
    data: TokenStream | PreparedTask | None = None
    failure: Failure | None = None
    for first_turn in (True, False):
        if failure is None and first_turn == (group.local_rank == 0):
            try:
                if eval_set.task is None:
                    data = open_stream(eval_set, cache_dir=cache_dir, report=report)
                else:
                    encoding = None if report is None else partial(report, "encoding")
                    data = prepare(eval_set.task, eval_set.paths, eval_set.tokenizer, encoding)
            except Exception as error:  # shared below: the other ranks would wait for this one
                failure = failure_of(error, eval_set.name)
        failure = first_failure(group.gather(failure))
    return (None, failure) if failure is not None else (data, None)


def measurement_of(result: EvalResult | TaskResult, loaded: LoadedModel, load_seconds: float) -> Measurement:
    """What the results table keeps of one evaluation."""
    names = Measurement.__dataclass_fields__.keys() & result.__dataclass_fields__.keys()
    values: dict[str, Any] = {name: getattr(result, name) for name in names}
    if isinstance(result, TaskResult):
        values["item_scores"] = to_text(result.item_scores)
    else:
        for name in ("window_nats", "window_targets", "position_nats", "position_targets"):
            values[name] = tuple(getattr(result, name).tolist())
    if isinstance(result, TaskResult):
        logged = None
    else:
        logged = loaded.contradiction(result.loss, result.loss_stderr, len(result.window_nats))
    values["note"] = "; ".join(filter(None, (*loaded.notes, result.note, logged))) or None
    return Measurement(
        **values,
        load_seconds=load_seconds,
        step=loaded.step,
        step_source=loaded.step_source,
        logged_val_loss=loaded.logged_val_loss,
        tokens_seen=loaded.tokens_seen,
        content_digest=loaded.content_digest,
        evalcore_version=evalcore.__version__,
        torch_version=torch.__version__,
    )
