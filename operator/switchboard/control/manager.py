"""Which pools are looked after: while we hold the Lease, each that exists has a controller with a task of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from switchboard.control.observed import Observed, PoolKey

logger = logging.getLogger(__name__)


class Controller(Protocol):
    """Looks after one pool; `run` returns when the pool is gone, and leaves nothing behind when cancelled."""

    last_success: float

    def wake(self) -> None: ...

    async def run(self) -> None: ...


C = TypeVar("C", bound=Controller)


class Manager(Generic[C]):
    """Starts and ends controllers; kopf's handlers wake them through it."""

    def __init__(
        self,
        make: Callable[[PoolKey, Observed, int], C],
        unhealthy_after_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.controllers: dict[PoolKey, C] = {}
        self.term: int | None = None  # while leading
        self._make = make
        self._unhealthy_after_seconds = unhealthy_after_seconds
        self._clock = clock
        self._observed: Observed | None = None
        self._woken: set[PoolKey] = set()  # kopf wakes a pool only once everything that exists has been seen
        self._tasks: dict[PoolKey, asyncio.Task[None]] = {}

    def start(self, observed: Observed) -> None:
        self._observed = observed

    def wake(self, key: PoolKey) -> None:
        if controller := self.controllers.get(key):
            controller.wake()
        elif self._observed is not None and self._observed.pool(key) is not None:
            self._woken.add(key)
            if self.term is not None:
                self._begin(key, self.term)

    def wake_all(self) -> None:
        for controller in self.controllers.values():
            controller.wake()

    async def lead(self, term: int) -> None:
        """Acts until cancelled; returns only after every link is closed and every task has ended."""
        self.term = term
        try:
            for key in sorted(self._woken):
                self._begin(key, term)
            await asyncio.Event().wait()
        finally:
            self.term = None
            await self._end_all()

    def unhealthy(self) -> list[str]:
        """Pools whose reconcile has not succeeded for too long, as `namespace/name`."""
        oldest = self._clock() - self._unhealthy_after_seconds
        return ["/".join(key) for key, controller in self.controllers.items() if controller.last_success < oldest]

    def _begin(self, key: PoolKey, term: int) -> None:
        if self._observed is None or self._observed.pool(key) is None:
            self._woken.discard(key)
            return
        controller = self._make(key, self._observed, term)
        self.controllers[key] = controller
        task = asyncio.create_task(controller.run(), name=f"pool {'/'.join(key)}")
        self._tasks[key] = task
        task.add_done_callback(lambda ended: self._ended(key, ended))

    def _ended(self, key: PoolKey, task: asyncio.Task[None]) -> None:
        self.controllers.pop(key, None)
        self._tasks.pop(key, None)
        if task.cancelled():
            return
        if error := task.exception():
            logger.error("Pool %s/%s: its controller ended, it starts again", *key, exc_info=error)
        # A pool that was deleted and made again while the controller ended has a new one coming to it.
        if self._observed is not None and self._observed.pool(key) is not None and self.term is not None:
            asyncio.get_running_loop().call_later(1.0, self.wake, key)
        else:
            self._woken.discard(key)

    async def _end_all(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError, Exception):
                await task
