"""How many proxies an autoscaled pool wants: within its bounds, in time, and without going up and down."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchboard.pool.autoscaling import START_SECONDS, Autoscaler, Growth, History, Starts, need
from switchboard.pool.spec import Autoscaling, PoolSpec
from switchboard.pool.table import Proxy
from switchboard.pool.workload import places
from tests.unit.pool.build import a_proxy, a_reading, a_spec, unreported

RULE = Autoscaling(min=2, max=50, headroom=0.25, scale_down_after_seconds=300)
SPEC = a_spec(threshold="80%", capacity={"calls": 100})  # 80 places a proxy
PLACES = places(SPEC.capacity, SPEC.threshold)


def a_pool(*calls: int) -> list[Proxy]:
    """Proxies of 100 calls each that carry so many."""
    return [
        a_proxy(f"p{at}", reading=a_reading(calls=number, workload=number / 100)) for at, number in enumerate(calls)
    ]


def look(  # the last few looks, one a second, at the same pool
    pool: Sequence[Proxy],
    before: Autoscaler | None = None,
    rule: Autoscaling = RULE,
    looks: int = 1,
    at: float = 1000.0,
) -> Autoscaler:
    scaler = before or Autoscaler()
    for second in range(looks):
        scaler = scaler.look(at + second, pool, {}, SPEC, RULE)
    return scaler


def test_headroom_is_a_share_of_the_places() -> None:
    """25 % of 80 places are kept free: 60 calls to a proxy, and the next call asks for one more."""
    after = RULE.scale_down_after_seconds
    assert look(a_pool(60, 60, 60, 60), looks=after + 1).wanted(RULE) == 4
    assert look(a_pool(60, 60, 61, 60), looks=after + 1).wanted(RULE) == 5


@given(
    calls=st.lists(st.integers(0, 200), max_size=60),
    growth=st.floats(-50, 50),
    start_seconds=st.floats(0, 600),
    low=st.integers(1, 30),
    span=st.integers(0, 30),
    headroom=st.integers(1, 90),
)
def test_within_bounds_and_enough_for_the_present_calls(
    *, calls: list[int], growth: float, start_seconds: float, low: int, span: int, headroom: int
) -> None:
    """Never below min nor above max, whatever is measured; between them the present calls stay below the threshold."""
    rule = Autoscaling(min=low, max=low + span, headroom=headroom / 100)
    scaler = Autoscaler(Growth(1000.0, {}, {}, growth), Starts(seconds=(start_seconds,)))
    wanted = scaler.look(1001.0, a_pool(*calls), {}, SPEC, rule).wanted(rule)
    assert rule.min <= wanted <= rule.max
    assert wanted == rule.max or wanted * PLACES >= sum(calls)


@given(calls=st.lists(st.integers(0, 100), max_size=40), data=st.data())
def test_a_constant_load_never_flaps(calls: list[int], data: st.DataObject) -> None:
    """However the same calls move among the proxies, the number falls once at most, and never rises."""
    total, wanted = sum(calls), []
    scaler = Autoscaler()
    for at in range(0, 1200, 60):
        cuts = sorted(data.draw(st.lists(st.integers(0, total), max_size=len(calls))))
        spread = [after - before for before, after in itertools.pairwise([0, *cuts, total])]
        scaler = Autoscaler(Growth(), scaler.starts, scaler.history).look(float(at), a_pool(*spread), {}, SPEC, RULE)
        wanted.append(scaler.wanted(RULE))
    assert wanted == sorted(wanted, reverse=True)
    assert len(set(wanted)) <= 2


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 1000)), min_size=1), st.integers(0, 600))
def test_fewer_only_after_fewer_have_been_enough_for_the_window(looks: list[tuple[int, int]], window: int) -> None:
    """The number is the highest that was needed within the window."""
    history, now, seen = History(), 0, []
    for step, needed in looks:
        now += step
        seen.append((now, needed))
        history = history.next(now, needed, window)
        assert history.highest == max(n for at, n in seen if now - at < window or at == now)
        assert len(history.needs) <= 1001


def test_nothing_is_known_before_the_first_look() -> None:
    assert History().highest == 0
    assert Starts().expected_seconds == START_SECONDS


@given(st.floats(0, 100), st.floats(-5, 5), st.floats(0, 600), st.floats(0, 600), st.floats(0.01, 0.9))
def test_a_slower_start_or_faster_growth_never_asks_for_fewer(
    used: float, growth: float, start: float, more: float, headroom: float
) -> None:
    """What will be there when a proxy could be ready counts; a falling load is left to the window."""
    enough = need(used, growth, start, headroom)
    assert need(used, growth, start + more, headroom) >= enough
    assert need(used, growth + 1, start, headroom) >= enough
    assert need(used, -abs(growth), start, headroom) == need(used, 0, 0, headroom)


def test_an_operator_that_has_just_started_takes_nothing_away() -> None:
    """It keeps the proxies there are for the window, and for as long as one that serves has not reported."""
    idle = a_pool(0, 0, 0, 0)
    started = look(idle)
    assert started.wanted(RULE) == 4
    assert look(idle, started, at=1001.0, looks=300).wanted(RULE) == 2
    silent = [*idle[:3], unreported(idle[3])]
    assert look(silent, look(silent), at=1001.0, looks=600).wanted(RULE) == 4


def test_draining_proxies_are_not_kept_but_their_calls_count() -> None:
    """Their clients call again: the places are needed at the others."""
    leaving = a_proxy("x", reading=a_reading(calls=60, workload=0.6, draining=True), draining_since=1.0)
    assert look([*a_pool(60, 60), leaving]).wanted(RULE) == 3
    idle = a_proxy("x", reading=a_reading(calls=0, workload=0.0, draining=True), draining_since=1.0)
    assert look([*a_pool(60, 60), idle]).wanted(RULE) == 2


def test_growth_is_what_arrives_less_what_ends() -> None:
    """Calls that come and go leave it at 0; a proxy that joins, restarts or is lost does not change it."""
    growth = Growth(0.0, {"a": 1.0, "gone": 5.0}, {"a": 7, "gone": 9})
    steady = growth.next(1.0, {"a": 1.0, "new": 3.0}, {"a": 7, "new": 100}, PLACES)
    assert steady.per_second == 0
    assert growth.next(0.0, {"a": 9.0}, {}, PLACES) is growth
    rising = growth
    for second in range(1, 61):
        rising = rising.next(float(second), {"a": 1.0 + second / 10}, {}, PLACES)
    assert rising.per_second == pytest.approx(0.1, rel=0.01)


def test_calls_turned_away_count_as_growth() -> None:
    """A saturated pool's calls grow no more: what it refuses tells how much is missing."""
    growth = Growth(0.0, {"a": 1.0}, {"a": 0})
    for second in range(1, 61):
        growth = growth.next(float(second), {"a": 1.0}, {"a": 8 * second}, PLACES)
    assert growth.per_second == pytest.approx(0.1, rel=0.01)


