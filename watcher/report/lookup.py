"""Names and steps from the command line, looked up among those that exist; an error names the nearest valid one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from watcher.domain.checkpoint import printable
from watcher.errors import NothingFound, UsageError


@dataclass(frozen=True)
class Targets:
    """What jobs a command line means: these numbers, and all jobs of any of the runs on any of the sets."""

    jobs: tuple[int, ...]
    runs: tuple[str, ...]
    sets: tuple[str, ...]


def parse_targets(
    texts: Sequence[str], runs: Sequence[str], sets: Sequence[str], known_runs: Sequence[str], known_sets: Sequence[str]
) -> Targets:
    """texts: numbers, and names of runs or sets. A number is always a job. Raises NothingFound, UsageError."""
    for run in runs:
        expect("run", run, known_runs)
    for name in sets:
        expect("eval set", name, known_sets)
    names = [text for text in texts if not text.isdecimal()]
    if both := [name for name in names if name in known_runs and name in known_sets]:
        shown = printable(both[0])
        raise UsageError(f"{shown!r} is a run and an eval set", hint=f"--run {shown} or --eval-set {shown}")
    for name in names:
        expect("job number, run or eval set", name, sorted({*known_runs, *known_sets}))
    return Targets(
        tuple(int(text) for text in texts if text.isdecimal()),
        (*runs, *(name for name in names if name in known_runs)),
        (*sets, *(name for name in names if name in known_sets)),
    )


def expect(what: str, given: str, known: Sequence[str]) -> None:
    """Raise NothingFound, with the nearest known name, unless `given` is one of them."""
    if given in known:
        return
    import difflib  # 5 ms

    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    if near:
        hint = f"did you mean {printable(near[0])!r}?"
    elif known:
        hint = f"known: {', '.join(map(printable, known[:10]))}" + (" ..." if len(known) > 10 else "")
    else:
        hint = "nothing has been evaluated yet; see `ckptwatch status`"
    raise NothingFound(f"there is no {what} {given!r}", hint=hint)


def expect_step(given: int, known: Sequence[int]) -> None:
    """Raise NothingFound, with the nearest steps on both sides, unless there is a result at this step."""
    if given in known:
        return
    below = [step for step in known if step < given][-1:]
    above = [step for step in known if step > given][:1]
    near = " and ".join(str(step) for step in below + above)
    hint = f"the nearest {'are' if below and above else 'is'} {near}" if near else "ckptwatch results"
    raise NothingFound(f"there is no result at step {given}", hint=hint)


def nearest_number(given: int, known: Sequence[int]) -> int | None:
    return min(known, key=lambda number: abs(number - given), default=None)


def parse_steps(text: str) -> tuple[int | None, int | None]:
    """`A:B`, `A:`, `:B` or `A` as first and last step, both included. Raises UsageError."""
    first, colon, last = text.partition(":")
    try:
        low = int(first) if first.strip() else None
        high = (int(last) if last.strip() else None) if colon else low
    except ValueError:
        raise UsageError(
            f"--step {text}: not a step or a range", hint="--step 1000, --step 1000:2000, --step 1000:"
        ) from None
    if low is None and high is None:
        raise UsageError(f"--step {text!r} names no step", hint="--step 1000:2000")
    if low is not None and high is not None and low > high:
        raise UsageError(f"--step {text}: the first step is above the last", hint=f"--step {high}:{low}")
    return low, high
