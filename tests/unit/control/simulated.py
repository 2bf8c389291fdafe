"""A proxy's agent without a proxy: real messages over real mutual TLS on an address of its own, on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import msgspec
from aiohttp import web
from cryptography import x509

from switchboard.control.observed import PodView
from switchboard.link.codec import encode
from switchboard.link.messages import PROTOCOL, Command, Configure, Drain, Hello, Report, Role, Table, Tick
from switchboard.link.server import LinkServer, Session
from switchboard.link.tls import Credentials
from switchboard.pool.spec import Capacity, Listener, PoolSpec, ProxyTemplate
from switchboard.resources import certificates
from switchboard.resources.certificates import Authorities, Term
from switchboard.resources.names import AGENT_PORT, PoolRef

POOL = PoolRef(name="edge", namespace="voice", uid="u-1")
SPEC = PoolSpec(
    replicas=3,
    threshold=0.8,
    capacity=Capacity(calls=100),
    client_networks=("198.51.100.0/24",),
    proxy=ProxyTemplate(image="proxy:test"),
    listen=(Listener(transport="UDP", port=5060),),
)
TEMPLATE = "t-1"
PLACES = 80
PERIOD_SECONDS = 0.4


def issue() -> tuple[Credentials, Credentials]:
    """The agents' credentials and the operator's, of one new authority."""
    term = Term(
        serial=x509.random_serial_number(), since=datetime.now(UTC) - timedelta(hours=1), lifetime=timedelta(days=9)
    )
    authority = certificates.issue_authority(certificates.generate_key(), term)
    bundle = Authorities(signing=authority).bundle()
    agent = certificates.issue_agent(POOL, authority, certificates.generate_key(), term)
    operator = certificates.issue_operator(POOL, authority, certificates.generate_key(), term)
    return (
        Credentials(agent.certificate, agent.key, bundle, "test"),
        Credentials(operator.certificate, operator.key, bundle, "test"),
    )


def pod(number: int, **changes: object) -> PodView:
    """The pod of simulated agent `number`, ready."""
    base = PodView(
        namespace=POOL.namespace,
        name=f"edge-{number:05d}",
        uid=f"p-{number}",
        owner=POOL.uid,
        version=number,
        address=f"127.82.0.{number}",
        addresses=(f"127.82.0.{number}",),
        advertise=f"127.82.0.{number}",
        node="local",
        phase="Running",
        ready=True,
        running=True,
        deleting_since=None,
        grace_seconds=0.0,
        template=TEMPLATE,
        created=datetime(2026, 1, 1, 0, 0, number, tzinfo=UTC),
        draining_since=None,
    )
    return msgspec.structs.replace(base, **changes)


class SimulatedAgent:
    """Carries out every command at once, remembers it, and reports what it is told to be so."""

    def __init__(self, number: int, credentials: Credentials) -> None:
        self.pod = pod(number)
        self.commands: list[Command] = []
        self.refusal: Exception | None = None
        self._credentials = credentials
        self._report = Report(
            seq=0,
            boot="b0000001",
            tick=0,
            reason="period",
            room=PLACES,
            calls=0,
            media_sessions=0,
            cpu_cores=0.0,
            bandwidth_bits_per_second=0,
            workload=0.0,
        )
        self._server = LinkServer(POOL.name, POOL.namespace, self)
        self._runner: web.AppRunner | None = None
        self._done = asyncio.Condition()
        self._periodic: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        return f"{self.pod.name}~{self._report.boot}"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/link", self._server.handle)
        self._runner = web.AppRunner(app, shutdown_timeout=1, access_log=None)
        await self._runner.setup()
        context = self._credentials.server_context()
        await web.TCPSite(self._runner, self.pod.address, AGENT_PORT, ssl_context=context).start()
        self._periodic = asyncio.create_task(self._report_periodically())

    async def _report_periodically(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            self.report(reason="period")

    def fall_silent(self) -> None:
        """As a machine does that loses its power: nothing ends, nothing comes."""
        if self._periodic is not None:
            self._periodic.cancel()

    async def stop(self) -> None:
        """As a killed process does: the connection ends."""
        self.fall_silent()
        await self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def report(self, **changes: object) -> None:
        """Changes what is so, and reports it."""
        self._report = msgspec.structs.replace(self._report, seq=self._report.seq + 1, **changes)
        self._server.publish(self._report)

    def of(self, kind: type[Command]) -> list[Command]:
        return [command for command in self.commands if isinstance(command, kind)]

    def kinds(self) -> list[str]:
        """The commands' kinds in their order, repetitions left out."""
        names = [type(command).__name__ for command in self.commands]
        return [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]

    async def until(self, condition: Callable[[], object], seconds: float = 10) -> None:
        async with asyncio.timeout(seconds), self._done:
            await self._done.wait_for(condition)

    # switchboard.link.server.Proxy

    def hello(self) -> Hello:
        return Hello(
            protocol=PROTOCOL,
            namespace=POOL.namespace,
            pool=POOL.name,
            proxy=self.pod.name,
            boot=self._report.boot,
            fingerprint=self._credentials.fingerprint,
        )

    async def carry_out(self, command: Command) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.commands.append(command)
        match command:
            case Tick():
                self._report = msgspec.structs.replace(self._report, tick=command.tick)
            case Role():
                self._report = msgspec.structs.replace(self._report, role=command.role)
            case Drain():
                self._report = msgspec.structs.replace(self._report, draining=command.draining)
            case Table():
                self._report = msgspec.structs.replace(self._report, table=command.version)
            case Configure():
                pass
        async with self._done:
            self._done.notify_all()

    def report_to(self, session: Session) -> None:
        self._report = msgspec.structs.replace(self._report, seq=self._report.seq + 1)
        session.send(encode(self._report))

    def ended(self, session: Session) -> None:
        pass


@asynccontextmanager
async def simulated(count: int, credentials: Credentials) -> AsyncIterator[list[SimulatedAgent]]:
    agents = [SimulatedAgent(number, credentials) for number in range(1, count + 1)]
    for agent in agents:
        await agent.start()
    try:
        yield agents
    finally:
        for agent in agents:
            await agent.stop()
