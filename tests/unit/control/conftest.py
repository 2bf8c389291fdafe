import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress

import aiohttp
import pytest

from switchboard.control.dispatch import Dispatcher
from switchboard.control.fleet import Fleet
from switchboard.control.observed import PodView
from switchboard.control.recorder import Note
from switchboard.link.client import link_session
from switchboard.link.tls import Credentials
from switchboard.resources.settings import settings
from tests.unit.control.simulated import POOL, SPEC, TEMPLATE, SimulatedAgent, issue, simulated


@pytest.fixture(scope="session")
def credentials() -> tuple[Credentials, Credentials]:
    return issue()


@pytest.fixture
async def agents(credentials: tuple[Credentials, Credentials]) -> AsyncIterator[list[SimulatedAgent]]:
    """Three agents that listen."""
    async with simulated(3, credentials[0]) as running:
        yield running


class Operator:
    """A fleet with its dispatcher, and what it told: the part of the operator that speaks to agents."""

    def __init__(self, session: aiohttp.ClientSession, own: Credentials) -> None:
        self.notes: list[Note] = []
        self.fleet = Fleet(POOL, 5, session, wake=self.wake, note=self.notes.append)
        self._own = own
        self._woken = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, pods: Iterable[PodView]) -> None:
        self.fleet.follow(pods, SPEC, TEMPLATE)
        self.fleet.equip(settings(POOL, SPEC), self._own)

    def wake(self) -> None:
        async def notify() -> None:
            async with self._woken:
                self._woken.notify_all()

        task = asyncio.create_task(notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def until(self, condition: Callable[[], object], seconds: float = 10) -> None:
        """Waits for what wakes reconcile."""
        async with asyncio.timeout(seconds), self._woken:
            await self._woken.wait_for(condition)

    def reasons(self) -> list[str]:
        return [note.reason for note in self.notes]


@pytest.fixture
async def operator(credentials: tuple[Credentials, Credentials]) -> AsyncIterator[Operator]:
    """An operator of term 5 that follows no pod yet."""
    async with link_session() as session:
        running = Operator(session, credentials[1])
        task = asyncio.create_task(Dispatcher(running.fleet).run())
        yield running
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        running.fleet.close()
