"""One run: mutated messages to a real proxy, and what is left of them afterwards."""

from __future__ import annotations

import json
import resource
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from e2e.embedded.errors import DeadlineError
from switchboard.pool.spec import Route
from tests.fuzz import users
from tests.fuzz.mutations import mutate
from tests.fuzz.seeds import SEEDS, Make, Sender, Site
from tests.fuzz.traffic import StuckError, Traffic
from tests.tools.addresses import CLIENTS, PEER, PSTN, STRANGERS, TARGETS
from tests.tools.pool import MEMORIES, TABLES_OF_COUNTS, Pool
from tests.tools.proxies import NG_PORT, Proxy, descendants
from tests.tools.transport import Protocol
from tests.tools.wait import until

BATCH = 32  # fits into a socket's buffer, so that nothing is lost unseen
WARM_UP = 2000  # messages after which every worker has allocated what it keeps
KEPT = 4 * BATCH  # messages, to tell which one it was
PLACES = 100_000
CONFIRMED = (3, 4)  # states of a dialog that was answered: without its ACK yet, and with it
QUIET_SECONDS = 150.0  # the longest that anything is kept of a call nobody ends: its ACK is waited for, a minute


@dataclass(frozen=True)
class Kind:
    """Of a pool: what is sent to it, and how much of that over connections. `trusting`: for those by TLS; `hides`:
    gateway and target, which is one then, are shown nothing of what is behind the proxy.
    """

    seeds: tuple[tuple[Sender, Make], ...] = SEEDS
    streamed: float = 0.05
    protocols: tuple[Protocol, ...] = ("tcp",)
    trusting: ssl.SSLContext | None = None
    hides: bool = False

    @property
    def has_users(self) -> bool:
        return self.trusting is not None


def with_users(trusting: ssl.SSLContext) -> Kind:
    return Kind((*SEEDS, *users.SEEDS), 0.3, ("tcp", "tls", "ws", "wss"), trusting)


@dataclass(frozen=True)
class Level:
    """What a proxy holds when nothing is under way."""

    processes: tuple[int, ...]
    shared_bytes: int
    private_bytes: int  # of the process that has most
    resident_bytes: int  # of all processes, Lua's memory included, shared memory left out


@dataclass(frozen=True)
class Outcome:
    messages: int
    seconds: float
    before: Level
    after: Level
    unasked_bytes: int  # that strangers were sent over UDP


def messages(kind: Kind, site: Site, seed: int, numbers: range) -> Iterator[tuple[Sender, bytes]]:
    """Each message follows from the seed and its number alone."""
    for number in numbers:
        random = Random(f"{seed}.{number}")  # noqa: S311  # to be repeated, not to be secret
        sender, make = random.choice(kind.seeds)
        # A stranger has nothing that we signed for somebody else.
        lenders = [make for lender, make in kind.seeds if sender != "stranger" or lender == sender]
        others = [make(site, number).encode() for make in random.sample(lenders, 2)]
        yield sender, mutate(random, make(site, number).encode(), others)


async def run(proxy: Proxy, kind: Kind, *, seed: int, count: int, answer_every: int, suspects: Path) -> Outcome:
    """Raises StuckError, and leaves the last messages in `suspects`, when the proxy died or hangs."""
    pool = Pool([proxy])
    await pool.reset()
    if kind.has_users:
        users.give_users(pool)
    if kind.hides:
        pool.gateway("pstn-1", hide_topology=True)
        target = pool.gateway("voip-1", hide_topology=True, targets=(f"sip:{TARGETS}.1:5060",))
        pool.routes(Route(name="out", gateway="voip-1"), gateways=[target])
    proxy.admit(PLACES)
    peer = pool.peer(PEER, 0)
    proxy.table([*pool.rows(PLACES), peer])
    site = Site(
        proxy=proxy.ip,
        proxy_id=proxy.id,
        client=f"{CLIENTS}.1",
        gateway=f"{PSTN}.1",
        peer=PEER,
        peer_id=peer.id,
        target=f"{TARGETS}.1",
        stranger=f"{STRANGERS}.1",
    )
    last: deque[tuple[Sender, bytes]] = deque(maxlen=KEPT)
    with Traffic(site, answer_every, kind.trusting) as traffic:

        def send(numbers: range) -> None:
            for start in range(numbers.start, numbers.stop, BATCH):
                batch = list(messages(kind, site, seed, range(start, min(start + BATCH, numbers.stop))))
                last.extend(batch)
                _send(traffic, kind, Random(f"{seed}.{start}.way"), batch)  # noqa: S311  # as above
                if kind.has_users:
                    proxy.control("htable.flush", "fail")  # who is not asked for its password gets no further

        try:
            send(range(WARM_UP))
            before = await _quiet(pool, traffic, kind)
            started = time.monotonic()
            send(range(WARM_UP, WARM_UP + count))
            seconds = time.monotonic() - started
            after = await _quiet(pool, traffic, kind)
        except (StuckError, OSError) as error:
            _keep(last, suspects)
            raise StuckError(
                f"{error}; the last {len(last)} messages are in {suspects}\n{proxy.new_log()[-4000:]}"
            ) from error
        return Outcome(count, seconds, before, after, traffic.unasked_bytes)


