"""The aggregates of suites in words: the mean of accuracy above chance, or which members are missing. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from watcher.report.format import integer

NAMED_MAX = 5


class Score(Protocol):
    """A row of watcher.store.read.suites.suite_scores."""

    @property
    def run(self) -> str: ...
    @property
    def suite(self) -> str: ...
    @property
    def checkpoint(self) -> str: ...
    @property
    def step(self) -> int | None: ...
    @property
    def weights(self) -> str | None: ...
    @property
    def value(self) -> float | None: ...
    @property
    def stderr(self) -> float | None: ...
    @property
    def members(self) -> int: ...
    @property
    def missing(self) -> tuple[str, ...]: ...


S = TypeVar("S", bound=Score)


def newest_of_each(scores: Sequence[S]) -> list[S]:
    """The last complete aggregate of each run, suite and weights, and the last of all where a later one is incomplete.

    scores: by run, suite and step.
    """
    newest: dict[tuple[str, str, str], dict[bool, S]] = {}
    for score in scores:
        of_suite = newest.setdefault((score.run, score.suite, score.weights or ""), {})
        if score.value is not None:
            of_suite.clear()
        of_suite[score.value is not None] = score
    return [score for of_suite in newest.values() for score in of_suite.values()]


def suite_words(score: Score) -> str:
    """`core 0.1234 ±0.0056 at step 100 (mean accuracy above chance of 22 tasks)`; ± is the standard error."""
    where = f"at step {integer(score.step)}" if score.step is not None else f"of {score.checkpoint}"
    where += f" ({score.weights})" if score.weights else ""
    if score.value is not None:
        error = "" if score.stderr is None else f" ±{score.stderr:.4f}"
        return f"{score.suite} {score.value:.4f}{error} {where} (mean accuracy above chance of {score.members} tasks)"
    named = ", ".join(score.missing[:NAMED_MAX]) + (", ..." if len(score.missing) > NAMED_MAX else "")
    return f"{score.suite} {where}: {score.members} of {score.members + len(score.missing)} tasks; missing: {named}"
