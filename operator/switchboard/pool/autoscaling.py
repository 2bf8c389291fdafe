"""How many proxies an autoscaled pool wants: by what is used, how fast that grows, and how long a proxy takes to start.

Use is counted in proxies that are full, that is at the threshold: two proxies at 40 % with a threshold of 80 % are one.
Calls of draining proxies count too, because their clients call again, and then at the others.

    ahead  = used + growth x the time a proxy takes to start
    wanted = ceil(ahead / (1 - headroom)), within min and max

Growth is the arrival rate less the rate at which calls end, and while the pool is saturated also what arrives and is
turned away, which no other figure shows. More is wanted at once. Fewer only when fewer have been enough for all of
`scale_down_after_seconds`: a lull, a lost report, an operator that has just started must not empty a pool.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from switchboard.pool.spec import Autoscaling, PoolSpec
from switchboard.pool.table import Proxy, eligible
from switchboard.pool.workload import places

RATE_SECONDS = 10.0  # growth follows with this time constant: Poisson arrivals even out, a ramp shows in time
START_SECONDS = 30.0  # what a proxy is taken to need before one has been seen to start
STARTS_KEPT = 5  # the slowest of the last so many starts is reckoned with


class Growth(msgspec.Struct, frozen=True):
    """How fast use grows, from one look to the next; by run of a proxy, so that restarts and losses are no change."""

    at: float = 0.0  # seconds, on the clock of the looks
    used: Mapping[str, float] = {}  # by proxy id, in full proxies
    turned_away: Mapping[str, int] = {}  # by proxy id: calls answered with the saturated status, ever
    per_second: float = 0.0  # full proxies per second, smoothed; below zero when calls end faster than they come

    def next(self, now: float, used: Mapping[str, float], turned_away: Mapping[str, int], places: int) -> Growth:
        """The growth as of now. A call that was turned away would have used one of a proxy's `places`."""
        seconds = now - self.at
        if seconds <= 0:
            return self
        change = sum(used[one] - before for one, before in self.used.items() if one in used)
        refused = sum(turned_away[one] - before for one, before in self.turned_away.items() if one in turned_away)
        rate = (change + max(0, refused) / places) / seconds
        weight = 1.0 - math.exp(-seconds / RATE_SECONDS)
        return Growth(now, used, turned_away, self.per_second + (rate - self.per_second) * weight)


class Starts(msgspec.Struct, frozen=True):
    """How long proxies take until they can take calls, from the moment their pod is first seen."""

    since: Mapping[str, float | None] = {}  # when its pod was first seen; None: it has served, or did before we looked
    seconds: tuple[float, ...] = ()  # the last few, the newest last

    @property
    def expected_seconds(self) -> float:
        return max(self.seconds, default=START_SECONDS)

    def next(self, now: float, proxies: Iterable[Proxy]) -> Starts:
        since: dict[str, float | None] = {}
        took: list[float] = []
        for proxy in proxies:
            began = self.since.get(proxy.name, None if proxy.ready else now)
            if began is not None and eligible(proxy):
                took.append(now - began)
                began = None
            since[proxy.name] = began
        return Starts(since, (*self.seconds, *took)[-STARTS_KEPT:])


class History(msgspec.Struct, frozen=True):
    """What was needed lately: (when, how many), falling, so that the first is the highest of the window."""

    needs: tuple[tuple[float, int], ...] = ()

    def next(self, now: float, need: int, window_seconds: float) -> History:
        kept = (one for one in self.needs if one[1] > need and now - one[0] < window_seconds)
        return History((*kept, (now, need)))

    @property
    def highest(self) -> int:
        return self.needs[0][1] if self.needs else 0


class Autoscaler(msgspec.Struct, frozen=True):
    """All that is remembered between two looks, and what comes of it."""

    growth: Growth = Growth()
    starts: Starts = Starts()
    history: History = History()
    used: float = 0.0  # full proxies
    needed: int = 0  # at this look, before min and max: above max it says that max is too low

    def look(
        self, now: float, proxies: Sequence[Proxy], turned_away: Mapping[str, int], spec: PoolSpec, rule: Autoscaling
    ) -> Autoscaler:
        """`turned_away`: by proxy id, calls answered with the saturated status, ever."""
        uses = {proxy.id: used(proxy, spec.threshold) for proxy in proxies if proxy.reading is not None}
        growth = self.growth.next(now, uses, turned_away, places(spec.capacity, spec.threshold))
        starts = self.starts.next(now, proxies)
        total = sum(uses.values())
        needed = need(total, growth.per_second, starts.expected_seconds, rule.headroom)
        if not self.history.needs or _unheard(proxies):
            needed = max(needed, sum(proxy.alive and not proxy.draining for proxy in proxies))
        history = self.history.next(now, needed, rule.scale_down_after_seconds)
        return Autoscaler(growth, starts, history, total, needed)

    def wanted(self, rule: Autoscaling) -> int:
        return min(max(self.history.highest, rule.min), rule.max)


def used(proxy: Proxy, threshold: float) -> float:
    """How much of a full proxy is in use; above 1 when the threshold has been lowered under its calls."""
    return proxy.reading.workload / threshold if proxy.reading is not None else 0.0


def need(used_proxies: float, growth_per_second: float, start_seconds: float, headroom: float) -> int:
    """How many proxies are enough by the time that one more could be there; never fewer than are enough now."""
    ahead = used_proxies + max(0.0, growth_per_second) * start_seconds
    return math.ceil(round(ahead / (1.0 - headroom), 6))


def _unheard(proxies: Sequence[Proxy]) -> bool:
    """Whether a proxy serves that has not reported yet: its calls are missing in what is known to be used."""
    return any(proxy.alive and proxy.ready and proxy.reading is None for proxy in proxies)
