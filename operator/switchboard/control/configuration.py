"""What every proxy of a pool is configured with: the pool's settings and its peers, as one command, encoded once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from switchboard.link.client import next_id
from switchboard.link.codec import encode
from switchboard.link.messages import Configure, Peer, Settings
from switchboard.pool.table import Proxy

PEERS_PAUSE_SECONDS = 0.005  # for each proxy: all peers go to all proxies, 30 MB in a pool of 1000


class Configuration:
    """`command` is to be in effect everywhere; None until settings are known."""

    def __init__(self, term: int, clock: Callable[[], float], wake: Callable[[], None]) -> None:
        self.command: Configure | None = None
        self.frame = b""
        self._term, self._clock, self._wake = term, clock, wake
        self._peers_after = 0.0

    def update(self, settings: Settings, proxies: Iterable[Proxy]) -> None:
        """Changed settings count at once; changed peers alone wait for their turn, and for an update then."""
        peers = tuple(
            Peer(name=proxy.name, address=proxy.address) for proxy in proxies if proxy.address and not proxy.failed
        )
        before, now = self.command, self._clock()
        if before is not None and before.settings == settings:
            if before.peers == peers:
                return
            if now < self._peers_after:
                asyncio.get_running_loop().call_later(self._peers_after - now, self._wake)
                return
        self._peers_after = now + PEERS_PAUSE_SECONDS * len(peers)
        self.command = Configure(id=next_id(), term=self._term, settings=settings, peers=peers)
        self.frame = encode(self.command)
