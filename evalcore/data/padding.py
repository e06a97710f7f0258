"""Rows of ids that were padded to one length: a run of one id at their ends, which is no text.

Owns the judgement. Reads rows in blocks; changes nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evalcore.data.errors import DataError

_BLOCK_TOKENS = 1 << 22
_REFUSED_PART = 0.02  # of all tokens: a row of text ends in a run only by chance
_NOTED_RUN = 4
_FEWEST_ROWS = 2


def padding_notes(path: Path, ids: np.ndarray, starts: np.ndarray, *, allowed: bool) -> list[str]:
    """A note where rows end in runs of one id. allowed: somebody gave the number of tokens to score.

    Raises DataError where the runs are more than chance leaves.
    """
    last, runs = _runs(ids, starts)
    long = runs >= 2
    if not long.any():
        return []
    values, counts = np.unique(last[long], return_counts=True)
    most = values[counts.argmax()]
    padded = long & (last == most)
    rows, tokens = int(padded.sum()), int((runs[padded] - 1).sum())
    what = f"{rows} of {len(starts)} rows of {path} end in runs of the id {most}: {tokens} of {len(ids)} tokens"
    if rows >= _FEWEST_ROWS and tokens >= _REFUSED_PART * len(ids) and not allowed:
        raise DataError(
            f"{what} look like padding, which would be scored as text",
            f"save the rows joined and without it, as one dimension; --max-tokens {len(ids)} scores them as they are",
        )
    if rows >= _FEWEST_ROWS and int(runs[padded].max()) >= _NOTED_RUN:
        return [f"{what} may be padding"]
    return []


def _runs(ids: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(last id, length of the run of it at the end) of each row."""
    ends = np.append(starts[1:], len(ids))
    last, runs = np.empty(len(starts), dtype=np.int64), np.empty(len(starts), dtype=np.int64)
    row = 0
    while row < len(starts):
        until = max(row + 1, int(np.searchsorted(ends, starts[row] + _BLOCK_TOKENS, side="right")))
        begin = int(starts[row])
        block = np.asarray(ids[begin : int(ends[until - 1])])
        changes = np.append(True, block[1:] != block[:-1])
        changes[starts[row:until] - begin] = True
        at = np.flatnonzero(changes)
        stop = ends[row:until] - begin
        runs[row:until] = stop - at[np.searchsorted(at, stop, side="left") - 1]
        last[row:until] = block[stop - 1]
        row = until
    return last, runs
