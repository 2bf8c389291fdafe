"""rtpengine as the agent sees it: asked for its statistics ten times a second, over its ng protocol.

A crashed one refuses the next datagram, and a hung one lets it time out: either takes this proxy out of the table, not
down. Calls that Kamailio holds go on; a media session that a restarted Kamailio has forgotten still takes a place.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable

import msgspec

from switchboard.agent.rates import Rate
from switchboard.link.codec import MALFORMED

POLL_SECONDS = 0.1
HUNG_SECONDS = 1.0  # without an answer; a busy one answers in 0.3 ms
_REQUEST = b'{"command":"statistics"}'


class _Current(msgspec.Struct):
    sessionsown: int


class _Totals(msgspec.Struct):
    relayedbytes: int


class _Statistics(msgspec.Struct):
    currentstatistics: _Current
    totalstatistics: _Totals


class _Answer(msgspec.Struct):
    statistics: _Statistics


_decode = msgspec.json.Decoder(_Answer).decode


class Rtpengine:
    """What rtpengine said last. `changed` is called when it stops or begins to answer."""

    def __init__(self, address: tuple[str, int], changed: Callable[[], None]) -> None:
        self._address = address
        self._changed = changed
        self._cookies = itertools.count(1)
        self._rate = Rate()
        self.answers = False
        self.sessions = 0

    @property
    def bandwidth_bits_per_second(self) -> float:
        """What it relayed over the last second."""
        return 8 * self._rate.per_second

    async def poll(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            with socket.socket(_family(self._address[0]), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as link:
                try:
                    link.connect(self._address)
                    while True:
                        await self._ask(link)
                        await asyncio.sleep(POLL_SECONDS)
                except (TimeoutError, *MALFORMED):
                    self._says(answers=False)
                except OSError:  # nobody listens: it is gone, and its sessions with it
                    self.sessions = 0
                    self._says(answers=False)
            await asyncio.sleep(POLL_SECONDS)

    async def _ask(self, link: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        cookie = b"%d " % next(self._cookies)  # an answer is cached by its cookie, so each request needs its own
        await loop.sock_sendall(link, cookie + _REQUEST)
        async with asyncio.timeout(HUNG_SECONDS):
            answer = await loop.sock_recv(link, 65536)
            while not answer.startswith(cookie):
                answer = await loop.sock_recv(link, 65536)
        statistics = _decode(answer[len(cookie) :]).statistics
        self.sessions = statistics.currentstatistics.sessionsown
        self._rate.add(loop.time(), statistics.totalstatistics.relayedbytes)
        self._says(answers=True)

    def _says(self, *, answers: bool) -> None:
        if answers != self.answers:
            self.answers = answers
            self._changed()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
