"""Real proxies without Kubernetes: Kamailio and rtpengine from the image's root file system, through the image's entry
points, under bubblewrap, on addresses of 127.0.0.0/8, and told what an agent would tell them (docs/contracts.md).

    with fleet(2, network="127.0.1") as (primary, member):
        primary.set(role="primary", ready=1)
        primary.table([member.row(room=10)])
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.tools.certificates import Secret, mount
from tests.tools.control import Control, ControlError

PROJECT = Path(__file__).resolve().parents[2]
BIN = "/opt/switchboard/proxy/bin"
RUN_DIR = "/run/switchboard"
SIP_PORT = 5060
START_SECONDS = 15
NG_PORT = 2223
KEY = "5a" * 32
MEDIA_PORTS = "20000-29999"  # the same for all: each has its own address


class ProxyError(Exception):
    """A proxy could not be started; the text ends with its log."""


def rootfs() -> Path:
    """The image's root file system: SWITCHBOARD_ROOTFS, or what proxy/rootfs.sh makes."""
    given = os.environ.get("SWITCHBOARD_ROOTFS")
    if given:
        return Path(given)
    made = subprocess.run([str(PROJECT / "proxy/rootfs.sh")], check=True, stdout=subprocess.PIPE, text=True)
    return Path(made.stdout.split()[-1])


@dataclass(frozen=True)
class Row:
    """A proxy in another's routing table, as the agent writes it."""

    id: str
    uri: str
    advertise: str
    room: int
    received: int = 0
    closed: int = 0
    weight: int = 20
    spare: int = 0