def test_the_time_a_proxy_takes_to_start_is_measured() -> None:
    """From the first sight of its pod until it can take calls; one that served before, or restarts, is no start."""
    before, new = a_proxy("a"), unreported(a_proxy("b", ready=False))
    starts = Starts().next(100.0, [before, new]).next(110.0, [before, new])
    assert starts.seconds == ()
    starts = starts.next(112.5, [before, a_proxy("b")])
    assert starts.expected_seconds == 12.5
    down = a_proxy("b", ready=False)
    assert starts.next(120.0, [before, down]).next(500.0, [before, a_proxy("b")]).seconds == (12.5,)
    for at in range(600, 606):
        one = f"n{at}"
        starts = starts.next(at, [unreported(a_proxy(one, ready=False))]).next(at + 1.0, [a_proxy(one)])
    assert starts.seconds == (1.0,) * 5


class World:
    """Poisson arrivals at a pool whose proxies take some seconds to start; calls fill the proxies in turn."""

    def __init__(self, spec: PoolSpec, rule: Autoscaling, *, start_seconds: float, hold_seconds: float) -> None:
        self.spec, self.rule, self.start, self.hold = spec, rule, start_seconds, hold_seconds
        self.random = random.Random(7)  # noqa: S311 (a simulation's, the same each time)
        self.ready: list[float] = [0.0] * rule.min  # when each proxy can take calls
        self.ends: list[float] = []
        self.turned_away = 0
        self.wanted: list[int] = []

    def run(self, rate: Callable[[float], float], seconds: int) -> World:
        scaler = Autoscaler(starts=Starts(seconds=(self.start,)))
        for now in range(1, seconds):
            self._second(float(now), rate(now))
            proxies = self._proxies(float(now))
            scaler = scaler.look(float(now), proxies, {"p0~b": self.turned_away}, self.spec, self.rule)
            self.wanted.append(scaler.wanted(self.rule))
            missing = self.wanted[-1] - len(self.ready)
            self.ready += [now + self.start] * missing
            del self.ready[self.wanted[-1] :]
        return self

    def _second(self, now: float, rate: float) -> None:
        while self.ends and self.ends[0] <= now:
            heapq.heappop(self.ends)
        room = PLACES * sum(at <= now for at in self.ready)
        for _ in range(self._poisson(rate)):
            if len(self.ends) < room:
                heapq.heappush(self.ends, now + self.random.expovariate(1 / self.hold))
            else:
                self.turned_away += 1

    def _poisson(self, mean: float) -> int:
        return max(0, round(self.random.gauss(mean, math.sqrt(mean))))

    def _proxies(self, now: float) -> list[Proxy]:
        calls = len(self.ends)
        proxies: list[Proxy] = []
        for at, since in enumerate(self.ready):
            serves = since <= now
            mine = min(calls, PLACES) if serves else 0
            calls -= mine
            reading = a_reading(calls=mine, workload=mine / 100)
            one = a_proxy(f"p{at}", ready=serves, reading=reading)
            proxies.append(one if serves else unreported(one))
        return proxies


