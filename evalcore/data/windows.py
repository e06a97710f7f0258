"""How a stream is cut into windows: every target scored exactly once, in a fixed order. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from evalcore.data.errors import DataError


@dataclass(frozen=True, slots=True)
class Window:
    """Inputs are tokens[start:stop], targets one to the right; the first `skip` targets were scored before."""

    index: int
    start: int
    stop: int
    skip: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def targets(self) -> int:
        return self.stop - self.start - self.skip


def plan_windows(n_tokens: int, seq_len: int, stride: int | None = None) -> list[Window]:
    """Windows over n_tokens tokens (n_tokens - 1 targets): window k starts at k * stride, the last may be short."""
    stride = seq_len if stride is None else stride
    if seq_len < 1:
        raise DataError(f"seq_len is {seq_len}; it must be at least 1", "give --seq-len 1024, for example")
    if not 1 <= stride <= seq_len:
        raise DataError(
            f"stride {stride} is not between 1 and seq_len {seq_len}",
            "give a --stride between the two, or leave it out",
        )
    n_targets = n_tokens - 1
    if n_targets < 1:
        raise DataError(f"the stream has {n_tokens} tokens; at least 2 are needed", "name a longer file")
    windows = []
    scored = 0
    for index in range(1 + max(0, -(-(n_targets - seq_len) // stride))):
        start = index * stride
        stop = min(start + seq_len, n_targets)
        windows.append(Window(index, start, stop, scored - start))
        scored = stop
    return windows
