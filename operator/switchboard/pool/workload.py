"""How full a proxy is, and how many calls it has room for.

**Below the threshold** means that the workload before the call is below it. Three resources are looked at: calls, CPU
and relayed bandwidth; a proxy without a capacity for one of them is not limited by it. Two quantities lag behind the
calls: CPU (an average) and bandwidth (media starts after the answer). A call too young to show in them counts at the
expected cost, or a ramp overshoots by the lag.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import msgspec

from switchboard.pool.spec import Capacity, Sharing

Cause = Literal["period", "change", "threshold"]

FULL = 1.0  # the threshold of urgent calls
LEARN_SECONDS = 10.0  # a measured cost follows the truth with this time constant
LEARN_MIN_CALLS = 5  # with fewer settled calls, what the processes need when idle would be taken for the calls' cost
DENSE_BELOW = 0.2  # of the places: with less room than this, reports come more often
DENSEST = 0.25  # of the period: and never more often than this


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of a proxy. `young`: calls of the last moments that CPU and bandwidth do not show yet."""

    calls: int  # Kamailio's count, calls being set up included
    media_sessions: int = 0  # rtpengine's count; above `calls` when a restarted Kamailio has forgotten its calls
    cpu_cores: float = 0.0
    bandwidth_bits_per_second: float = 0.0
    young: int = 0

    @property
    def in_use(self) -> int:
        """Calls in use: a restarted Kamailio whose rtpengine still relays is not empty."""
        return max(self.calls, self.media_sessions)


class CallCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one more call is expected to take of each measured resource."""

    cpu_cores: float
    bandwidth_bits_per_second: float

    def learn(self, usage: Usage, capacity: Capacity, seconds: float) -> CallCost:
        """The cost after a reading taken `seconds` after the one before it."""
        settled = usage.in_use - usage.young
        if settled < LEARN_MIN_CALLS:
            return self
        weight = 1.0 - math.exp(-seconds / LEARN_SECONDS)
        first = expected_cost(capacity)
        return CallCost(
            cpu_cores=_follow(self.cpu_cores, usage.cpu_cores / settled, weight, first.cpu_cores),
            bandwidth_bits_per_second=_follow(
                self.bandwidth_bits_per_second,
                usage.bandwidth_bits_per_second / settled,
                weight,
                first.bandwidth_bits_per_second,
            ),
        )


def expected_cost(capacity: Capacity) -> CallCost:
    """The cost before anything has been measured.

    A pool's capacities are set so that calls fill up first or at about the same time; half of the even share is near
    enough to neither waste room nor to let a first burst overshoot by much.
    """
    return CallCost(
        cpu_cores=(capacity.cpu_cores or 0.0) / capacity.calls / 2,
        bandwidth_bits_per_second=(capacity.bandwidth_bits_per_second or 0) / capacity.calls / 2,
    )


def workload(usage: Usage, capacity: Capacity) -> float:
    """The highest share of a capacity in use; 1.0 is 100 %."""
    shares = [usage.in_use / capacity.calls]
    if capacity.cpu_cores:
        shares.append(usage.cpu_cores / capacity.cpu_cores)
    if capacity.bandwidth_bits_per_second:
        shares.append(usage.bandwidth_bits_per_second / capacity.bandwidth_bits_per_second)
    return max(shares)


def places(capacity: Capacity, threshold: float) -> int:
    """How many calls `capacity.calls` alone allows: the last is admitted with the workload just below the threshold."""
    return _whole(threshold * capacity.calls)


def room(usage: Usage, capacity: Capacity, threshold: float, cost: CallCost) -> int:
    """How many more calls the proxy may take, never below 0."""
    by_calls = places(capacity, threshold) - usage.in_use
    return max(0, min([by_calls, *_measured_rooms(usage, capacity, threshold, cost)]))


def ceiling(usage: Usage, capacity: Capacity, threshold: float, cost: CallCost) -> int:
    """Kamailio admits a call while its own count before it is below this (docs/contracts.md: `ctl=>ceiling`).

    It is absolute, so calls that come and go between two readings are counted by Kamailio itself. A resource without
    room closes the proxy altogether: a call that ends must not open it again before a reading shows that it helped.
    Media sessions without a call in Kamailio take places until they end.
    """
    orphans = max(0, usage.media_sessions - usage.calls)
    limit = places(capacity, threshold) - orphans
    for left in _measured_rooms(usage, capacity, threshold, cost):
        limit = min(limit, usage.calls + left if left > 0 else 0)
    return max(0, limit)


def saturated(before: bool, *, room: int, workload: float, threshold: float, change: float) -> bool:  # noqa: FBT001 (a state, not an option)
    """Whether a proxy is told to be saturated: from its last place on, until it is `change` below the threshold."""
    if room <= 0:
        return True
    return before and workload > threshold - change


def crossed(old: float, new: float, threshold: float) -> bool:
    """Whether the workload went from one side of the threshold to the other."""
    return (old < threshold) != (new < threshold)


def moved(old: float, new: float, change: float) -> bool:
    """Whether the workload has moved by `change` or more."""
    return round(abs(new - old), 9) >= change


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """What others have been told, or would be now."""

    room: int
    workload: float


def report_period(period_seconds: float, room: int, places: int) -> float:
    """How long a report may wait: shorter as room shrinks, because a late one wastes places only when few are left."""
    share = room / (DENSE_BELOW * places)
    return period_seconds * min(1.0, max(DENSEST, share))


def report_cause(  # noqa: PLR0913 (two readings and what they are judged by)
    told: Shared, now: Shared, silent_seconds: float, *, sharing: Sharing, threshold: float, places: int
) -> Cause | None:
    """Why the proxy should report now, or None: claim 7's period, claim 8's change and threshold crossing.

    Losing the last place and getting the first one back count as crossings, whichever resource they are about.
    """
    if crossed(told.workload, now.workload, threshold) or (told.room > 0) != (now.room > 0):
        return "threshold"
    if moved(told.workload, now.workload, sharing.change):
        return "change"
    if silent_seconds >= report_period(sharing.period_seconds, now.room, places):
        return "period"
    return None


def _measured_rooms(usage: Usage, capacity: Capacity, threshold: float, cost: CallCost) -> Iterator[int]:
    if capacity.cpu_cores:
        yield _left(threshold * capacity.cpu_cores, usage.cpu_cores, cost.cpu_cores, usage.young)
    if capacity.bandwidth_bits_per_second:
        limit = threshold * capacity.bandwidth_bits_per_second
        yield _left(limit, usage.bandwidth_bits_per_second, cost.bandwidth_bits_per_second, usage.young)


def _left(limit: float, used: float, cost: float, young: int) -> int:
    return _whole((limit - used) / cost) - young


def _whole(number: float) -> int:
    """The next whole number; 0.55 * 100 is 55.00000000000001 and means 55."""
    return math.ceil(round(number, 6))


def _follow(old: float, measured: float, weight: float, first: float) -> float:
    """Smoothed, and never so low that one call seems to cost nothing (a reading without media, an idle process)."""
    return max(old + (measured - old) * weight, first / 10)
