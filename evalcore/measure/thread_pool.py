"""Windows in parallel on a CPU: each thread computes whole windows on one core.

A matrix product that is split over the cores waits for its slowest part at every layer; whole windows never wait for
each other: the same bits, for a little less work on a quiet machine and far less beside a busy trainer (`bench lanes`).
Owns the threads. Never decides which windows there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


class BatchThreadPool:
    """`count` threads; a context manager, at whose end they are gone."""

    def __init__(self, count: int, mode: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        """mode: entered by the thread around each piece of work; autocast belongs to a thread."""
        self.count = count
        self._mode = mode
        # torch keeps the number of threads of an operation per thread: the caller's own number stays
        self._pool = ThreadPoolExecutor(count, "batch", initializer=torch.set_num_threads, initargs=(1,))

    def __enter__(self) -> BatchThreadPool:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def run(self, work: Callable[..., torch.Tensor], tensors: Sequence[torch.Tensor], *more: Any) -> torch.Tensor:
        """work(*tensors, *more) over tensors (B, ...) cut along B into `count` parts, joined again along B.

        Raises what a part raised, after every part has ended.
        """
        parts = zip(*(tensor.tensor_split(self.count) for tensor in tensors), strict=True)
        running: list[Future[torch.Tensor]] = [self._pool.submit(self._inferring, work, *part, *more) for part in parts]
        wait(running)
        return torch.cat([future.result() for future in running])

    def map(self, work: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
        """work(part) of each part, in order. Raises what a part raised, after every part has ended."""
        running: list[Future[Any]] = [self._pool.submit(self._inferring, work, part) for part in parts]
        wait(running)
        return [future.result() for future in running]

    def _inferring(self, work: Callable[..., Any], *arguments: Any) -> Any:
        with torch.inference_mode(), self._mode():  # modes of the thread
            return work(*arguments)
