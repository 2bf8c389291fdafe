"""A moment that may move nearer while somebody waits for it: a grace period that is cut short."""

import asyncio
import time
from typing import Any


class Deadline:
    """Seconds from now; waits end at it, and earlier when it is brought forward."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds
        self._moved = asyncio.Event()

    def remaining(self) -> float:
        """Seconds, never below 0."""
        return max(0.0, self._at - time.monotonic())

    def bring_forward(self, seconds: float) -> None:
        """To `seconds` from now, unless it is earlier already."""
        at = time.monotonic() + seconds
        if at < self._at:
            self._at = at
            self._moved.set()
            self._moved = asyncio.Event()

    async def wait(self, task: "asyncio.Future[Any]") -> bool:
        """Whether `task` was done in time; it is not cancelled when it was not."""
        while not task.done() and self.remaining() > 0:
            moved = asyncio.ensure_future(self._moved.wait())
            await asyncio.wait({task, moved}, timeout=self.remaining(), return_when=asyncio.FIRST_COMPLETED)
            moved.cancel()
        return task.done()


async def cancelled(task: "asyncio.Task[None]") -> None:
    """Cancels a task and waits for its end; raises what it ended with otherwise.

    Asked again and again: something the task awaits may swallow a cancellation that comes at a bad moment.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
    if not task.cancelled():
        task.result()
