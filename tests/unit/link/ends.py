"""The two ends of a link for its tests: an agent without a proxy behind it, and a listener that remembers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

from switchboard.errors import SwitchboardError
from switchboard.link.client import LinkClient, Target, link_session
from switchboard.link.codec import encode
from switchboard.link.messages import PROTOCOL, Command, Hello, Report
from switchboard.link.server import LinkServer, Session

POOL, NAMESPACE, NAME = "edge", "voice", "edge-aaaaa"
AGENT_SAN, OPERATOR_SAN = "agent.edge.voice.switchboard", "operator.edge.voice.switchboard"


def hello(**changes: object) -> Hello:
    base = Hello(protocol=PROTOCOL, namespace=NAMESPACE, pool=POOL, proxy=NAME, boot="0a0b0c0d", fingerprint="f" * 64)
    return msgspec.structs.replace(base, **changes)


def report(seq: int = 1, **changes: object) -> Report:
    base = Report(
        seq=seq,
        boot="0a0b0c0d",
        tick=7,
        reason="period",
        room=399,
        calls=1,
        media_sessions=1,
        cpu_cores=0.25,
        bandwidth_bits_per_second=128000,
        workload=0.002,
    )
    return msgspec.structs.replace(base, **changes)


class Agent:
    """Stands where the agent does: says what it is told to say, and remembers what it was told to do."""

    def __init__(self) -> None:
        self.greeting = hello()
        self.commands: list[Command] = []
        self.gate = asyncio.Event()  # commands come into effect while it is set
        self.gate.set()
        self.refusal: Exception | None = None
        self.asked = 0
        self.sessions_ended: asyncio.Queue[Session] = asyncio.Queue()
        self.server = LinkServer(POOL, NAMESPACE, self)
        self.address = ""

    def hello(self) -> Hello:
        return self.greeting

    async def carry_out(self, command: Command) -> None:
        self.commands.append(command)
        await self.gate.wait()
        if self.refusal:
            raise self.refusal

    def report_to(self, session: Session) -> None:
        self.asked += 1
        session.send(encode(report(self.asked, reason="request")))

    def ended(self, session: Session) -> None:
        self.sessions_ended.put_nowait(session)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler, context: ssl.SSLContext, port: int = 0) -> AsyncIterator[str]:
    """Serve `/v1/link` on 127.0.0.1; gives `host:port`."""
    app = web.Application()
    app.router.add_get("/v1/link", handler)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=context)
    await site.start()
    try:
        host, bound = runner.addresses[0][:2]
        yield f"{host}:{bound}"
    finally:
        await runner.cleanup()


class Ear:
    """A listener that remembers; `until` waits for what a test expects to hear."""

    def __init__(self) -> None:
        self.hellos: list[Hello] = []
        self.reports: list[Report] = []
        self.errors: list[SwitchboardError] = []
        self._heard = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def connected(self, link: LinkClient, hello: Hello) -> None:  # as Listener has it
        self.hellos.append(hello)
        self._wake()

    def reported(self, link: LinkClient, report: Report) -> None:  # as Listener has it
        self.reports.append(report)
        self._wake()

    def lost(self, link: LinkClient, error: SwitchboardError) -> None:  # as Listener has it
        self.errors.append(error)
        self._wake()

    def _wake(self) -> None:
        async def notify() -> None:
            async with self._heard:
                self._heard.notify_all()

        task = asyncio.create_task(notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def until(self, condition: Callable[[], object], seconds: float = 10) -> None:
        async with asyncio.timeout(seconds), self._heard:
            await self._heard.wait_for(condition)


@asynccontextmanager
async def listening(address: str, context: Callable[[], ssl.SSLContext], ear: Ear) -> AsyncIterator[LinkClient]:
    """Run a link to `address` for the length of the block."""
    async with link_session() as session:
        link = LinkClient(session, context, Target(NAME, address, POOL, NAMESPACE), ear)
        task = asyncio.create_task(link.run())
        try:
            yield link
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
