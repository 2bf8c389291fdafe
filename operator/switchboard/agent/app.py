"""The agent beside each proxy: measures it, reports, and brings into effect what it is told.

    switchboard-agent                  the agent itself
    switchboard-agent drain [--wait]   the pod's preStop: no new calls from now on; wait for those there are to end

Its parts run side by side in one event loop: the sampler's loop (read Kamailio, adjust admission, report), rtpengine's,
the HTTPS server with the links, a look now and then at certificates and deadlines, and peer mode while no operator is
linked. Whatever happens to Kamailio, rtpengine or the operator, the agent goes on; it ends only by a signal, or by an
error that a restart may mend.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from switchboard.agent import drain
from switchboard.agent.apply import Applier
from switchboard.agent.certificates import ListenerCertificates
from switchboard.agent.database import Locations
from switchboard.agent.environment import AGENT_PORT, Environment
from switchboard.agent.http import application, helper_application
from switchboard.agent.kamailio import Kamailio
from switchboard.agent.metrics import Metrics
from switchboard.agent.mounted import Mounted
from switchboard.agent.peers import SILENT_PERIODS, PeerMode
from switchboard.agent.processes import Processes
from switchboard.agent.reporter import Reporter
from switchboard.agent.rtpengine import Rtpengine
from switchboard.agent.sampler import SAMPLE_SECONDS, Sampler
from switchboard.errors import ConfigurationError, KamailioError, MessageError, SwitchboardError
from switchboard.link.codec import encode
from switchboard.link.messages import PROTOCOL, Command, Hello, Table
from switchboard.link.server import LinkServer, Session
from switchboard.link.tls import Keyring
from switchboard.logs import about, log_to_stderr
from switchboard.pool.spec import Registrar

LOOK_SECONDS = 5.0  # at certificates on disk, and at what holds for a time only
WATCH_SECONDS = 0.1  # at whether an operator is linked

_log = logging.getLogger("switchboard.agent")


class Agent:
    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._keyring = Keyring(environment.tls)
        self._kamailio = Kamailio(environment.run / "kamailio.sock")
        self._awake = asyncio.Event()
        self._rtpengine = Rtpengine(environment.media_address, self._awake.set) if environment.media else None
        self._sampler = Sampler(self._kamailio, Processes(environment.proxy), self._rtpengine)
        self._locations = Locations(environment, self._kamailio)
        self._applier = Applier(environment, self._kamailio, self._sampler.admission, self._locations.settled)
        self._certificates = ListenerCertificates(environment.listen, environment.secrets, self._kamailio)
        self._links = LinkServer(environment.pool, environment.namespace, self)
        self._reporter = Reporter(
            self._kamailio, self._applier, self._sampler, lambda: self._keyring.fingerprint, self._links.publish
        )
        self._said = ""  # of Kamailio's absence, so that it is said once
        self._operator_left: float | None = None  # None: none has come yet, and nothing says how to run without one

    # link.server.Proxy

    def hello(self) -> Hello:
        return Hello(
            protocol=PROTOCOL,
            namespace=self._environment.namespace,
            pool=self._environment.pool,
            proxy=self._environment.proxy,
            boot=self._applier.boot,
            fingerprint=self._keyring.fingerprint,
        )

    async def carry_out(self, command: Command) -> None:
        if isinstance(command, Table) and command.pool != self._environment.pool:
            raise MessageError(f"the table is for pool {command.pool}, this is a proxy of {self._environment.pool}")
        await self._applier.carry_out(command)
        self._awake.set()  # what it changed is reported at once

    def report_to(self, session: Session) -> None:
        session.send(encode(self._reporter.whole()))

    def ended(self, session: Session) -> None:
        if session.who.role == "operator" and not self._links.has_operator:
            self._operator_left = asyncio.get_running_loop().time()

    # life

    async def run(self) -> None:
        """Until cancelled."""
        self._start_without_operator()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._serve())
                tasks.create_task(self._sample())
                tasks.create_task(self._look())
                tasks.create_task(self._watch_operator())
                tasks.create_task(self._locations.run(self._registrar))
                if self._rtpengine is not None:
                    tasks.create_task(self._rtpengine.poll())
        finally:
            self._kamailio.close()

    def _registrar(self) -> tuple[str, Registrar | None]:
        settings = self._applier.wanted.settings
        return self._applier.last_boot, settings.registrar if settings else None

    def _start_without_operator(self) -> None:
        wanted = Mounted.read(self._environment).wanted(self._environment.proxy)
        if wanted is not None:
            self._operator_left = asyncio.get_running_loop().time()
            self._applier.start_from(wanted)

    async def _sample(self) -> None:
        """Read, adjust admission, report; twenty times a second, and at once when something changed."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._sample_once()
            except KamailioError as error:
                self._kamailio_gone(error)
            self._awake.clear()
            timer = loop.call_later(SAMPLE_SECONDS, self._awake.set)
            await self._awake.wait()
            timer.cancel()

    async def _sample_once(self) -> None:
        applier = self._applier
        if not applier.boot:
            self._sampler.begin()
            await self._sampler.sample("", 0, applier.wanted.settings)  # admission is decided by a reading
            await applier.attach()
            self._said = ""
            _log.info("Kamailio run %s is %s", applier.boot, "open" if applier.open else "up, not configured yet")
        sample = await self._sampler.sample(applier.boot, applier.tick, applier.wanted.settings)
        if applier.wanted.settings is not None:
            admission = self._sampler.admission(applier.wanted.settings)
            if admission is not None:
                await applier.admit(admission)
        await applier.open_if_ready()
        self._reporter.database_up = self._locations.up
        await self._reporter.consider(sample)

    def _kamailio_gone(self, error: KamailioError) -> None:
        if str(error) != self._said:
            self._said = str(error)
            _log.warning("%s", error)
        self._applier.detach()
        self._reporter.gone()

    async def _look(self) -> None:
        """Now and then, at each of these; what is wrong is said once, and keeps none of the others."""
        said: dict[Callable[[], Awaitable[None]], str] = {}
        while True:
            for look in (
                self._look_at_keyring,
                self._applier.expire,
                self._look_at_listeners,
                self._applier.look_at_passwords,
            ):
                try:
                    await look()
                    said[look] = ""
                except SwitchboardError as error:
                    if str(error) != said.get(look):
                        said[look] = str(error)
                        _log.warning("%s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look_at_keyring(self) -> None:
        if self._keyring.reload():
            _log.info("certificate %s is in use from now on", self._keyring.fingerprint)
        self._keyring.credentials.require_valid(datetime.now(UTC))

    async def _look_at_listeners(self) -> None:
        await self._certificates.look(self._applier.boot)

    async def _watch_operator(self) -> None:
        """Peer mode begins when it has to, and ends when it may."""
        mode: asyncio.Task[None] | None = None
        try:
            while True:
                if mode is None and self._must_do_without_operator():
                    mode = asyncio.create_task(self._peer_mode().run())
                elif mode is not None and (self._links.has_operator or mode.done()):
                    await _end(mode)
                    mode = None
                    _log.warning("peer mode ended: an operator is linked")
                await asyncio.sleep(WATCH_SECONDS)
        finally:
            if mode is not None:
                await _end(mode)

    def _peer_mode(self) -> PeerMode:
        load = Mounted.read(self._environment).load
        return PeerMode(self._environment, self._applier, self._keyring.client_context, self._reporter.whole, load)

    def _must_do_without_operator(self) -> bool:
        settings = self._applier.wanted.settings
        if self._links.has_operator or self._operator_left is None or settings is None:
            return False
        silent = asyncio.get_running_loop().time() - self._operator_left
        return self._applier.role == "primary" and silent >= SILENT_PERIODS * settings.sharing.period_seconds

    async def _serve(self) -> None:
        environment, reporter = self._environment, self._reporter
        labels = {"namespace": environment.namespace, "pool": environment.pool, "proxy": environment.proxy}
        metrics = Metrics(labels, reporter.whole, reporter.refused, reporter.targets)
        draining = drain.Drain(self._kamailio, self._applier, self._sampler, lambda: self._links.has_operator)
        servers = [
            web.AppRunner(application(self._links, self._applier, reporter.asked, metrics), access_log=None),
            web.AppRunner(helper_application(draining), access_log=None),
        ]
        for server in servers:
            await server.setup()
        address, path = self._environment.address, self._environment.run / "agent.sock"
        path.unlink(missing_ok=True)
        try:
            await web.TCPSite(servers[0], address, AGENT_PORT, ssl_context=self._keyring.server_context()).start()
            await web.UnixSite(servers[1], str(path)).start()
            _log.info("listening on %s:%s", address, AGENT_PORT)
            await asyncio.get_running_loop().create_future()  # until cancelled
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {address}:{AGENT_PORT}: {error.strerror}") from error
        finally:
            await self._links.close()
            for server in servers:
                await server.cleanup()
            path.unlink(missing_ok=True)


async def _run_until_signal(environment: Environment) -> None:
    about(namespace=environment.namespace, pool=environment.pool, proxy=environment.proxy)
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(Agent(environment).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        _log.info("stopped")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="switchboard-agent", description="The agent beside each proxy of a pool.")
    commands = parser.add_subparsers(dest="command")
    draining = commands.add_parser("drain", help="take no new calls from now on (preStop)")
    draining.add_argument("--wait", action="store_true", help="return once the calls there are have ended")
    given = parser.parse_args(arguments)
    if given.command == "drain":
        return drain.drain(Path(os.environ.get("RUN_DIR", "/run/switchboard")) / "agent.sock", wait=given.wait)
    log_to_stderr("INFO")
    status = 0
    try:
        asyncio.run(_run_until_signal(Environment.read()))
    except* ConfigurationError as problems:
        for problem in problems.exceptions:
            print(f"switchboard-agent: {problem}", file=sys.stderr)  # noqa: T201  # one line for the pod's log
        status = 1
    return status


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end; an error of its own is raised here."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
