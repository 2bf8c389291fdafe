"""A pool, a PBX behind it and phones in front of it: what every claim needs to be shown."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Self

from e2e.demo.watch import Watch
from switchboard.link.messages import Report
from tests.cluster.world import Pool
from tests.tools.sessions import Call
from tests.tools.sip import Phone
from tests.tools.wait import until

PLACES = 3  # per proxy: 60 % of 5 calls
SPEC = {"threshold": "60%", "capacity": {"calls": 5}}
LATE = "sip:late@example.test"  # somebody else than the phone: who does not follow is forwarded later


class Exchange:
    """Calls are held until `hang_up`, or the end of the test."""

    def __init__(self, pool: Pool, address: Callable[[], str], stack: AsyncExitStack) -> None:
        self.pool = pool
        self.address = address
        self.service = ""
        self.calls: list[Call] = []
        self.pbx: Phone
        self.phone: Phone
        self._stack = stack
        self._watch = Watch(pool.name, pool.namespace)

    @classmethod
    async def build(cls, pool: Pool, address: Callable[[], str], stack: AsyncExitStack) -> Self:
        exchange = cls(pool, address, stack)
        exchange.pbx = await stack.enter_async_context(Phone.at(address(), 5060, user="pbx"))
        exchange.phone = await stack.enter_async_context(Phone.at(address()))
        return exchange

    async def open(self, replicas: int = 3, **spec: Any) -> None:
        """Apply the pool and wait until it is ready and its primary's table has every proxy."""
        target = f"sip:{self.pbx.endpoint.address[0]}:5060"
        routes = [{"name": "pbx", "prefix": "", "targets": [target]}]
        self.pool.apply(**{**SPEC, "replicas": replicas, "routes": routes, **spec})
        await self.pool.ready(replicas)
        self.service = f"sip:bob@{await self.pool.address()}:5060"
        self._read = await self._stack.enter_async_context(self._watch.reading())

        async def in_effect() -> bool:
            """The primary may give every place of every proxy, and each proxy knows where to pass calls on."""
            await self._read()
            proxies = [proxy for proxy in self._watch.proxies.values() if proxy.alive]
            tables = [proxy.rows for proxy in proxies if proxy.report.role == "primary"]
            rooms = [row.room for rows in tables for row in rows]
            return (
                len(proxies) == replicas
                and all(proxy.report.table > (0, 0) and proxy.report.tick > 0 for proxy in proxies)
                and len(rooms) == replicas
                and min(rooms) >= PLACES
            )

        await until(in_effect, f"{replicas} proxies in the primary's table")

    async def reports(self) -> dict[str, Report]:
        """What each proxy says now, by pod."""
        await self._read()
        return {proxy.name: proxy.report for proxy in self._watch.proxies.values() if proxy.alive}

    async def call(self, uri: str = "", **options: Any) -> Call:
        """Place one call through the Service and hold it."""
        call = await self.phone.call(uri or self.service, **options)
        if call.status == 200:
            self.calls.append(call)
        return call

    async def hang_up(self) -> None:
        for call in self.calls:
            assert await call.bye() == 200
        self.calls.clear()

    async def pod_at(self, address: str) -> str:
        """The proxy with that address."""
        pods = await self.pool.pods()
        return next(name for name, pod in pods.items() if pod["status"]["podIP"] == address)

    async def addresses(self) -> dict[str, str]:
        """Address by pod."""
        return {name: pod["status"]["podIP"] for name, pod in (await self.pool.pods()).items()}

    def served_by(self) -> list[str]:
        """Addresses of the proxies that brought the calls to the PBX, in the order of their arrival."""
        return [incoming.served_by for incoming in self.pbx.incoming]

    async def redirected(self) -> Call:
        """A call that was redirected, and whose client has not followed yet: the primary may take some calls itself."""
        for _ in range(PLACES + 1):
            call = await self.call(follow=0, from_uri=LATE)
            if call.status == 302:
                return call
        raise AssertionError("the primary took every call itself")

    async def fill(self, places: int) -> None:
        """Place calls until `places` are held; every one of them must be connected."""
        while len(self.calls) < places:
            call = await self.call()
            assert call.status == 200, f"call {len(self.calls) + 1} of {places}: {call.path}"

    async def reported(self, calls: int) -> dict[str, Report]:
        """Wait until the proxies together report that many calls; returns what each says."""

        async def counted() -> dict[str, Report] | None:
            reports = await self.reports()
            return reports if sum(report.calls for report in reports.values()) == calls else None

        found: dict[str, Report] = await until(counted, f"{calls} calls reported")
        return found
