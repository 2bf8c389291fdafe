"""The messages of a link: one WebSocket between a proxy's agent and whoever listens to it.

The agent is the server (`/v1/link`, mutual TLS); the operator dials every agent of a pool, and in peer mode the
primary's agent dials the others. JSON, one message a frame, tagged by `type`. The agent speaks first (`hello`). A
command carries an `id` and is answered by `ack` with the same `id` once it is in effect in Kamailio, or has failed
(`error` says why). The first report of a session has all of `assigned`, the later ones what changed.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from switchboard.pool.gateways import InUse
from switchboard.pool.spec import (
    Assignment,
    Authentication,
    Capacity,
    ClientMode,
    Gateway,
    HealthChecks,
    Media,
    Protection,
    Registrar,
    Route,
    Sharing,
    Urgent,
)
from switchboard.pool.table import GatewayCalls, Reading, Row, Version

PROTOCOL = 1
MAX_MESSAGE_BYTES = 4 * 1024 * 1024  # a full table of 10,000 rows is below 1.5 MB

Reason = Literal["period", "change", "threshold", "request"]
RoleName = Literal["primary", "member"]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", tag_field="type"):
    """Base of all messages; unknown fields are ignored so that a newer minor version can add some."""


# agent → listener


class Hello(Message, frozen=True, tag="hello"):
    """`boot` names this run of Kamailio (it changes when that restarts); `fingerprint`: the certificate's SHA-256."""

    protocol: int
    namespace: str
    pool: str
    proxy: str
    boot: str
    fingerprint: str


class Report(Message, frozen=True, tag="report"):
    """One proxy's workload, from one reading (docs/contracts.md): `received` was read before `calls`, so before `room`.

    `received` maps assigner id → live tick → calls that arrived with its token. `assigned` maps proxy id → live tick →
    calls this proxy assigned there (only what changed since the last report). Ids are `<pod>~<boot>`.
    """

    seq: int
    boot: str
    tick: int  # the newest tick seen
    reason: Reason
    room: int  # calls it would still admit, never below 0
    calls: int  # max(dialogs, media sessions)
    media_sessions: int
    cpu_cores: float
    bandwidth_bits_per_second: int
    workload: float  # highest share of capacity, 1.0 is 100 %
    spare: int = 0  # urgent calls that it would admit, up to full capacity
    media_ok: bool = True  # False: rtpengine does not answer, take the proxy out of the table
    received: dict[str, dict[int, int]] = {}
    assigned: dict[str, dict[int, int]] = {}
    gateways: dict[str, GatewayCalls] = {}  # those with a limit: what arrived was read before what is in use
    assigned_total: int = 0  # all calls this proxy has assigned since its boot
    refused: int = 0  # calls refused admission and sent on since its boot
    saturated: int = 0  # calls answered with the saturated status since its boot
    over_threshold: int = 0  # calls admitted at or above the threshold since its boot; must stay 0
    admitted: int = 0  # calls admitted since its boot
    urgent: int = 0  # of these, above the threshold, because they are urgent
    redirected: int = 0  # 302 sent since its boot
    not_redirected: int = 0  # requests forwarded because their clients do not follow a 302, since its boot
    forwarded: int = 0  # calls forwarded to another proxy since its boot
    denied: int = 0  # requests from outside all networks since its boot
    unauthorized: int = 0  # requests with wrong credentials since its boot
    dropped: dict[str, int] = {}  # requests and answers dropped since its boot, by reason
    database_up: bool | None = None  # whether the database of the locations answers; None: there is none
    dead_targets: tuple[str, ...] | None = None  # that fail their health checks; None: not all were checked yet
    table: Version = (0, 0)
    role: RoleName = "member"
    draining: bool = False
    fingerprint: str = ""

    def reading(self, now: float) -> Reading:
        """As the pool holds it; `now` is the reader's clock, in seconds."""
        return Reading(
            boot=self.boot,
            seq=self.seq,
            tick=self.tick,
            room=self.room,
            spare=self.spare,
            calls=self.calls,
            workload=self.workload,
            sampled_at=now,
            media_sessions=self.media_sessions,
            cpu_cores=self.cpu_cores,
            bandwidth_bits_per_second=self.bandwidth_bits_per_second,
            media_ok=self.media_ok,
            received=self.received,
            gateways=self.gateways,
            draining=self.draining,
        )


class Ack(Message, frozen=True, tag="ack"):
    """Command `id` is in effect in Kamailio; or it is not, and `error` says why.

    `stale`: its sender's term is over, or its table older than the one in effect; sending it again will not help.
    """

    id: int
    error: str | None = None
    stale: bool = False


# listener → agent


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All of a pool's run-time settings; applied as a whole, without a restart."""

    threshold: float
    capacity: Capacity
    sharing: Sharing
    assignment: Assignment
    media: Media
    client_networks: tuple[str, ...]
    client_origins: tuple[str, ...] = ()  # of web pages that may connect; none: any
    client_modes: tuple[ClientMode, ...] = ()
    authentication: Authentication | None = None  # of clients
    registrar: Registrar = Registrar()
    gateways: tuple[Gateway, ...] = ()
    routes: tuple[Route, ...] = ()
    health_checks: HealthChecks = HealthChecks()
    urgent: Urgent = Urgent()
    protection: Protection = Protection()
    aliases: tuple[str, ...] = ()  # host names and addresses of the pool's Service: "us" in a Route or Request-URI


class Peer(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A proxy of the pool, by name and pod address. As short as can be: a thousand of them go to a thousand agents, and
    TLS keeps a buffer as large as the largest message for each link.
    """

    name: str
    address: str


class Configure(Message, frozen=True, tag="configure"):
    id: int
    term: int
    settings: Settings
    peers: tuple[Peer, ...]


class Table(Message, frozen=True, tag="table"):
    """The whole table (`rows`), in policy order; with `base`, the rows that differ from that version, order unchanged.

    A base that is not in effect is refused: send the whole table then.
    """

    id: int
    pool: str
    version: Version
    rows: tuple[Row, ...]
    base: Version | None = None
    gateways: dict[str, InUse] = {}  # for the primary: those with a limit; as a whole, whatever `base` says


class Tick(Message, frozen=True, tag="tick"):
    id: int
    term: int
    tick: int


class Role(Message, frozen=True, tag="role"):
    """Sent to every proxy when it starts, and to all whenever the primary changes.

    `primary`: SIP URI of the pool's primary; a member passes new requests that reach it straight from a client on to
    it. `previous`: of the primary before; for 3 minutes what belongs to its transactions goes on to it.
    """

    id: int
    term: int
    role: RoleName
    primary: str | None = None
    previous: str | None = None


class Drain(Message, frozen=True, tag="drain"):
    id: int
    term: int
    draining: bool


class RequestReport(Message, frozen=True, tag="request"):
    """Asks for a report now (claim 8: on demand); answered by a `report` with reason `request`."""


Command = Configure | Table | Tick | Role | Drain  # acknowledged
FromAgent = Hello | Report | Ack
ToAgent = Command | RequestReport