class Program:
    """One process of a proxy, under bubblewrap, with its log."""

    def __init__(self, command: str, environment: dict[str, str], run: Path, root: Path) -> None:
        self.log = run / f"{Path(command).name}.log"
        inside = [
            *(
                "bwrap",
                "--die-with-parent",
                "--unshare-pid",
                "--ro-bind",
                str(root),
                "/",
                "--proc",
                "/proc",
                "--dev",
                "/dev",
            ),
            *("--tmpfs", "/tmp", "--tmpfs", "/run", "--bind", str(run), RUN_DIR),  # noqa: S108  # the sandbox's own
            *("--ro-bind", str(PROJECT / "operator"), "/opt/switchboard/operator"),
            *("--ro-bind", str(run.parent / "proxy"), "/opt/switchboard/proxy"),
            *("--clearenv", "--setenv", "PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ]
        for name, value in environment.items():
            inside += ["--setenv", name, value]
        self._read = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([*inside, command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """At once, as a crash does; waits until all of it is gone, so that its ports are free."""
        family = descendants(self._process.pid)
        for pid in [*family, self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + START_SECONDS
        while any(map(lives, family)) and time.monotonic() < deadline:
            time.sleep(0.01)

    def new_log(self) -> str:
        with self.log.open(errors="replace") as log:
            log.seek(self._read)
            text = log.read()
            self._read = log.tell()
        return text

    def freeze(self) -> None:
        """Stops it where it stands: it is there and does not answer."""
        for pid in descendants(self._process.pid):
            os.kill(pid, signal.SIGSTOP)


def lives(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


class Proxy:
    """One proxy. It starts as a member that is ready, has room for 100 calls and knows nobody else."""

    def __init__(
        self, name: str, ip: str, run: Path, root: Path, *, media: bool, media_timeout_seconds: int, **environment: str
    ) -> None:
        self.name = name
        self.ip = ip
        self.run = run
        self.media: Program | None = None
        self.kamailio: Program | None = None
        self._root = root
        self._has_media = media
        self._version = 0
        self._environment = {
            "POOL": "test",
            "POD_NAME": name,
            "POD_NAMESPACE": "default",
            "POD_IP": ip,
            "LISTEN": f"udp:{SIP_PORT} tcp:{SIP_PORT}",
            "ADVERTISE": ip,
            "MEDIA_PORTS": MEDIA_PORTS if media else "",
            "MEDIA_TIMEOUT": str(media_timeout_seconds),
            "RUN_DIR": RUN_DIR,
            "NG_ADDRESS": f"{ip}:{NG_PORT}",
            "ETC_DIR": f"{RUN_DIR}/etc",
            **environment,
        }
        self._control: Control | None = None

    # life

    def start(self) -> None:
        (self.run / "address.list").write_text("")
        if self._has_media:
            self.start_media()
        self.start_kamailio()

    def start_media(self) -> None:
        """Returns once rtpengine answers."""
        self.media = Program(f"{BIN}/rtpengine", self._environment, self.run, self._root)
        deadline = time.monotonic() + START_SECONDS
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ng:
            ng.settimeout(0.1)
            ng.connect((self.ip, NG_PORT))
            while True:
                with contextlib.suppress(OSError):
                    ng.send(b"1 d7:command4:pinge")
                    if ng.recv(1000).startswith(b"1 d"):
                        return
                if time.monotonic() > deadline or not self.media.running:
                    raise ProxyError(f"{self.name} has no rtpengine:\n{self.media.log.read_text(errors='replace')}")
                time.sleep(0.05)

    def start_kamailio(self) -> None:
        """Returns once Kamailio answers on its control socket."""
        if self._control is not None:
            self._control.close()
        (self.run / "kamailio.sock").unlink(missing_ok=True)
        self.kamailio = Program(f"{BIN}/kamailio", self._environment, self.run, self._root)
        self._version = 0
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                self._control = Control(self.run)
                return
            if time.monotonic() > deadline or not self.kamailio.running:
                raise ProxyError(
                    f"{self.name} does not start:\n{self.kamailio.log.read_text(errors='replace')[-4000:]}"
                )
            time.sleep(0.05)

    def has_media(self) -> bool:
        """Makes Kamailio use its rtpengine again, where it has given it up; False while Kamailio is still starting."""
        if self._has_media:
            try:
                self.control("rtpengine.enable", "all", 1)
            except ControlError:
                return False
        return True

    def kill(self) -> None:
        """All of the proxy dies at once."""
        if self._control is not None:
            self._control.close()
            self._control = None
        for program in (self.kamailio, self.media):
            if program is not None:
                program.kill()

    @property
    def control(self) -> Control:
        assert self._control is not None, f"{self.name} is dead"
        return self._control

    @property
    def alive(self) -> bool:
        programs = (self.kamailio, *((self.media,) if self._has_media else ()))
        return all(program is not None and program.running for program in programs)

    def new_log(self) -> str:
        """What its programs have logged since the last time this was asked."""
        return "".join(program.new_log() for program in (self.media, self.kamailio) if program is not None)

    # what an agent writes

    @property
    def id(self) -> str:
        return self.control.get("ctl", "id")

    @property
    def uri(self) -> str:
        return f"sip:{self.ip}:{SIP_PORT}"

    def set(self, **settings: str | int) -> None:
        """Run-time settings: keys of the htable ctl."""
        for key, value in settings.items():
            self.control.set("ctl", key, value)
        self._announce()

    def admit(self, places: int) -> None:
        """Room for that many calls at once."""
        self.set(ceiling=places, places=places, full=places, capacity=places)

    def row(self, room: int, *, weight: int = 20, closed: int = 0, spare: int = 0) -> Row:
        advertise = f"{self._environment['ADVERTISE']}:{SIP_PORT}"
        return Row(self.id, self.uri, advertise, room, closed=closed, weight=weight, spare=spare)

    def table(self, rows: Sequence[Row]) -> None:
        """Puts a routing table in effect."""
        self._version += 1
        version = self._version
        members = "".join(f"{row.id}|{row.uri}|{row.advertise}|{row.weight}\n" for row in rows)
        levels = "".join(f"{row.room}|{row.received}|{row.closed}|{row.spare}\n" for row in rows)
        self.control.set("rt", f"m{version}.0", members)
        self.control.set("rt", f"l{version}.0", levels)
        self.control.set("rt", f"i{version}", f"{version}:1:{version}:1")
        self.control.set("rt", "ver", version)
        self._announce()

    def _announce(self) -> None:
        """Workers read anew what they keep of the state."""
        self.control.set("ctl", "gen", str(time.time_ns()))

    def count(self, name: str) -> int:
        """A counter of the htable cnt since the last reset."""
        return self.control.number("cnt", name)

    @property
    def calls(self) -> int:
        """Calls in use, as admission counts them."""
        return self.control.number("use", "calls")

    def secrets(self, secrets: Mapping[str, Secret]) -> None:
        """The Secrets of its listeners, as they are from now on."""
        mount(self.run / "etc" / "listen", secrets)

    def networks(self, clients: Sequence[str], gateways: dict[str, str] | None = None) -> None:
        """Who may use the pool: client networks, and gateways (name → network)."""
        lines = [f"1 {_network(network)} 0 clients\n" for network in clients]
        lines += [f"2 {_network(network)} 0 {name}\n" for name, network in (gateways or {}).items()]
        (self.run / "address.list").write_text("".join(lines))
        self.control("permissions.addressReload")


def _network(cidr: str) -> str:
    """How the permissions module writes a network."""
    address, _, bits = cidr.partition("/")
    return f"{address} {bits or 32}"


@contextlib.contextmanager
def fleet(
    count: int,
    network: str,
    *,
    media: bool = True,
    media_timeout_seconds: int = 60,
    secrets: Mapping[str, Secret] | None = None,
    **environment: str,
) -> Iterator[list[Proxy]]:
    """Proxies `<network>.1`, `<network>.2`, ...; all gone afterwards.

    `environment`: what theirs has besides, `{number}` being the proxy's own; `secrets`: of its listeners, by name.
    """
    if shutil.which("bwrap") is None:
        raise ProxyError("bwrap is missing: apt-get install bubblewrap")
    root = rootfs()
    run = Path(tempfile.mkdtemp(prefix="switchboard-", dir="/tmp"))  # short, for UNIX socket paths
    proxies: list[Proxy] = []
    try:
        shutil.copytree(PROJECT / "proxy", run / "proxy")  # one state for the whole run, whatever is edited meanwhile
        for number in range(1, count + 1):
            directory = run / str(number)
            directory.mkdir(mode=0o777)
            proxy = Proxy(
                f"edge-{number:05d}",
                f"{network}.{number}",
                directory,
                root,
                media=media,
                media_timeout_seconds=media_timeout_seconds,
                **{name: value.replace("{number}", str(number)) for name, value in environment.items()},
            )
            proxies.append(proxy)
            proxy.secrets(secrets or {})
            proxy.start()
        yield proxies
    finally:
        for proxy in proxies:
            proxy.kill()
        shutil.rmtree(run, ignore_errors=True)
