"""Server-sent events: one poller for all listeners says when the database or the daemon's health has changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

STREAMS_MAX = 64
KEEPALIVE_S = 15.0
T = TypeVar("T")

#: All queries and rendering. Few threads: each has a memory arena of its own, and the daemon must stay small.
_THREADS = ThreadPoolExecutor(2, thread_name_prefix="dashboard")


#: Curves and best points take seconds over a million results: one at a time, so that a page never waits behind them.
_LONG = ThreadPoolExecutor(1, thread_name_prefix="dashboard-curves")


async def in_long_thread(call: Callable[..., T], *arguments: Any) -> T:
    """As `in_thread`, for what takes long."""
    return await asyncio.get_running_loop().run_in_executor(_LONG, call, *arguments)


def warm_up(call: Callable[..., T], *arguments: Any) -> None:
    """Run what the first request would wait for, beside the start."""
    _THREADS.submit(call, *arguments)


async def in_thread(call: Callable[..., T], *arguments: Any) -> T:
    """Run a blocking call outside the event loop."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, call, *arguments)


class Live:
    """pulse: a cheap text that changes when a page could show something new. Asked only while somebody listens."""

    def __init__(self, pulse: Callable[[], str], every_s: float = 1.0) -> None:
        self._pulse = pulse
        self._every_s = every_s
        self._listeners: set[asyncio.Event] = set()
        self._poller: asyncio.Task | None = None
        self._begun = asyncio.Event()  # the first pulse is known: what changes from now on is told
        self._last = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closing = False

    @property
    def full(self) -> bool:
        return len(self._listeners) >= STREAMS_MAX

    def close(self) -> None:
        """End every stream, so that the server can stop. From any thread, or a signal's handler."""
        self.closing = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    async def stream(self) -> AsyncIterator[str]:
        """`change` events as text of the protocol; a comment now and then keeps proxies from closing the line."""
        changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._listeners.add(changed)
        if self._poller is None or self._poller.done():
            self._begun.clear()
            self._poller = asyncio.create_task(self._poll())
        try:
            await self._begun.wait()
            yield "retry: 2000\nevent: hello\ndata: {}\n\n"
            while not self.closing:
                try:
                    await asyncio.wait_for(changed.wait(), KEEPALIVE_S)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                changed.clear()
                if not self.closing:
                    yield "event: change\ndata: {}\n\n"
        finally:
            self._listeners.discard(changed)

    async def _poll(self) -> None:
        self._last = await self._now()
        self._begun.set()
        while self._listeners and not self.closing:
            await asyncio.sleep(self._every_s)
            now = await self._now()
            if now != self._last:
                self._last = now
                self._wake()

    async def _now(self) -> str:
        """A pulse that fails is a change, too: the page is asked for again, and says why."""
        try:
            return await in_thread(self._pulse)
        except Exception as error:
            return repr(error)

    def _wake(self) -> None:
        for changed in self._listeners:
            changed.set()
