"""Waiting for something to become true, with a deadline and words for when it does not."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from e2e.embedded.errors import DeadlineError

T = TypeVar("T")


def wait_for(predicate: Callable[[], T], seconds: float, what: str, *, every_seconds: float = 0.1) -> T:
    """Asks `predicate` until its answer is true, and returns it; DeadlineError names `what` and the last answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise DeadlineError(_late(what, seconds, answer))
        time.sleep(every_seconds)


async def wait_for_async(
    predicate: Callable[[], Awaitable[T]], seconds: float, what: str, *, every_seconds: float = 0.1
) -> T:
    """As `wait_for`, for a predicate that awaits."""
    deadline = time.monotonic() + seconds
    while True:
        answer = await predicate()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise DeadlineError(_late(what, seconds, answer))
        await asyncio.sleep(every_seconds)


def _late(what: str, seconds: float, answer: object) -> str:
    seen = "" if answer in (None, False) else f" (last seen: {answer!r})"
    return f"waited {seconds:g} s for {what}, in vain{seen}"