@pytest.mark.parametrize("erlangs", [100, 180, 290, 1000])
def test_random_arrivals_at_a_constant_rate_do_not_make_a_pool_flap(erlangs: int) -> None:
    """An hour and a half of Poisson arrivals: at most one change in a window, and no call is turned away."""
    world = World(SPEC, RULE, start_seconds=20, hold_seconds=180).run(
        lambda now: min(1.0, now / 900) * erlangs / 180, 7200
    )
    settled = world.wanted[1800:]
    changes = sum(before != after for before, after in itertools.pairwise(settled))
    assert changes <= len(settled) / RULE.scale_down_after_seconds
    assert world.turned_away == 0
    assert max(settled) <= math.ceil(1.35 * erlangs / (PLACES * 0.75)) + 1


@pytest.mark.parametrize("start_seconds", [5, 30, 60])
def test_a_ramp_is_met_however_long_a_proxy_takes_to_start(start_seconds: float) -> None:
    """From 60 to 1200 calls within ten minutes: proxies are there before their calls, none is turned away."""
    world = World(SPEC, RULE, start_seconds=start_seconds, hold_seconds=180)
    world.run(lambda now: (60 + 1140 * min(1.0, max(0.0, now - 300) / 600)) / 180, 2400)
    assert world.turned_away == 0


def test_a_burst_that_saturates_the_pool_is_caught_up_with() -> None:
    """Ten times the arrival rate at once: what is turned away counts, and soon the pool is large enough."""
    world = World(SPEC, RULE, start_seconds=20, hold_seconds=180)
    world.run(lambda now: (60 if now < 600 else 600) / 180 * 10, 660)
    before = world.turned_away
    assert before > 0
    late = World(SPEC, RULE, start_seconds=20, hold_seconds=180)
    late.run(lambda now: (60 if now < 600 else 600) / 180 * 10, 700)
    assert late.turned_away - before <= before / 10
