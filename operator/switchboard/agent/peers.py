"""Peer mode: the primary without an operator computes its own table and ticks, with the operator's pure functions.

It begins when the operator's link has been gone for two periods: a lost operator, or none since the start of a proxy
whose mounted files say how to run. The primary's agent dials its peers, reads their reports, and sends them ticks (a
proxy takes ticks from a peer only while no operator is linked to it). It ends when an operator is back. The term stays;
the table's number goes on.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping

import msgspec

from switchboard.agent.apply import Applier
from switchboard.agent.environment import AGENT_PORT, Environment, bracketed
from switchboard.agent.mounted import FIRST_TICK
from switchboard.errors import KamailioError, LinkError, SwitchboardError
from switchboard.link.client import LinkClient, Target, link_session, next_id
from switchboard.link.codec import encode
from switchboard.link.messages import Hello, Peer, Report, Tick
from switchboard.pool.credits import Ticker
from switchboard.pool.gateways import in_use, limited
from switchboard.pool.load import LoadDocument
from switchboard.pool.table import Proxy, Reading, compute, newer
from switchboard.pool.workload import places

SILENT_PERIODS = 2
TABLE_SECONDS = 0.05  # tables are computed at most this often, however many reports there are

_log = logging.getLogger(__name__)


class PeerMode:
    """One spell of it, from `run` to its cancellation."""

    def __init__(
        self,
        environment: Environment,
        applier: Applier,
        context: Callable[[], ssl.SSLContext],
        own: Callable[[], Report],
        load: LoadDocument | None,
    ) -> None:
        self._environment = environment
        self._applier = applier
        self._context = context
        self._own = own
        self._origins = _origins(applier, load)
        self._readings: dict[str, Reading] = {}
        self._lost_at: dict[str, float] = {}
        self._links: dict[str, LinkClient] = {}
        self._ticker = Ticker(tick=max(FIRST_TICK, applier.wanted.tick))
        self._term = 0

    async def run(self) -> None:
        """Until cancelled."""
        _log.warning("no operator is linked: this primary computes table and ticks itself, from its peers' reports")
        async with link_session() as session, asyncio.TaskGroup() as tasks:
            for peer in self._applier.wanted.peers:
                if peer.name != self._environment.proxy:
                    where = f"{bracketed(peer.address)}:{AGENT_PORT}"
                    target = Target(peer.name, where, self._environment.pool, self._environment.namespace)
                    link = self._links[peer.name] = LinkClient(session, self._context, target, self)
                    tasks.create_task(link.run())
            while True:
                await self._once()
                await asyncio.sleep(TABLE_SECONDS)

    # link.client.Listener

    def connected(self, link: LinkClient, hello: Hello) -> None:  # noqa: ARG002  # its boot comes with the report
        self._lost_at.pop(link.target.proxy, None)
        self._readings.pop(link.target.proxy, None)  # a new session counts its reports anew

    def reported(self, link: LinkClient, report: Report) -> None:
        reading = report.reading(asyncio.get_running_loop().time())
        if newer(self._readings.get(link.target.proxy), reading):
            self._readings[link.target.proxy] = reading
        self._ticker = self._ticker.seen(report.tick)
        self._term = max(self._term, report.table[0])  # this agent may have restarted and not know it any more

    def lost(self, link: LinkClient, error: SwitchboardError) -> None:
        if link.target.proxy not in self._lost_at:
            _log.warning("%s", error)
            self._lost_at[link.target.proxy] = asyncio.get_running_loop().time()

    async def _once(self) -> None:
        """Compute; bring what changed into effect; tick when it is time."""
        try:
            await self._table()
            await self._tick()
        except KamailioError as error:
            _log.warning("peer mode waits for Kamailio: %s", error)

    async def _table(self) -> None:
        applier, settings = self._applier, self._applier.wanted.settings
        if settings is None or not applier.boot:
            return
        assigner = f"{self._environment.proxy}~{applier.boot}"
        proxies = self._proxies(settings.sharing.stale_after_seconds)
        rows = compute(proxies, assigner, places=places(settings.capacity, settings.threshold))
        gateways = in_use(proxies, assigner, limited(settings.gateways))
        if rows != applier.rows or gateways != applier.wanted.gateways:
            term, number = applier.wanted.version
            await applier.table((term, number + 1), rows, gateways)

    async def _tick(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._ticker.acknowledged_at is None:
            await self._applier.advance(self._ticker.tick)
            self._ticker = self._ticker.acknowledged(self._ticker.tick, now)
        elif self._ticker.due(now):
            self._ticker = self._ticker.advance()
            await self._applier.advance(self._ticker.tick)
            self._ticker = self._ticker.acknowledged(self._ticker.tick, asyncio.get_running_loop().time())
            await self._send_tick()

    async def _send_tick(self) -> None:
        term = max(self._term, self._applier.wanted.term)
        frame = encode(Tick(id=next_id(), term=term, tick=self._ticker.tick))
        for link in self._links.values():
            try:
                await link.post(frame)
            except LinkError:  # it will see the next one
                continue

    def _proxies(self, stale_after_seconds: float) -> list[Proxy]:
        """What is known of each proxy of the pool, this one included."""
        now = asyncio.get_running_loop().time()
        readings = {**self._readings, self._environment.proxy: self._own().reading(now)}
        me = Peer(name=self._environment.proxy, address=self._environment.address)
        peers = {peer.name: peer for peer in (*self._applier.wanted.peers, me)}
        return [
            self._origins.proxy(
                peer,
                self._environment,
                reading=readings.get(name),
                ready=now - self._lost_at.get(name, now) <= stale_after_seconds,
            )
            for name, peer in peers.items()
        ]


class _Known(msgspec.Struct, frozen=True):
    """Where a proxy is reached, and its place in the table's order."""

    order: float
    port: int
    advertise: str


class Origins(msgspec.Struct, frozen=True):
    """What the last table and the load document say of proxies; others are taken to be like this one, and come last."""

    known: Mapping[str, _Known]

    def proxy(self, peer: Peer, environment: Environment, *, reading: Reading | None, ready: bool) -> Proxy:
        like_this_one = _Known(
            float(len(self.known)), environment.sip_port, f"{bracketed(peer.address)}:{environment.sip_port}"
        )
        known = self.known.get(peer.name, like_this_one)
        return Proxy(
            name=peer.name,
            address=peer.address,
            port=known.port,
            advertise=environment.advertise if peer.name == environment.proxy else known.advertise,
            created=known.order,
            ready=ready,
            link="up" if ready else "lost",
            reading=reading,
        )


def _origins(applier: Applier, load: LoadDocument | None) -> Origins:
    known: dict[str, _Known] = {}
    for one in load.proxies if load else ():
        known[one.name] = _Known(float(len(known)), one.port, one.advertise)
    for row in applier.wanted.rows:
        name = row.id.partition("~")[0]
        if name not in known:
            known[name] = _Known(float(len(known)), int(row.uri.rpartition(":")[2]), row.advertise)
    return Origins(known)
