"""Waiting for a condition, with a deadline instead of a guess."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from e2e.embedded.waiting import wait_for_async

POLL_SECONDS = 0.05
WITHIN_SECONDS = 30.0  # ends a test that has failed; a busy machine may need seconds, so it is no claim about speed


async def until(
    condition: Callable[[], bool] | Callable[[], Awaitable[Any]], what: str, within: float = WITHIN_SECONDS
) -> Any:
    """What the condition gave, awaited if need be, as soon as that is true; fails, naming `what`, otherwise."""

    async def answer() -> Any:
        outcome: Any = condition()
        return await outcome if inspect.isawaitable(outcome) else outcome

    return await wait_for_async(answer, within, what, every_seconds=POLL_SECONDS)
