"""Waiting for a condition, with a deadline instead of a guess."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

from e2e.embedded.waiting import late

POLL_SECONDS = 0.05
WITHIN_SECONDS = 30.0  # ends a test that has failed; a busy machine may need seconds, so it is no claim about speed


async def until(
    condition: Callable[[], bool] | Callable[[], Awaitable[Any]], what: str, within: float = WITHIN_SECONDS
) -> Any:
    """What the condition gave, awaited if need be, as soon as that is true; DeadlineError, naming `what`, otherwise."""
    deadline = time.monotonic() + within
    while True:
        answer: Any = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise late(what, within, answer)
        await asyncio.sleep(POLL_SECONDS)
