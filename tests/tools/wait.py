"""Waiting for a condition, with a deadline instead of a guess."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.02


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]], what: str, within: float = 5) -> None:
    """Returns as soon as `condition` holds; fails, naming `what`, when it does not `within` so many seconds."""
    deadline = time.monotonic() + within
    while True:
        outcome = condition()
        if outcome if isinstance(outcome, bool) else await outcome:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within} s")
        await asyncio.sleep(POLL_SECONDS)
