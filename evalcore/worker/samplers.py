"""The samples of an item: texts for the prompts of a `[[sample]]`, generated after the losses.

Owns when samples are put off: while another checkpoint waits for its loss. All ranks call it in step; rank 0 alone
generates, the others wait.
"""

from __future__ import annotations

import os
import time

from evalcore.data.tokenizers import Tokenizer, build_tokenizer
from evalcore.data_digest import stamp
from evalcore.loading.model import LoadedModel, still_same
from evalcore.measure.process_group import ProcessGroup
from evalcore.messages import AttemptRequest, EvalSetSpec, Item, SampleText
from evalcore.progress import ProgressReporter
from evalcore.sampling.prompts import no_tokenizer
from evalcore.sampling.sample_model import Interrupted, SampleRun
from evalcore.worker.failpoints import failpoint
from evalcore.worker.failures import Failure, failure_of, first_failure
from evalcore.worker.launch_io import LaunchFolderIO
from evalcore.worker.own_tokenizer import with_own_tokenizer

#: No failure: the attempt is given back.
PUT_OFF: Failure = ("released", "a checkpoint waits for its loss", None)
LOOK_S = 0.5  # between two looks for a checkpoint that waits


class Samplers:
    """Generates for one launch; keeps its tokenizers."""

    def __init__(
        self,
        eval_sets: tuple[EvalSetSpec, ...],
        group: ProcessGroup,
        launch_io: LaunchFolderIO,
        reporter: ProgressReporter,
    ) -> None:
        self._sets = {eval_set.name: eval_set for eval_set in eval_sets if eval_set.sample is not None}
        self._group, self._launch_io, self._reporter = group, launch_io, reporter
        self._tokenizers: dict[tuple[str | None, str], Tokenizer] = {}
        self._looked_s = 0.0

    def is_sample(self, request: AttemptRequest) -> bool:
        return request.eval_set in self._sets

    def are_all(self, item: Item) -> bool:
        """Whether the item has samples alone."""
        return bool(self._sets) and all(map(self.is_sample, item.attempts))

    def is_put_off(self, item: Item) -> bool:
        """Whether the item has samples alone while a checkpoint waits for its loss. The same on every rank."""
        if not self.are_all(item):
            return False
        return bool(self._group.broadcast(self._loss_waits() if self._group.is_main else None))

    def texts(
        self, request: AttemptRequest, loaded: LoadedModel, folder: str
    ) -> tuple[Failure | None, tuple[SampleText, ...] | None]:
        """(failure, texts) of one attempt; PUT_OFF where a checkpoint came meanwhile that waits for its loss."""
        eval_set = with_own_tokenizer(self._sets[request.eval_set], folder)
        failure: Failure | None = None
        made: tuple[SampleText, ...] | None = None
        if not is_as_hashed(eval_set):
            hint = "restart the daemon, or reload its settings with SIGHUP"
            failure = ("data", f"the files of tokenizer {eval_set.tokenizer} changed after they were hashed", hint)
        elif self._group.is_main:
            try:
                made = self._generate(request, eval_set, loaded, folder)
            except Interrupted:
                failure = PUT_OFF
            except Exception as error:  # it costs this attempt alone
                failure = failure_of(error, eval_set.name)
        failure = first_failure(self._group.gather(failure))
        if failure is None and not all(self._group.gather(still_same(loaded))):
            failure = ("superseded", "the file changed while texts were generated", None)
        return failure, None if failure is not None else made or ()

    def _generate(
        self, request: AttemptRequest, eval_set: EvalSetSpec, loaded: LoadedModel, folder: str
    ) -> tuple[SampleText, ...]:
        assert eval_set.sample is not None

        def progressed(done: int, total: int) -> None:
            self._reporter.report("sampling", request.attempt, request.eval_set, done, total, "tokens")
            failpoint("mid_sample", self._group.rank)

        run = SampleRun(
            *(loaded.model, loaded.vocab_size, loaded.context_length, loaded.config),
            *(self._tokenizer(eval_set, folder), self._group.device),
            folder=folder,
            family=loaded.family,
            dtype=eval_set.dtype,
            on_progress=progressed,
            interrupted=self._loss_waits_now,
        )
        with self._reporter.while_working("sampling", request.attempt, request.eval_set):
            return run.texts(eval_set.sample)

    def _tokenizer(self, eval_set: EvalSetSpec, folder: str) -> Tokenizer:
        if eval_set.tokenizer is None:
            raise no_tokenizer(folder)
        key = eval_set.tokenizer, eval_set.tokenizer_digest
        if key not in self._tokenizers:
            self._tokenizers[key] = build_tokenizer(eval_set.tokenizer)
        return self._tokenizers[key]

    def _loss_waits_now(self) -> bool:
        """The same, looked for now and then: it lists a folder."""
        if time.monotonic() - self._looked_s < LOOK_S:
            return False
        return self._loss_waits()

    def _loss_waits(self) -> bool:
        self._looked_s = time.monotonic()
        return any(not self.are_all(item) for item in self._launch_io.peek_all())


def is_still(item: Item, last: Item, loaded: LoadedModel) -> bool:
    """Whether loading `item` would give the model that was loaded for `last`: one file, unchanged at its path."""
    same = (item.path, item.digest, item.size_bytes) == (last.path, last.digest, last.size_bytes)
    if not same or item.members or last.members or len(loaded.files) != 1 or os.path.isdir(item.path):
        return False
    try:
        now, then = os.stat(os.fsencode(item.path)), loaded.files[0].status
    except OSError:
        return False
    names = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    return all(getattr(now, name) == getattr(then, name) for name in names)


def is_as_hashed(eval_set: EvalSetSpec) -> bool:
    """Whether the data files have the stamps that they had when their digest was taken."""
    return not eval_set.stamps or tuple(map(stamp, eval_set.hashed_paths)) == eval_set.stamps
