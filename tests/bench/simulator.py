"""Agents simulated at the link: real messages over real mutual TLS, and no proxy behind them.

    python -m tests.bench.simulator DIRECTORY < fleet.json        DIRECTORY: tls.crt, tls.key, ca.crt

Every agent reports at the pool's period. From SIGUSR1 to SIGUSR2, loads change besides, at random moments, as calls
come and go; a change is noticed at the agent's next look at its counters (every 50 ms, as the real agent's) and
reported at once. At SIGUSR2 the changes are printed, in one line: which agent, to which room, when it happened.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import sys
import time
from pathlib import Path

import msgspec
from aiohttp import web

from switchboard.errors import ConfigurationError
from switchboard.link.codec import encode
from switchboard.link.messages import PROTOCOL, Command, Drain, Hello, Reason, Report, Role, RoleName, Table, Tick
from switchboard.link.server import LinkServer, Session
from switchboard.link.tls import Credentials

AGENT_PORT = 7443
APART_SECONDS = 2.0
LOOK_SECONDS = 0.05  # between two readings of the counters (switchboard.agent.sampler)


class Fleet(msgspec.Struct, frozen=True):
    """`agents`: pod name → address. `changes_per_second` over all of them."""

    pool: str
    namespace: str
    agents: dict[str, str]
    places: int
    period_seconds: float
    changes_per_second: float


class Change(msgspec.Struct, frozen=True, array_like=True):
    """`at`: seconds of the machine's monotonic clock."""

    proxy: str
    room: int
    at: float


class Agent:
    """One proxy as far as its operator can tell."""

    def __init__(self, fleet: Fleet, name: str, fingerprint: str) -> None:
        self._fleet, self._name, self._fingerprint = fleet, name, fingerprint
        self._boot = secrets.token_hex(4)
        self._calls = 0
        self._seq = 0
        self._tick = 0
        self._role: RoleName = "member"
        self._draining = False
        self._table = (0, 0)
        self.link = LinkServer(fleet.pool, fleet.namespace, self)

    # switchboard.link.server.Proxy

    def hello(self) -> Hello:
        fleet = self._fleet
        return Hello(
            protocol=PROTOCOL,
            namespace=fleet.namespace,
            pool=fleet.pool,
            proxy=self._name,
            boot=self._boot,
            fingerprint=self._fingerprint,
        )

    async def carry_out(self, command: Command) -> None:
        if isinstance(command, Tick):
            self._tick = command.tick
        elif isinstance(command, Role):
            self._role = command.role
        elif isinstance(command, Drain):
            self._draining = command.draining
        elif isinstance(command, Table):
            self._table = command.version

    def report_to(self, session: Session) -> None:
        session.send(encode(self._report("request")))

    def ended(self, session: Session) -> None:
        pass

    # what happens to it

    def change(self) -> int:
        """A call comes or goes; the room that is left."""
        full, empty = self._calls >= self._fleet.places - 1, self._calls == 0
        self._calls += -1 if full or (not empty and random.random() < 0.4) else 1  # noqa: S311 - load, no secret
        return self._fleet.places - self._calls

    def publish(self) -> None:
        self.link.publish(self._report("period"))

    def publish_change(self) -> None:
        self.link.publish(self._report("change"))

    def _report(self, reason: Reason) -> Report:
        self._seq += 1
        return Report(
            seq=self._seq,
            boot=self._boot,
            tick=self._tick,
            reason=reason,
            room=self._fleet.places - self._calls,
            calls=self._calls,
            media_sessions=0,
            cpu_cores=0.1,
            bandwidth_bits_per_second=0,
            workload=self._calls / self._fleet.places,
            table=self._table,
            role=self._role,
            draining=self._draining,
            fingerprint=self._fingerprint,
        )


class Simulation:
    def __init__(self, fleet: Fleet, credentials: Credentials) -> None:
        self._fleet = fleet
        self._agents = {address: Agent(fleet, name, credentials.fingerprint) for name, address in fleet.agents.items()}
        self._names = {address: name for name, address in fleet.agents.items()}
        self._tls = credentials.server_context()
        self._changing = asyncio.Event()
        self._changes: list[Change] = []

    async def run(self) -> None:
        """Until it is killed."""
        app = web.Application()
        app.router.add_get("/v1/link", self._link)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        for address in self._agents:
            await web.TCPSite(runner, address, AGENT_PORT, ssl_context=self._tls).start()
        async with asyncio.TaskGroup() as tasks:
            for agent in self._agents.values():
                tasks.create_task(self._report(agent))
            tasks.create_task(self._change())

    async def _link(self, request: web.Request) -> web.WebSocketResponse:
        """Which agent is meant is told by the address that was dialled."""
        transport = request.transport
        if transport is None:
            raise web.HTTPBadRequest
        return await self._agents[transport.get_extra_info("sockname")[0]].link.handle(request)

    async def _report(self, agent: Agent) -> None:
        period = self._fleet.period_seconds
        await asyncio.sleep(random.random() * period)  # noqa: S311 - they did not all start at once
        while True:
            agent.publish()
            await asyncio.sleep(period)

    def start_changing(self) -> None:
        self._changing.set()

    def stop_changing(self) -> None:
        self._changing.clear()
        sys.stdout.buffer.write(msgspec.json.encode(self._changes) + b"\n")
        sys.stdout.buffer.flush()
        self._changes.clear()

    async def _change(self) -> None:
        """Never twice at one proxy within a moment: the second would hide the first, and neither could be timed."""
        if not self._fleet.changes_per_second:
            return
        loop, addresses = asyncio.get_running_loop(), list(self._agents)
        changed_at: dict[str, float] = {}
        while True:
            await asyncio.sleep(random.expovariate(self._fleet.changes_per_second))
            await self._changing.wait()
            address = random.choice(addresses)  # noqa: S311 - load, no secret
            agent, now = self._agents[address], time.monotonic()
            if not agent.link.has_operator or now < changed_at.get(address, 0.0) + APART_SECONDS:
                continue
            changed_at[address] = now
            self._changes.append(Change(self._names[address], agent.change(), now))
            loop.call_later(random.random() * LOOK_SECONDS, agent.publish_change)  # noqa: S311 - load, no secret


async def simulate(fleet: Fleet, credentials: Credentials) -> None:
    simulation = Simulation(fleet, credentials)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, simulation.start_changing)
    loop.add_signal_handler(signal.SIGUSR2, simulation.stop_changing)
    await simulation.run()


def main() -> int:
    fleet = msgspec.json.decode(sys.stdin.buffer.read(), type=Fleet)
    try:
        credentials = Credentials.read(Path(sys.argv[1]))
    except ConfigurationError as error:
        sys.stderr.write(f"simulator: {error}\n")
        return 1
    asyncio.run(simulate(fleet, credentials))
    return 0


if __name__ == "__main__":
    sys.exit(main())
