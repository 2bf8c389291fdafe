"""Credits: how many calls an assigner may still give to each proxy, so that refusals are rare.

Choosing by the last reported load sends a whole burst to one proxy before its next report. So the assigner counts what
it assigns, by proxy and **tick**, and the proxy counts what arrives, by assigner and tick. A report carries, from one
reading in this order: the newest tick seen, `received`, and `room`. Then

    pending = assigned in ticks after `closed` - `received` in the same ticks
    one more call may be assigned while pending < room

Pending calls are on their way, or arrived after the reading, or never will arrive. The last kind must not hold a place
for ever: a tick is **closed** for a proxy once its report has seen the third tick after it, and then no longer counts.

Why a closed tick holds nothing back: tick n+1 is sent no sooner than 2 s after the assigner acknowledged tick n
(`Ticker`), however late it does. The assigner counts under t until it acknowledges t+1. Tick t+2 comes 2 s after that,
and is acknowledged at some time; t+3 comes 2 s after that. So a proxy that has seen t+3 reads its calls at least 4 s
after the last assignment in t: a prompt client's call is in `room` by then.

Why it holds for a row of any age: a row is one consistent reading, and everything assigned after the reading was
counted under a tick that is not closed in it. Lost, late, repeated and reordered reports can cost places, never make
one. Why no room leaks: a count that went wrong is bound to a tick, and ticks close.

Both sides are named by pod and Kamailio's boot, and a token is valid only at the boot it was made for, so a restart
on either side starts new counts.

The assigner's half runs in Kamailio: proxy/kamailio/credits.lua. `Assigner` here is the same arithmetic, to check it
with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

TICK_SECONDS = 2.0
CLOSES_AFTER = 3  # ticks
MAX_LIVE_TICKS = 30  # counters are kept for 120 s; an older row is not trusted (credits.lua)
BURST = 2.0  # an assigner that died may have assigned this many times its rate since its last report

Counts = Mapping[int, int]  # tick → calls


class Reported(Protocol):
    """What pending calls are judged by: one reading of the proxy."""

    @property
    def tick(self) -> int: ...
    @property
    def received(self) -> Mapping[str, Counts]: ...


def closed(tick_seen: int) -> int:
    """The newest closed tick for a proxy whose report had seen `tick_seen`; 0 when none is."""
    return max(0, tick_seen - CLOSES_AFTER)


def received_live(received: Mapping[str, Counts], assigner: str, closed_tick: int) -> int:
    """Calls of this assigner that had arrived, in ticks after the closed one."""
    return sum(count for tick, count in received.get(assigner, {}).items() if tick > closed_tick)


def merge_assigned(known: Mapping[str, Counts], reported: Mapping[str, Counts], tick: int) -> dict[str, dict[int, int]]:
    """What an assigner has assigned, after a report that holds only the counts that changed; old ticks are dropped."""
    merged = {proxy: {**known.get(proxy, {}), **reported.get(proxy, {})} for proxy in known.keys() | reported.keys()}
    live = {
        proxy: {at: count for at, count in counts.items() if at > tick - MAX_LIVE_TICKS}
        for proxy, counts in merged.items()
    }
    return {proxy: counts for proxy, counts in live.items() if counts}


class Predecessor(msgspec.Struct, frozen=True, kw_only=True):
    """An assigner that was replaced, and what it may still have outstanding.

    A new assigner starts with each room reduced by `pending` of those before it, until those ticks close.

    *Planned hand-over*: its first report after the demotion took effect is exact: `assigned` is complete and
    `unreported` 0. Until then `last_tick` is None and `unreported` holds back what it gives meanwhile. (The old one
    knows nothing of what the new one assigns: that is left to admission for the few requests that still reach it
    between the switch of the Service and its demotion.)

    *Killed*: its last report is what is known. What came after it is bounded, strictly, only by what its last table
    still allowed, which is all the room there is; holding that back would make the pool look empty for 6 s and answer
    503 to every client of a pool that is well, which is worse than a few calls refused and sent on. So `unreported` is
    an estimate (`expected_unreported`: twice its rate for as long as it was silent), a small number, held back until
    the last tick that it can have used is closed as well. Should it be too low, admission keeps the threshold, as
    always.
    """

    id: str
    assigned: Mapping[str, Counts]  # proxy id → tick → calls
    last_tick: int | None  # the newest tick sent when it stopped assigning; None: it has not
    unreported: int = 0  # at most so many to any one proxy since its last report


def expected_unreported(assigned_per_second: float, silent_seconds: float) -> int:
    """How many calls a killed assigner may have assigned since its last report."""
    return math.ceil(BURST * assigned_per_second * silent_seconds)


def pending(before: Predecessor, proxy: str, reading: Reported) -> int:
    """What a predecessor may have assigned to this proxy that the reading does not show."""
    closed_tick = closed(reading.tick)
    arrived = reading.received.get(before.id, {})
    known = sum(
        max(0, count - arrived.get(tick, 0))
        for tick, count in before.assigned.get(proxy, {}).items()
        if tick > closed_tick
    )
    return known if _settled(before, reading) else known + before.unreported


def succeed(predecessors: Sequence[Predecessor], gone: Predecessor, new: str) -> tuple[Predecessor, ...]:
    """The predecessors of the assigner `new`, which follows `gone`.

    One that assigns again in the same run still has its own counts, so it is none of its own predecessors; and what is
    known of one that goes for the second time includes what was known at the first.
    """
    return (*(before for before in predecessors if before.id not in (gone.id, new)), gone)


def spent(before: Predecessor, readings: Mapping[str, Reported]) -> bool:
    """Whether nothing of a predecessor can still be outstanding, by the last readings of all proxies."""
    return all(_settled(before, reading) for reading in readings.values())


def _settled(before: Predecessor, reading: Reported) -> bool:
    return before.last_tick is not None and closed(reading.tick) >= before.last_tick


class Ticker(msgspec.Struct, frozen=True, kw_only=True):
    """The clock of the pool: numbers ticks for all proxies, at the pace of the assigner's acknowledgements.

    A new assigner, or a new ticker (the operator restarted), starts from the newest tick that any proxy has seen,
    unacknowledged: the same number is sent again, and the role of primary is given only after the acknowledgement, so
    that no assigner counts under a tick that is about to close. While two hold the role in a hand-over no tick is sent.
    """

    tick: int
    acknowledged_at: float | None = None  # by the assigner

    def due(self, now: float) -> bool:
        """Whether the next tick may be sent."""
        return self.acknowledged_at is not None and now >= self.acknowledged_at + TICK_SECONDS

    def advance(self) -> Ticker:
        """The next tick, to be sent to every proxy now."""
        return Ticker(tick=self.tick + 1)

    def acknowledged(self, tick: int, now: float) -> Ticker:
        """The assigner has tick number `tick` in effect; an answer to an older one says nothing."""
        if tick != self.tick or self.acknowledged_at is not None:
            return self
        return Ticker(tick=tick, acknowledged_at=now)

    def reassigned(self) -> Ticker:
        """Another assigner: it has to acknowledge the tick anew."""
        return Ticker(tick=self.tick)

    def seen(self, tick: int) -> Ticker:
        """A proxy has seen `tick`: one that a ticker before this one sent, when it is newer than ours."""
        return Ticker(tick=tick) if tick > self.tick else self


class Level(Protocol):
    """The part of a routing table's row that credits are about."""

    @property
    def id(self) -> str: ...
    @property
    def room(self) -> int: ...
    @property
    def received(self) -> int: ...
    @property
    def closed(self) -> int: ...


class Assigner:
    """What credits.lua does in Kamailio, in Python: the reference that it is checked against, and for simulations."""

    def __init__(self) -> None:
        self.assigned: dict[str, dict[int, int]] = {}

    def free(self, level: Level, now_tick: int) -> int:
        """Places left: a hint for choosing, without a reservation."""
        if level.room <= 0 or not level.closed < now_tick <= level.closed + MAX_LIVE_TICKS:
            return 0
        counts = self.assigned.get(level.id, {})
        live = sum(count for tick, count in counts.items() if tick > level.closed)
        return level.room - min(level.room, max(0, live - level.received))

    def take(self, level: Level, now_tick: int) -> bool:
        """Assigns one call under `now_tick`; False, and nothing is counted, when there is no place left."""
        if self.free(level, now_tick) == 0:
            return False
        counts = self.assigned.setdefault(level.id, {})
        counts[now_tick] = counts.get(now_tick, 0) + 1
        return True

    def give_back(self, proxy: str, tick: int) -> None:
        """The call assigned under `tick` certainly never reached the proxy: its place is free again."""
        self.assigned[proxy][tick] -= 1
