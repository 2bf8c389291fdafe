"""What this proxy has been told to be, and what that means in Kamailio's htables. Pure.

`accept` folds one command into it, or refuses the command: this is where terms are checked. `configuration` and
`state` are the whole of it in Kamailio's words, for a start, a restart and a change alike: the applier writes what
differs from what it wrote before.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import msgspec

from switchboard.agent.environment import bracketed
from switchboard.agent.kamailio import Key, Value
from switchboard.agent.notation import gateway_entries, mode_entries, route_entries
from switchboard.errors import MessageError, StaleTermError
from switchboard.link.messages import Command, Configure, Drain, Peer, Role, RoleName, Settings, Table, Tick
from switchboard.pool.gateways import InUse
from switchboard.pool.spec import Authentication
from switchboard.pool.table import Row, Version
from switchboard.pool.workload import places
from switchboard.resources.database import wanted_secret
from switchboard.resources.users import Users

PREVIOUS_SECONDS = 180.0  # how long the former primary may still get what belongs to its transactions


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    term: int = 0
    settings: Settings | None = None
    peers: tuple[Peer, ...] = ()
    role: RoleName = "member"
    primary: str = ""  # SIP URI; "" while unknown
    previous: str = ""  # SIP URI of the primary before
    previous_until: float = 0.0
    tick: int = 0
    draining: bool = False
    version: Version = (0, 0)
    rows: tuple[Row, ...] = ()
    gateways: Mapping[str, InUse] = {}  # those with a limit


def accept(wanted: Wanted, command: Command, now: float) -> Wanted:
    """What is wanted after `command`; StaleTermError or MessageError when it must not come into effect."""
    term = command.version[0] if isinstance(command, Table) else command.term
    if term < wanted.term:
        raise StaleTermError(f"term {term} is over, {wanted.term} has begun: another operator holds the Lease")
    changed = msgspec.structs.replace(wanted, term=term)
    match command:
        case Configure():
            return msgspec.structs.replace(changed, settings=command.settings, peers=command.peers)
        case Table():
            return _with_table(msgspec.structs.replace(changed, gateways=command.gateways), command)
        case Tick():
            if command.tick < wanted.tick:
                raise MessageError(
                    f"tick {command.tick} is older than {wanted.tick}, which is in effect; go on from there"
                )
            return msgspec.structs.replace(changed, tick=command.tick)
        case Role():
            return msgspec.structs.replace(
                changed,
                role=command.role,
                primary=command.primary or "",
                previous=command.previous or "",
                previous_until=now + PREVIOUS_SECONDS,
            )
        case Drain():
            return msgspec.structs.replace(changed, draining=command.draining)


def _with_table(wanted: Wanted, table: Table) -> Wanted:
    if table.version < wanted.version:
        raise StaleTermError(f"table {table.version} is older than {wanted.version}, which is in effect")
    if table.base is None:
        return msgspec.structs.replace(wanted, version=table.version, rows=table.rows)
    if table.base != wanted.version:
        raise MessageError(f"the table's base {table.base} is not in effect, {wanted.version} is; send the whole table")
    changed = {row.id: row for row in table.rows}
    rows = tuple(changed.pop(row.id, row) for row in wanted.rows)
    if changed:
        raise MessageError(f"row {next(iter(changed))} is not in table {table.base}; send the whole table")
    return msgspec.structs.replace(wanted, version=table.version, rows=rows)


def configuration(
    settings: Settings,
    peers: Iterable[Peer],
    users: Users | None = None,
    credentials: Mapping[str, str] = MappingProxyType({}),
) -> dict[Key, Value]:
    """The htable entries that follow from a `configure`. Without `users` no client is asked to authenticate;
    `credentials` are our own, by gateway.
    """
    return dict(
        [
            *_authentication(settings.authentication, users),
            *((("own", gateway), password) for gateway, password in credentials.items()),
            *_settings(settings),
            *((("peer", peer.address), peer.name) for peer in peers),
            (("ctl", "learn"), int(learns(settings))),  # last: from its peers
        ]
    )


def learns(settings: Settings) -> bool:
    """Whether a proxy that starts is to learn from its peers where clients are registered, or from where."""
    return settings.registrar.enabled or (settings.authentication is not None and settings.authentication.delegated)


def _authentication(wanted: Authentication | None, users: Users | None) -> Iterator[tuple[Key, Value]]:
    """The users first: when a client is asked, its password is known."""
    for (algorithm, user), ha1 in (users or {}).items():
        yield ("ha1", f"{algorithm}:{user}"), ha1
    delegated = wanted is not None and wanted.delegated
    asks = wanted if users is not None or delegated else None
    yield ("ctl", "digests"), ",".join(asks.algorithms) if asks else ""
    yield ("ctl", "realm"), asks.realm if asks else ""
    yield ("ctl", "delegated"), int(delegated)
    yield ("ctl", "certified"), int(asks is not None and asks.certificates)


def _previous(wanted: Wanted, now: float) -> str:
    """The former primary for as long as it may be asked: not when its pod is gone, or each new call would wait."""
    there = any(wanted.previous.startswith(f"sip:{bracketed(peer.address)}:") for peer in wanted.peers)
    return wanted.previous if there and now < wanted.previous_until else ""


def state(wanted: Wanted, now: float, *, draining: bool) -> dict[Key, Value]:
    """The htable entries that follow from table, tick, drain and role; the role last, when all else is in effect."""
    return {
        **{("gwuse", name): f"{use.calls}:{use.closed}" for name, use in wanted.gateways.items()},
        ("ctl", "prev"): _previous(wanted, now),
        ("ctl", "primary"): wanted.primary if wanted.role == "member" else "",
        ("ctl", "tick"): wanted.tick,
        ("ctl", "drain"): int(draining),
        ("ctl", "role"): wanted.role,
    }


def _settings(settings: Settings) -> Iterator[tuple[Key, Value]]:
    assignment = settings.assignment
    yield ("ctl", "mode"), assignment.mode
    yield from mode_entries(settings.client_modes)
    yield ("ctl", "policy"), assignment.policy
    yield ("ctl", "hops"), assignment.max_hops
    yield ("ctl", "status"), assignment.saturated_status
    yield ("ctl", "retry"), assignment.saturated_retry_after_seconds
    yield ("ctl", "places"), places(settings.capacity, settings.threshold)
    yield ("ctl", "registrar"), int(settings.registrar.enabled)
    yield ("ctl", "expires"), settings.registrar.max_expires_seconds
    yield ("ctl", "database"), int(bool(wanted_secret(settings.registrar)))
    yield ("ctl", "origins"), len(settings.client_origins)
    for origin in settings.client_origins:
        yield ("origin", origin), 1
    yield ("ctl", "capacity"), settings.capacity.calls
    yield ("ctl", "priorities"), " ".join(settings.urgent.priorities)
    for number in settings.urgent.numbers:
        yield ("urgent", number), 1
    protection = settings.protection
    yield ("ctl", "rate"), protection.requests_per_second or 0
    yield ("ctl", "agents"), "|".join(protection.user_agents).lower()
    for alias in settings.aliases:
        yield ("alias", alias), 1
    yield ("ctl", "period"), settings.health_checks.period_seconds
    yield ("ctl", "threshold"), settings.health_checks.threshold
    yield from gateway_entries(settings.gateways)
    yield from route_entries(settings.routes, settings.gateways)


def address_list(settings: Settings) -> str:
    """The file of the permissions module: group 1 are the clients' networks, group 2 the gateways', by name."""
    lines = [_address(1, network, "clients") for network in settings.client_networks]
    lines += [_address(2, network, gateway.name) for gateway in settings.gateways for network in gateway.networks]
    return "".join(lines)


def _address(group: int, network: str, tag: str) -> str:
    parsed = ipaddress.ip_network(network, strict=False)
    return f"{group} {parsed.network_address} {parsed.prefixlen} 0 {tag}\n"
