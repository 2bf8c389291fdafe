"""What the proxies themselves say, several times a second: the source of the live table and of the final figures.

A proxy counts from its own start and takes its counts with it when it is killed, so they are kept here by incarnation
(pod and Kamailio boot) as they were last seen.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from dataclasses import dataclass, field

import aiohttp
import msgspec

from e2e.product import kubectl
from switchboard.link.messages import Report
from switchboard.link.tls import Credentials, Identity

PERIOD_SECONDS = 0.2
LOST_SECONDS = 1.5  # a proxy that has not answered for so long is shown as gone


@dataclass
class Proxy:
    """One incarnation of a proxy, as last seen."""

    name: str
    report: Report
    seen_at: float

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
    below_when_refused: list[str] = field(default_factory=list)  # proxies with room while a call was refused

    async def run(self) -> None:
        secret = json.loads(kubectl("get", "secret", f"{self.pool}-operator-tls", "-o", "json"))["data"]
        pem = {key: base64.b64decode(value) for key, value in secret.items()}
        context = Credentials(
            certificate=pem["tls.crt"],
            key=pem["tls.key"],
            authorities=pem["ca.crt"],
            source=f"{self.pool}-operator-tls",
        ).client_context()
        name = Identity("agent", self.pool, self.namespace).san
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:
            while True:
                await asyncio.gather(
                    *(self._read(session, pod, address, context, name) for pod, address in await self._pods())
                )
                await asyncio.sleep(PERIOD_SECONDS)

    async def _pods(self) -> list[tuple[str, str]]:
        template = "{range .items[*]}{.metadata.name} {.status.podIP}{'\\n'}{end}".replace("'", '"')
        listed = await asyncio.to_thread(
            kubectl, "get", "pods", "-l", f"switchboard.dev/pool={self.pool}", "-o", f"jsonpath={template}"
        )
        return [(pod, address) for pod, _, address in (line.partition(" ") for line in listed.splitlines()) if address]

    async def _read(self, session: aiohttp.ClientSession, pod: str, address: str, context: object, name: str) -> None:
        url = f"https://{address}:7443/v1/workload"
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
            async with session.get(url, ssl=context, server_hostname=name) as answer:  # type: ignore[arg-type]  # an SSLContext
                report = msgspec.json.decode(await answer.read(), type=Report)
            self._take(pod, report)

    def _take(self, pod: str, report: Report) -> None:
        self.proxies[f"{pod}~{report.boot}"] = Proxy(pod, report, time.monotonic())
        self.max_workload = max(self.max_workload, report.workload)

    @property
    def primary(self) -> str | None:
        """The pod that says it is primary, while it answers."""
        return next((p.name for p in self.proxies.values() if p.alive and p.report.role == "primary"), None)

    def total(self, counter: str) -> int:
        """A counter of the reports, added up over all incarnations."""
        return sum(getattr(proxy.report, counter) for proxy in self.proxies.values())
