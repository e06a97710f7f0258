"""Rows of ids that were padded to one length: a run of one id at their ends or beginnings, which is no text.

Owns the judgement. Reads rows in blocks; changes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from evalcore.data.errors import DataError

_BLOCK_TOKENS = 1 << 22
_REFUSED_PART = 0.02  # of all tokens: a row of text begins or ends with a run only by chance
_NOTED_RUN = 4
_FEWEST_ROWS = 2


class _Runs(NamedTuple):
    """The id at one side of each row, and how often it stands there in a row. Both of shape (rows,)."""

    ids: np.ndarray
    lengths: np.ndarray


def padding_notes(path: Path, ids: np.ndarray, starts: np.ndarray, *, allowed: bool) -> list[str]:
    """A note where rows begin or end with runs of one id. allowed: the user gave the number of tokens to score.

    Raises DataError where the runs are more than chance leaves.
    """
    first, last = _runs(ids, starts[np.append(starts[1:], len(ids)) > starts])
    notes = [_judged(path, len(ids), runs, side, allowed) for side, runs in (("begin", first), ("end", last))]
    return [note for note in notes if note is not None]


def _judged(path: Path, total: int, runs: _Runs, side: str, allowed: bool) -> str | None:
    long = runs.lengths >= 2
    if not long.any():
        return None
    values, counts = np.unique(runs.ids[long], return_counts=True)
    most = values[counts.argmax()]
    padded = long & (runs.ids == most)
    rows, tokens = int(padded.sum()), int((runs.lengths[padded] - 1).sum())
    what = f"{rows} of {len(long)} rows of {path} {side} with runs of the id {most}: {tokens} of {total} tokens"
    if rows >= _FEWEST_ROWS and tokens >= _REFUSED_PART * total and not allowed:
        raise DataError(
            f"{what} look like padding, which would be scored as text",
            f"save the rows joined and without it, as one dimension; --max-tokens {total} scores them as they are",
        )
    if rows >= _FEWEST_ROWS and int(runs.lengths[padded].max()) >= _NOTED_RUN:
        return f"{what} may be padding"
    return None


def _runs(ids: np.ndarray, starts: np.ndarray) -> tuple[_Runs, _Runs]:
    """The runs at the beginnings and at the ends of the rows."""
    ends = np.append(starts[1:], len(ids))
    first, last = (_Runs(*np.empty((2, len(starts)), dtype=np.int64)) for _ in range(2))
    row = 0
    while row < len(starts):
        until = max(row + 1, int(np.searchsorted(ends, starts[row] + _BLOCK_TOKENS, side="right")))
        begin = int(starts[row])
        block = np.asarray(ids[begin : int(ends[until - 1])])
        changes = np.append(True, block[1:] != block[:-1])
        start, stop = starts[row:until] - begin, ends[row:until] - begin
        changes[start] = True
        at = np.append(np.flatnonzero(changes), len(block))
        first.ids[row:until], last.ids[row:until] = block[start], block[stop - 1]
        first.lengths[row:until] = at[np.searchsorted(at, start, side="right")] - start
        last.lengths[row:until] = stop - at[np.searchsorted(at, stop, side="left") - 1]
        row = until
    return first, last
