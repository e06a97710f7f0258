"""Names and steps from the command line, looked up among those that exist; an error names the nearest valid one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from watcher.domain.checkpoint import printable
from watcher.errors import NothingFound, UsageError


def expect(what: str, given: str, known: Sequence[str]) -> None:
    """Raise NothingFound, with the nearest known name, unless `given` is one of them."""
    if given in known:
        return
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
