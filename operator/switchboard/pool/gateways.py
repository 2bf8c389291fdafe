"""How many calls of a gateway are in use in the whole pool, for those that may have only so many at a time.

The primary sees every new call of a gateway once, and counts it as credits are counted (`pool.credits`): by tick,
before it is sent on. Whoever carries the call counts it as in use, and after that as received, by the primary and tick
that go along with it. An agent reads `received` before `calls`. Then

    in use = calls at all proxies + assigned in live ticks - received in the same ticks

is never less than what there is: a call is assigned, then in use, then received, and what has ended is free with the
next report. What was assigned and never arrives (a 302 not followed) counts until its tick is closed for every proxy.

`InUse.calls` is the part that the proxies know; the primary adds what it has assigned (proxy/kamailio/gateways.lua).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from switchboard.pool.credits import closed, received_live
from switchboard.pool.spec import Gateway
from switchboard.pool.table import Proxy, Reading, eligible


class InUse(msgspec.Struct, frozen=True, array_like=True):
    """To be added by the primary: what it assigned in ticks after `closed`. `calls` may be below 0 without that."""

    calls: int
    closed: int


def limited(gateways: Iterable[Gateway]) -> tuple[str, ...]:
    """The names of those that may have only so many calls at a time."""
    return tuple(gateway.name for gateway in gateways if gateway.rights.max_calls is not None)


def in_use(proxies: Iterable[Proxy], assigner: str, names: Iterable[str]) -> dict[str, InUse]:
    """For the primary with this id. A gateway of whose calls a proxy has not told is left out: nobody knows yet.

    A proxy whose link is lost counts with what it told last; ticks close without it.
    """
    known = [(proxy, proxy.reading) for proxy in proxies if proxy.reading is not None]
    closed_tick = closed(
        min((reading.tick for proxy, reading in known if proxy.link == "up" and reading.tick), default=0)
    )
    found: dict[str, InUse] = {}
    for name in names:
        counts = [_calls(proxy, reading, name, assigner, closed_tick) for proxy, reading in known]
        if None not in counts:
            found[name] = InUse(sum(filter(None, counts)), closed_tick)
    return found


def _calls(proxy: Proxy, reading: Reading, name: str, assigner: str, closed_tick: int) -> int | None:
    """None: it has calls, and has not said how many of them are this gateway's."""
    told = reading.gateways.get(name)
    if told is None:
        return None if reading.calls and eligible(proxy) else 0
    return told.calls - received_live(told.received, assigner, closed_tick)
