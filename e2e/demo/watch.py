"""What the proxies themselves say, several times a second: the source of the live table and of the final figures.

A proxy counts from its own start and takes its counts with it when it is killed, so they are kept here by incarnation
(pod and Kamailio boot) as they were last seen.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import msgspec

from e2e.product import kubectl
from switchboard.agent.http import TableInEffect
from switchboard.link.messages import Report
from switchboard.link.tls import Credentials, Identity
from switchboard.pool.table import Row

PERIOD_SECONDS = 0.2
LOST_SECONDS = 1.5  # a proxy that has not answered for so long is shown as gone


@dataclass
class Proxy:
    """One incarnation of a proxy, as last seen."""

    name: str
    report: Report
    seen_at: float
    rows: tuple[Row, ...] = ()  # the table in effect there

    @property
    def alive(self) -> bool:
        return time.monotonic() - self.seen_at < LOST_SECONDS


@dataclass
class Watch:
    """Reads every proxy of a pool until it is cancelled."""

    pool: str
    namespace: str = "default"
    proxies: dict[str, Proxy] = field(default_factory=dict)  # by <pod>~<boot>
    max_workload: float = 0.0

    async def run(self) -> None:
        """Until it is cancelled."""
        async with self.reading() as read:
            while True:
                await read()
                await asyncio.sleep(PERIOD_SECONDS)

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Gives the function that reads every proxy once."""
        secret = json.loads(self._kubectl("get", "secret", f"{self.pool}-operator-tls", "-o", "json"))["data"]
        pem = {key: base64.b64decode(value) for key, value in secret.items()}
        source = f"Secret {self.namespace}/{self.pool}-operator-tls"
        context = Credentials(
            certificate=pem["tls.crt"], key=pem["tls.key"], authorities=pem["ca.crt"], source=source
        ).client_context()
        name = Identity("agent", self.pool, self.namespace).san
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:

            async def read() -> None:
                pods = await asyncio.to_thread(self._pods)
                await asyncio.gather(*(self._read(session, pod, address, context, name) for pod, address in pods))

            yield read

    def _pods(self) -> list[tuple[str, str]]:
        """Name and address of each pod that has one."""
        template = '{range .items[*]}{.metadata.name} {.status.podIP}{"\\n"}{end}'
        listed = self._kubectl("get", "pods", "-l", f"switchboard.dev/pool={self.pool}", "-o", f"jsonpath={template}")
        return [(pod, address) for pod, _, address in (line.partition(" ") for line in listed.splitlines()) if address]

    def _kubectl(self, *arguments: str) -> str:
        return kubectl("--namespace", self.namespace, *arguments)

    async def _read(
        self, session: aiohttp.ClientSession, pod: str, address: str, context: ssl.SSLContext, name: str
    ) -> None:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
            url = f"https://{address}:7443/v1/workload"
            async with session.get(url, ssl=context, server_hostname=name) as answer:
                report = msgspec.json.decode(await answer.read(), type=Report)
            url = f"https://{address}:7443/v1/table"
            async with session.get(url, ssl=context, server_hostname=name) as answer:
                rows = msgspec.json.decode(await answer.read(), type=TableInEffect).rows
            self._take(pod, report, rows)

    def _take(self, pod: str, report: Report, rows: tuple[Row, ...]) -> None:
        self.proxies[f"{pod}~{report.boot}"] = Proxy(pod, report, time.monotonic(), rows)
        self.max_workload = max(self.max_workload, report.workload)

    @property
    def primary(self) -> str | None:
        """The pod that says it is primary, while it answers."""
        return next((p.name for p in self.proxies.values() if p.alive and p.report.role == "primary"), None)

    def total(self, counter: str) -> int:
        """A counter of the reports, added up over all incarnations."""
        return sum(getattr(proxy.report, counter) for proxy in self.proxies.values())
