"""A proxy pod without Kubernetes: Kamailio and rtpengine as in the image, the agent as a process of its own, and the
operator's end of its link.

    async with pods("127.9.9") as (one,), one.linked() as operator:
        await operator.configure(settings(calls=10))
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from e2e.embedded.node.volumes import publish
from switchboard.errors import SwitchboardError
from switchboard.link.client import LinkClient, Target, link_session, next_id
from switchboard.link.messages import Configure, Drain, Hello, Peer, Report, Role, Settings, Table, Tick
from switchboard.link.tls import Credentials
from switchboard.pool.gateways import InUse
from switchboard.pool.spec import Assignment, Capacity, Media, Route, Sharing
from switchboard.pool.table import Row
from switchboard.resources.certificates import (
    KeyPair,
    Term,
    generate_key,
    issue_agent,
    issue_authority,
    issue_operator,
)
from switchboard.resources.names import PoolRef
from tests.tools.addresses import TARGETS
from tests.tools.certificates import Secret
from tests.tools.proxies import PROJECT, Program, Proxy, descendants, rootfs
from tests.tools.wait import WITHIN_SECONDS, until

POOL = PoolRef(name="edge", namespace="voice", uid="")
KEY = "5a" * 32
AGENT_PORT = 7443


def settings(calls: int = 10, *, target: str = f"sip:{TARGETS}.1:5060", **changes: Any) -> Settings:
    """A pool whose proxies have `calls` places below the threshold."""
    values: dict[str, Any] = {
        "threshold": 0.8,
        "capacity": Capacity(calls=calls * 5 // 4),
        "sharing": Sharing(),
        "assignment": Assignment(),
        "media": Media(),
        "client_networks": ("127.0.0.0/8",),
        "routes": (Route(name="pbx", prefix="", targets=(target,)),),
        "aliases": ("edge.voice.svc",),
    }
    return Settings(**{**values, **changes})


class Pki:
    """The pool's certificates, as the operator makes them."""

    def __init__(self) -> None:
        self._authority = issue_authority(generate_key(), self._term(1))
        self._serial = 1

    def agent(self, pool: PoolRef = POOL, lifetime: timedelta = timedelta(days=1)) -> Credentials:
        return self._credentials(issue_agent(pool, self._authority, generate_key(), self._next(lifetime)))

    def operator(self, pool: PoolRef = POOL) -> Credentials:
        return self._credentials(issue_operator(pool, self._authority, generate_key(), self._next()))

    def _next(self, lifetime: timedelta = timedelta(days=1)) -> Term:
        self._serial += 1
        return self._term(self._serial, lifetime)

    def _term(self, serial: int, lifetime: timedelta = timedelta(days=1)) -> Term:
        return Term(serial=serial, since=datetime.now(UTC) - timedelta(hours=1), lifetime=lifetime)

    def _credentials(self, pair: KeyPair) -> Credentials:
        return Credentials(pair.certificate, pair.key, self._authority.certificate, "test")


class Operator:
    """The operator's end of one link: commands with what they need, and all that was heard."""

    def __init__(self, pod: Pod) -> None:
        self.link: LinkClient
        self.term = 1
        self.reports: list[Report] = []
        self.hellos: list[Hello] = []
        self.errors: list[SwitchboardError] = []
        self._pod = pod
        self._heard = asyncio.Event()
        self._number = 0

    def connected(self, link: LinkClient, hello: Hello) -> None:  # as Listener has it
        self.hellos.append(hello)
        self._heard.set()

    def reported(self, link: LinkClient, report: Report) -> None:  # as Listener has it
        self.reports.append(report)
        self._heard.set()

    def lost(self, link: LinkClient, error: SwitchboardError) -> None:  # as Listener has it
        self.errors.append(error)
        self._heard.set()

    async def hears(self, condition: Callable[[Report], object], within: float = WITHIN_SECONDS) -> Report:
        """Wait for a report that says so, from now on or the last one."""
        async with asyncio.timeout(within):
            seen = max(0, len(self.reports) - 1)
            while True:
                for report in self.reports[seen:]:
                    if condition(report):
                        return report
                seen = len(self.reports)
                self._heard.clear()
                await self._heard.wait()

    async def until(self, condition: Callable[[], object], within: float = WITHIN_SECONDS) -> None:
        async with asyncio.timeout(within):
            while not condition():
                self._heard.clear()
                await self._heard.wait()

    # commands; each returns once it is in effect, or fails the test

    async def configure(self, wanted: Settings, peers: tuple[Peer, ...] = ()) -> None:
        await self._send(Configure(id=next_id(), term=self.term, settings=wanted, peers=peers))

    async def table(self, *rows: Row, gateways: dict[str, InUse] | None = None) -> tuple[int, int]:
        self._number += 1
        version = (self.term, self._number)
        await self._send(Table(id=next_id(), pool=POOL.name, version=version, rows=rows, gateways=gateways or {}))
        return version

    async def tick(self, tick: int) -> None:
        await self._send(Tick(id=next_id(), term=self.term, tick=tick))

    async def role(self, role: str, **more: str) -> None:
        await self._send(Role(id=next_id(), term=self.term, role=role, **more))  # type: ignore[arg-type]  # a test's text

    async def drain(self, *, draining: bool = True) -> None:
        await self._send(Drain(id=next_id(), term=self.term, draining=draining))

    async def _send(self, command: Any) -> None:
        ack = await self.link.send(command)
        assert ack.error is None, ack.error


