"""What is known of each proxy, and the routing table made from it: one row per proxy that may be given a call.

The order is the order of creation for every policy: it does not depend on the load, so a report changes one row and
never the order, and policy `first` fills the proxies in the same order for as long as they live. `least` and `weighted`
are the assigner's choice among the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from switchboard.pool.credits import Predecessor, closed, pending, received_live

Version = tuple[int, int]  # (term of the Lease, number of the table within the term); compared as a pair

WEIGHT_STEPS = 20  # weights move in steps of 5 % of a proxy's places, so that they rarely change the members' list
SHORTLIST = 8


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One proxy in the routing table. The assigner may assign it a call while `pending < room` (docs/contracts.md).

    pending = calls assigned to it in ticks after `closed` - received
    """

    id: str  # <pod>~<boot>
    uri: str  # where peers reach it: sip:198.18.1.4:5060
    advertise: str  # host:port that clients are given in a 302
    room: int
    received: int  # of this assigner, in live ticks (after `closed`)
    closed: int  # the newest closed tick; 0 when none is
    weight: int  # free share of its places in steps of 5 %, 1 to 20, for policy weighted
    spare: int = 0  # urgent calls that it would admit beyond the threshold


class GatewayCalls(msgspec.Struct, frozen=True):
    """Calls of one gateway at one proxy: those in use, and those that arrived, by assigner and live tick."""

    calls: int
    received: Mapping[str, Mapping[int, int]] = {}


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy's last report, as the one who computes the table holds it."""

    boot: str
    seq: int  # within one link session
    tick: int  # the newest tick it had seen
    room: int
    calls: int
    workload: float
    sampled_at: float  # when it arrived, on the reader's monotonic clock
    spare: int = 0  # urgent calls that it would admit, up to full capacity
    media_sessions: int = 0
    cpu_cores: float = 0.0
    bandwidth_bits_per_second: float = 0.0
    media_ok: bool = True
    received: Mapping[str, Mapping[int, int]] = {}
    gateways: Mapping[str, GatewayCalls] = {}  # those with a limit, by name
    draining: bool = False  # in effect in Kamailio


Link = Literal["dialing", "up", "lost"]


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """One proxy: facts of its pod, of its link, and its last report."""

    name: str  # of the pod: a new one for each incarnation
    address: str  # the pod's IP address
    port: int  # its SIP port, for peers
    advertise: str  # host:port that clients are given
    created: float  # the pod's creation, seconds of any one clock
    ready: bool  # the pod's Ready condition: Kamailio answers
    link: Link = "dialing"  # "dialing": never up since whoever looks started; "lost": was up, or cannot be had
    compatible: bool = True  # speaks our link protocol
    current: bool = True  # made from the pool's present template
    evicted: bool = False  # its node is cordoned or its eviction was refused: it has to leave
    failed: bool = False  # its pod has ended or cannot run any more
    waiting: str = ""  # what keeps its pod from running, in words
    terminating: bool = False  # its pod is being deleted
    cut_short: bool = False  # with no more time than an ended drain needs
    draining_since: float | None = None  # on the clock of `now`; a pod that is deleted drains, too; None: it stays
    saturated: bool = False  # with hysteresis (workload.saturated)
    reading: Reading | None = None

    @property
    def id(self) -> str:
        """The name of this run: `<pod>~<boot>`; without a report it has none."""
        return f"{self.name}~{self.reading.boot}" if self.reading else ""

    @property
    def calls(self) -> int:
        return self.reading.calls if self.reading else 0

    @property
    def alive(self) -> bool:
        """Its pod is there to stay, whatever its state."""
        return not (self.failed or self.terminating)

    @property
    def draining(self) -> bool:
        return self.draining_since is not None

    @property
    def leaving(self) -> bool:
        """It takes no new calls and still has, or may have, some of its own."""
        return self.draining and not self.failed and (not self.terminating or self.link == "up")

    @property
    def gone(self) -> bool:
        """Nothing will be heard of it any more, and its calls are over."""
        return self.failed or (self.terminating and not self.ready and self.link == "lost")


def eligible(proxy: Proxy) -> bool:
    """Whether a proxy may be in the table. A lost link does not take it out: its row is frozen (see `row`)."""
    return (
        proxy.alive
        and proxy.ready
        and proxy.compatible
        and not proxy.draining
        and proxy.reading is not None
        and proxy.reading.media_ok
        and not proxy.reading.draining
    )


def newer(old: Reading | None, new: Reading) -> bool:
    """Whether `new` replaces `old` within one link session; the first report of a session always does."""
    return old is None or new.boot != old.boot or new.seq > old.seq


def row(proxy: Proxy, reading: Reading, assigner: str, *, places: int, predecessors: Iterable[Predecessor] = ()) -> Row:
    """The row of one proxy for the assigner with this id.

    It depends on the proxy's last report alone, so without new reports it is frozen by itself: what is assigned
    meanwhile stays pending at the assigner, and when `room` calls are, no more are given. No clock is needed for that.
    """
    closed_tick = closed(reading.tick)
    reserved = sum(pending(before, proxy.id, reading) for before in predecessors if before.id != assigner)
    room = max(0, reading.room - reserved)
    return Row(
        id=proxy.id,
        uri=sip_uri(proxy.address, proxy.port),
        advertise=proxy.advertise,
        room=room,
        received=received_live(reading.received, assigner, closed_tick),
        closed=closed_tick,
        weight=max(1, min(WEIGHT_STEPS, -(-room * WEIGHT_STEPS // places))),
        spare=reading.spare,
    )


def compute(
    proxies: Iterable[Proxy], assigner: str, *, places: int, predecessors: Sequence[Predecessor] = ()
) -> tuple[Row, ...]:
    """The whole table, in policy order."""
    return tuple(
        row(proxy, proxy.reading, assigner, places=places, predecessors=predecessors)
        for proxy in in_order(proxies)
        if proxy.reading is not None and eligible(proxy)
    )


def shortlist(rows: Sequence[Row], count: int = SHORTLIST) -> tuple[Row, ...]:
    """The best candidates for the proxies that are not primary: those with most room, in the table's order."""
    best = sorted(range(len(rows)), key=lambda index: (-rows[index].room, index))[:count]
    return tuple(rows[index] for index in sorted(best))


def in_order(proxies: Iterable[Proxy]) -> list[Proxy]:
    """By creation: the order of the table, and of everything that lists proxies."""
    return sorted(proxies, key=lambda proxy: (proxy.created, proxy.name))


def sip_uri(address: str, port: int) -> str:
    """Where a peer reaches a proxy."""
    return f"sip:{host_port(address, port)}"


def host_port(host: str, port: int) -> str:
    """An IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
