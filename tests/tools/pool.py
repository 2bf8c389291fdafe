"""A pool of real proxies as its agents would have set it up, back to the same state before each test."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from e2e.embedded.errors import DeadlineError
from switchboard.agent.notation import gateway_entries, mode_entries, route_entries
from switchboard.pool.spec import ClientMode, Gateway, Route
from tests.tools.addresses import CLIENTS, H323, PSTN, SERVICE, TARGETS, VOIP
from tests.tools.control import ControlError
from tests.tools.digest import REALM, ha1
from tests.tools.message import uri_in
from tests.tools.proxies import KEY, Proxy, Row
from tests.tools.transport import Packet
from tests.tools.wait import WITHIN_SECONDS, until

GATEWAYS = {"pstn-1": f"{PSTN}.0/24", "voip-1": f"{VOIP}.0/24", "h323-1": f"{H323}.0/24"}
TICK = 10
CLOSED = 7
ALIAS = "voice.example.test"
ALGORITHMS = ("SHA-256", "MD5")
TABLES_OF_COUNTS = ("ast", "rcv", "cnt", "new", "tok", "refused", "gwast", "gwrcv")
TABLES_OF_SETTINGS = (
    "cert",
    "trunk",
    "own",
    "peer",
    "alias",
    "gw",
    "route",
    "gwuse",
    "origin",
    "urgent",
    "ha1",
    "src",
    "learn",
    "mode",
)
MEMORIES = (
    "sus",
    "bad",
    "brk",
    "known",
    "held",
    "rate",
    "health",
    "fail",
    "flood",
    "asked",
    "sent",
)  # what a proxy remembers for a while


@dataclass(frozen=True)
class Pool:
    """The first proxy is the primary, the others are members in the table's order."""

    proxies: Sequence[Proxy]

    @property
    def primary(self) -> Proxy:
        return self.proxies[0]

    @property
    def members(self) -> Sequence[Proxy]:
        return self.proxies[1:]

    @property
    def uri(self) -> str:
        """What a client calls."""
        return f"sip:echo@{self.primary.ip}:5060"

    def by_ip(self, ip: str) -> Proxy:
        return next(proxy for proxy in self.proxies if proxy.ip == ip)

    def rows(self, *rooms: int) -> list[Row]:
        """A row for each of the first proxies, the primary first; one without a room has no row."""
        return [proxy.row(room, closed=CLOSED) for proxy, room in zip(self.proxies, rooms, strict=False)]

    def table(self, *rooms: int) -> None:
        """The same table everywhere: the full one at the primary, the short list at the members."""
        rows = self.rows(*rooms)
        for proxy in self.proxies:
            proxy.table(rows)

    def peer(self, ip: str, room: int) -> Row:
        """Makes whoever is at that address a proxy of the pool, in the eyes of the real ones; the row for its table."""
        name = f"edge-{ip.rsplit('.', maxsplit=1)[1]:0>5}"
        for proxy in self.proxies:
            proxy.control.set("peer", ip, name)
        return Row(f"{name}~00000001", f"sip:{ip}:5060", f"{ip}:5060", room, closed=CLOSED)

    def set(self, **settings: str | int) -> None:
        for proxy in self.proxies:
            proxy.set(**settings)

    def routes(self, *routes: Route, gateways: Sequence[Gateway] = ()) -> None:
        """Routes, and the gateways that they lead to, as the agent writes them."""
        for proxy in self.proxies:
            proxy.control("htable.flush", "route")
            for (table, key), value in (*gateway_entries(gateways), *route_entries(routes, gateways)):
                proxy.control.set(table, key, value)

    def modes(self, *rules: ClientMode) -> None:
        """Modes of clients, as the agent writes them."""
        for proxy in self.proxies:
            for (table, key), value in mode_entries(rules):
                proxy.control.set(table, key, value)
            proxy.set()

    def gateway(self, name: str, **fields: Any) -> Gateway:
        """Gives one of GATEWAYS these fields."""
        gateway = Gateway(name=name, kind=name.partition("-")[0], networks=(GATEWAYS[name],), **fields)  # type: ignore[arg-type]  # a kind
        for proxy in self.proxies:
            for (table, key), value in gateway_entries([gateway]):
                proxy.control.set(table, key, value)
        return gateway

    def asks(self, *users: str, password: str) -> None:
        """Clients authenticate; these users have that password."""
        for proxy in self.proxies:
            for algorithm in ALGORITHMS:
                for user in users:
                    proxy.control.set("ha1", f"{algorithm}:{user}", ha1(algorithm, user, password))
        self.set(realm=REALM, digests=",".join(ALGORITHMS))

    def count(self, name: str) -> int:
        """A counter of all proxies together."""
        return sum(proxy.count(name) for proxy in self.proxies)

    async def reset(self) -> None:
        for proxy in self.proxies:
            await _revive(proxy)
            await until(proxy.has_media, f"{proxy.name} uses its rtpengine")
        for proxy in self.proxies:
            self._reset(proxy)
        self.routes(to(f"sip:{TARGETS}.1:5060"))
        for name in GATEWAYS:
            self.gateway(name)
        self.table(*(100 for _ in self.proxies))
        self.set(ready=1)

    def _reset(self, proxy: Proxy) -> None:
        for table in (*TABLES_OF_COUNTS, *TABLES_OF_SETTINGS, *MEMORIES):
            proxy.control("htable.flush", table)
        for aor in proxy.control.dump("aor"):
            with contextlib.suppress(ControlError):  # gone by itself
                proxy.control("ul.rm", "location", aor)
        proxy.control("htable.flush", "aor")
        proxy.networks([f"{CLIENTS}.0/24"], GATEWAYS)
        for peer in self.proxies:
            if peer is not proxy:
                proxy.control.set("peer", peer.ip, peer.name)
        for host in (ALIAS, SERVICE):
            proxy.control.set("alias", host, 1)
        proxy.set(
            key=KEY,
            mode="forward",
            modes=0,
            policy="first",
            hops=5,
            status=503,
            retry=2,
            drain=0,
            media=1,
            tick=TICK,
            prev="",
            origins=0,
            realm="",
            delegated=0,
            certified=0,
            rate=0,
            agents="",
            registrar=0,
            learn=0,
            priorities="",
        )
        proxy.set(period=0, threshold=2)
        proxy.set(role="primary" if proxy is self.primary else "member", primary=self.primary.uri)
        proxy.admit(100)


async def _revive(proxy: Proxy) -> None:
    """A proxy that a test killed, or left with calls, starts anew."""
    if proxy.alive:
        try:
            await until(lambda: proxy.calls == 0, "no calls of the test before", within=1)
        except DeadlineError:
            pass
        else:
            return
    proxy.kill()
    proxy.start()


async def idle(*proxies: Proxy, within: float = WITHIN_SECONDS) -> None:
    """Every place is given back, by the calls' ends and not by the reconciliation that puts a wrong count right."""
    for proxy in proxies:
        await until(lambda proxy=proxy: proxy.calls == 0, f"{proxy.name} has no calls", within)
        assert proxy.count("reconciled") == 0, f"{proxy.name} had lost count"


def to(*targets: str, **fields: Any) -> Route:
    """A route to these targets."""
    return Route(name="route", targets=targets, **fields)


def contact(packet: Packet) -> str:
    """The URI of a 302's Contact."""
    return uri_in(packet.message.all("Contact")[0])


def token(packet: Packet) -> str:
    """The assignment token that a forwarded request carries."""
    return packet.message.header("X-VP-Token")
