"""The stream of `change` events, read as the server reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from watcher.web.live import Live


def listen(pulse: Callable[[], str], story: Callable[[Callable[[], Awaitable[str]]], Awaitable[None]]) -> None:
    """Run the story with a function that gives the stream's next text."""

    async def run() -> None:
        stream = Live(pulse, every_s=0.01).stream()
        await story(lambda: asyncio.wait_for(anext(stream), 10))
        await stream.aclose()

    asyncio.run(run())


def test_a_change_right_after_the_hello_is_told():
    shown = ["before"]

    async def story(following) -> None:
        assert "event: hello" in await following()
        shown[0] = "after"
        assert "event: change" in await following()

    listen(lambda: shown[0], story)


def test_a_pulse_that_fails_is_a_change_and_the_next_one_is_told_too():
    answers: list[str | None] = ["before"]

    def pulse() -> str:
        if (answer := answers[-1]) is None:
            raise RuntimeError("no answer")
        return answer

    async def story(following) -> None:
        assert "event: hello" in await following()
        for answer in (None, "after"):
            answers.append(answer)
            assert "event: change" in await following()

    listen(pulse, story)