class Pod:
    """Kamailio, rtpengine and agent at one address."""

    def __init__(
        self, number: int, address: str, pki: Pki, run: Path, *, listen: str, secrets: Mapping[str, Secret]
    ) -> None:
        self.name = f"edge-{number:05d}"
        self.address = address
        self.pki = pki
        self.run = run
        self.etc = run / "etc"
        self.listen = listen
        self.proxy = Proxy(self.name, address, run, rootfs(), media=True, media_timeout_seconds=60, LISTEN=listen)
        self.proxy.secrets(secrets)
        self.agent: subprocess.Popen[bytes] | None = None
        self.log = run / "agent.log"
        for name in ("tls", "token", "load", "settings"):
            (self.etc / name).mkdir(parents=True)
        (self.etc / "token" / "key").write_text(KEY)
        self.give(pki.agent())

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "POOL": POOL.name,
            "POD_NAME": self.name,
            "POD_NAMESPACE": POOL.namespace,
            "POD_IP": self.address,
            "LISTEN": self.listen,
            "ADVERTISE": self.address,
            "MEDIA_PORTS": "20000-29999",
            "RUN_DIR": str(self.run),
            "NG_ADDRESS": f"{self.address}:2223",
            "ETC_DIR": str(self.etc),
        }

    @property
    def link(self) -> str:
        return f"{self.address}:{AGENT_PORT}"

    @property
    def peer(self) -> Peer:
        return Peer(name=self.name, address=self.address)

    def give(self, credentials: Credentials) -> None:
        """Mount certificates."""
        for name, content in (
            ("tls.crt", credentials.certificate),
            ("tls.key", credentials.key),
            ("ca.crt", credentials.authorities),
        ):
            (self.etc / "tls" / name).write_bytes(content)

    def users(self, passwords: str) -> None:
        """The Secret of those who authenticate, as a kubelet mounts it."""
        (self.etc / "users").mkdir(exist_ok=True)
        publish(self.etc / "users", {"passwords": (passwords.encode(), 0o444)})

    def credentials(self, secret: str, **entries: str) -> None:
        """The Secret of a password at a gateway, likewise."""
        (self.etc / "credentials").mkdir(exist_ok=True)
        files = {f"{secret}/{name}": (content.encode(), 0o444) for name, content in entries.items()}
        publish(self.etc / "credentials", files)

    def database(self, **entries: str) -> None:
        """The Secret of the database with the locations, likewise."""
        (self.etc / "database").mkdir(exist_ok=True)
        publish(self.etc / "database", {name: (content.encode(), 0o444) for name, content in entries.items()})

    def row(self, room: int = 10) -> Row:
        return Row(self.proxy.id, f"sip:{self.address}:5060", f"{self.address}:5060", room, 0, 0, 20)

    def start_agent(self, **environment: str) -> None:
        with self.log.open("ab") as log:
            self.agent = subprocess.Popen(
                [sys.executable, "-c", "from switchboard.agent.app import main; raise SystemExit(main())"],
                env={**self.environment, **environment},
                stderr=log,
            )

    def stop_agent(self, number: int = signal.SIGTERM) -> int:
        assert self.agent is not None
        self.agent.send_signal(number)
        return self.agent.wait(10)

    async def ready(self) -> bool:
        """What kubelet's readiness probe sees."""
        probe = await asyncio.create_subprocess_exec(
            *("curl", "--silent", "--insecure", "--output", "/dev/null", "--fail", f"https://{self.link}/readyz")
        )
        return await probe.wait() == 0

    @contextlib.asynccontextmanager
    async def linked(self, credentials: Credentials | None = None, *, stands: bool = True) -> AsyncIterator[Operator]:
        """An operator that dials this pod's agent; once its link stands, unless it is not to."""
        operator = Operator(self)
        context = (credentials or self.pki.operator()).client_context()
        async with link_session() as session:
            target = Target(self.name, self.link, POOL.name, POOL.namespace)
            operator.link = LinkClient(session, lambda: context, target, operator)
            task = asyncio.create_task(operator.link.run())
            try:
                if stands:
                    await operator.until(lambda: operator.reports)
                    operator.errors.clear()  # dials before the agent was there
                yield operator
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def start(self) -> None:
        self.proxy.start()
        self.start_agent()

    def end(self) -> None:
        self.proxy.kill()
        if self.agent is not None and self.agent.poll() is None:
            self.stop_agent()


@contextlib.asynccontextmanager
async def pods(
    network: str,
    count: int = 1,
    *,
    started: bool = True,
    listen: str = "udp:5060 tcp:5060",
    secrets: Mapping[str, Secret] | None = None,
) -> AsyncIterator[list[Pod]]:
    """Pods `<network>.1`, `<network>.2`, ...; all gone afterwards. `secrets`: those of the listeners, by name."""
    base = Path(tempfile.mkdtemp(prefix="sw-", dir="/tmp"))  # short, for UNIX socket paths
    pki, made = Pki(), list[Pod]()
    try:
        shutil.copytree(PROJECT / "proxy", base / "proxy")  # where tests/tools looks for it
        for number in range(1, count + 1):
            run = base / str(number)
            run.mkdir(mode=0o777)
            made.append(Pod(number, f"{network}.{number}", pki, run, listen=listen, secrets=secrets or {}))
            if started:
                made[-1].start()
        yield made
    finally:
        for one in made:
            one.end()
        shutil.rmtree(base, ignore_errors=True)


async def in_kamailio(pod: Pod, expected: Mapping[tuple[str, str], str | int], within: float = WITHIN_SECONDS) -> None:
    """Wait until Kamailio has these htable entries."""

    def all_there() -> bool:
        return all(pod.proxy.control.get(*key) == str(value) for key, value in expected.items())

    await until(all_there, f"{pod.name} to have {dict(expected)}", within)


def thaw(program: Program) -> None:
    """Let a frozen program go on."""
    for pid in descendants(program._process.pid):
        os.kill(pid, signal.SIGCONT)
