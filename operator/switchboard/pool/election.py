"""Which proxy is the primary, and how a hand-over goes from one to the next without a call lost.

The primary keeps its office unless it is lost, or drains. One that is lost is replaced at once; one that drains
(because the pool shrinks, rolls, or is suspended) hands over. Nothing is given up for nothing: without a successor the
office stays where it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from switchboard.pool.table import Proxy, eligible

Cause = Literal["kept", "first", "lost", "draining", "none"]
Step = Literal["confirm", "switch", "demote", "done", "abandoned"]


class Election(msgspec.Struct, frozen=True, kw_only=True):
    """`cause` "draining" asks for a planned hand-over; "first" and "lost" for one with nobody to demote."""

    primary: str | None  # pod name
    cause: Cause


def elect(proxies: Sequence[Proxy], current: str | None) -> Election:
    """The primary from now on; `current` is the one that the Service points at."""
    incumbent = next((proxy for proxy in proxies if proxy.name == current and proxy.alive), None)
    if incumbent is not None and not lost(incumbent) and not incumbent.draining:
        return Election(primary=current, cause="kept")
    successor = choose(proxies, besides=current)
    if successor is None:
        return Election(primary=current, cause="kept") if incumbent else Election(primary=None, cause="none")
    if current is None:
        return Election(primary=successor.name, cause="first")
    planned = incumbent is not None and not lost(incumbent)
    return Election(primary=successor.name, cause="draining" if planned else "lost")


def lost(proxy: Proxy) -> bool:
    """Whether a primary cannot go on. One whose link has yet to come up (the operator just started) is not lost."""
    return not proxy.alive or not proxy.ready or proxy.link == "lost"


def choose(proxies: Iterable[Proxy], besides: str | None = None) -> Proxy | None:
    """The proxy that would make the best primary: one that stays, has room, carries little, and is old."""
    fit = [proxy for proxy in proxies if proxy.name != besides and proxy.link == "up" and eligible(proxy)]
    return min(fit, key=_preference, default=None)


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """One change of primary, on its way. What each step asks for, again and again until it is seen:

    confirm: the new one has the tick, the whole table and the role `primary` in effect (tick first: credits.Ticker);
    switch:  the Service points at it (one atomic write);
    demote:  the old one has the role `member` in effect; its next report tells exactly what it had assigned.

    No tick is sent from the beginning to the end (credits.Ticker).
    """

    new: str
    old: str | None  # None: there was none
    step: Step = "confirm"

    @property
    def over(self) -> bool:
        return self.step in ("done", "abandoned")


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is so at this moment."""

    new_alive: bool
    new_confirmed: bool  # tick, table and role acknowledged
    entry: str | None  # the pod that the Service points at
    old_alive: bool = False
    old_demoted: bool = False  # role `member` acknowledged


def advance(handover: Handover, seen: Seen) -> Handover:
    """After what is seen: at most one step further, or turned round when the new primary dies."""
    if handover.over:
        return handover
    if not seen.new_alive:
        return _new_died(handover, seen)
    if handover.step == "confirm":
        return _at(handover, "switch") if seen.new_confirmed else handover
    if handover.step == "switch":
        if seen.entry != handover.new:
            return handover
        return _at(handover, "demote" if handover.old else "done")
    return _at(handover, "done") if seen.old_demoted or not seen.old_alive else handover


def _new_died(handover: Handover, seen: Seen) -> Handover:
    """Until it is demoted the old primary has role and table: the Service has only to point at it again."""
    if handover.step == "confirm" or handover.old is None or not seen.old_alive or seen.old_demoted:
        return _at(handover, "abandoned")
    return Handover(new=handover.old, old=handover.new, step="switch")


def _at(handover: Handover, step: Step) -> Handover:
    return msgspec.structs.replace(handover, step=step)


def _preference(proxy: Proxy) -> tuple[bool, bool, int, float, str]:
    reading = proxy.reading
    room, load = (reading.room, reading.workload) if reading else (0, 1.0)
    return proxy.evicted or not proxy.current, room == 0, round(load * 10), proxy.created, proxy.name
