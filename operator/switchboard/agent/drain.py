"""Leaving without losing a call: what preStop waits for.

`switchboard-agent drain --wait` runs in the Kamailio container and speaks to the agent through its UNIX socket. From
then on the proxy takes no new calls, whatever an operator says: its pod is being deleted. It is drained once it has no
calls, no media sessions and no transactions, and is not the primary any more, as long as there is an operator to make
another one. Transactions: as the primary it may have forwarded calls that still ring; and one that is over is kept for
two seconds more (`wt_timer`), in which a client that has lost the answer to its BYE asks again and must be answered.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from switchboard.agent.apply import Applier
from switchboard.agent.kamailio import Kamailio
from switchboard.agent.sampler import Sampler
from switchboard.errors import KamailioError

POLL_SECONDS: Final = 0.25
LOOK_SECONDS: Final = 20.0  # one request of the helper waits this long for the answer
REACH_SECONDS: Final = 10.0  # the agent may be restarting


class Drain:
    """The agent's half."""

    def __init__(
        self, kamailio: Kamailio, applier: Applier, sampler: Sampler, has_operator: Callable[[], bool]
    ) -> None:
        self._kamailio = kamailio
        self._applier = applier
        self._sampler = sampler
        self._has_operator = has_operator

    async def begin(self) -> None:
        await self._applier.drain_for_good()

    async def finished(self, seconds: float = LOOK_SECONDS) -> bool:
        """Wait until the proxy is drained, or so long."""
        try:
            async with asyncio.timeout(seconds):
                while not await self._is_drained():  # noqa: ASYNC110  # Kamailio tells nobody that a call ended
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            return False
        return True

    async def _is_drained(self) -> bool:
        applier, usage = self._applier, self._sampler.usage
        if not applier.draining or usage is None or usage.in_use > 0:
            return False
        if applier.role == "primary" and self._has_operator():
            return False
        try:
            transactions = await self._kamailio.call("tm.stats")
        except KamailioError:  # it is starting, or busy: look again
            return False
        return bool(transactions["current"] == 0)


class _AgentConnection(http.client.HTTPConnection):
    """HTTP over the agent's UNIX socket; the helper must start fast, so it has no client library."""

    def __init__(self, path: Path) -> None:
        super().__init__("agent", timeout=2 * LOOK_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def drain(path: Path, *, wait: bool) -> int:
    """The helper's half: the process's exit status."""
    reached = time.monotonic()
    begun = False
    while True:
        try:
            if not begun:
                begun = _ask(path, "POST", "/drain") == http.HTTPStatus.OK
            if begun and (not wait or _ask(path, "GET", "/drained") == http.HTTPStatus.OK):
                return 0
            reached = time.monotonic()
            if not begun:
                time.sleep(POLL_SECONDS)
        except (OSError, http.client.HTTPException) as error:
            begun = False  # an agent that restarted has forgotten it
            if time.monotonic() > reached + REACH_SECONDS:
                print(f"{path}: the agent does not answer ({error}); not waiting for calls to end", file=sys.stderr)  # noqa: T201  # kubelet shows it in the pod's Events
                return 1
            time.sleep(POLL_SECONDS)


def _ask(path: Path, method: str, what: str) -> int:
    connection = _AgentConnection(path)
    try:
        connection.request(method, what)
        return connection.getresponse().status
    finally:
        connection.close()