def _send(traffic: Traffic, kind: Kind, random: Random, batch: Sequence[tuple[Sender, bytes]]) -> None:
    if random.random() < kind.streamed:
        protocol = random.choice(kind.protocols)
        for sender in sorted({sender for sender, _ in batch}):
            traffic.stream(random, protocol, sender, [data for whose, data in batch if whose == sender])
    else:
        for sender, data in batch:
            traffic.send(sender, data)
    traffic.keep_pace()
    traffic.hang_up()


async def _quiet(pool: Pool, traffic: Traffic, kind: Kind) -> Level:
    """When nothing is under way any more, and what is kept for a while has been let go."""
    proxy = pool.primary

    def left() -> dict[str, int]:
        traffic.keep_pace()
        _end_calls(proxy)
        return {
            "transactions": int(proxy.control("tm.stats")["current"]),
            "dialogs": int(proxy.control("dlg.stats_active")["all"]),
            "places": proxy.calls,
            "media sessions": media_sessions(proxy),
            "connections": int(proxy.control("core.tcp_info")["opened_connections"]),
            "WebSockets": _websockets(proxy),
        }

    try:
        await until(lambda: not any(left().values()), "nothing is under way any more", QUIET_SECONDS)
    except DeadlineError as error:
        raise StuckError(f"left behind: {left()}; calls in rtpengine: {_ask_media(proxy, 'list')['calls']}") from error
    users.forget_users(pool)
    for table in (*TABLES_OF_COUNTS, *MEMORIES, "silent", *(("hop",) if kind.hides else ())):
        proxy.control("htable.flush", table)
    processes = proxy.control("pkg.stats")
    return Level(
        processes=tuple(int(process["pid"]) for process in processes),
        shared_bytes=int(proxy.control("core.shmmem")["used"]),
        private_bytes=max(int(process["used"]) for process in processes),
        resident_bytes=_resident(proxy),
    )


def _websockets(proxy: Proxy) -> int:
    """That it believes to be open: where it has none, the statistic is not there."""
    counts = dict(line.split(" = ") for line in proxy.control("stats.get_statistics", "websocket:"))
    return int(counts.get("websocket:ws_current_connections", 0))


def _end_calls(proxy: Proxy) -> None:
    """Those that were answered, and that nobody else ends: whoever is called may not know the damaged call."""
    for call in proxy.control("dlg.briefing", "s"):
        if int(call["state"]) in CONFIRMED:
            proxy.control("dlg.end_dlg", int(call["h_entry"]), int(call["h_id"]))


def media_sessions(proxy: Proxy) -> int:
    """Of rtpengine, called and calling side of a call counted once."""
    return int(_ask_media(proxy, "statistics")["statistics"]["currentstatistics"]["sessionsown"])


def _ask_media(proxy: Proxy, command: str) -> Any:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ng:
        ng.settimeout(5)
        ng.connect((proxy.ip, NG_PORT))
        ng.send(b'%d {"command":"%s"}' % (time.monotonic_ns(), command.encode()))
        return json.loads(ng.recv(1 << 16).partition(b" ")[2])


def _resident(proxy: Proxy) -> int:
    assert proxy.kamailio is not None
    sizes = [Path(f"/proc/{pid}/statm").read_text().split() for pid in descendants(proxy.kamailio._process.pid)]
    return sum(int(resident) - int(shared) for _, resident, shared, *_ in sizes) * resource.getpagesize()


def _keep(last: deque[tuple[Sender, bytes]], suspects: Path) -> None:
    suspects.mkdir(parents=True, exist_ok=True)
    for number, (sender, data) in enumerate(last):
        (suspects / f"{number:03}-{sender}.sip").write_bytes(data)
