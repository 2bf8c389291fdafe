"""How full a proxy is, how many calls it has room for, and when it tells."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchboard.pool import workload as w
from switchboard.pool.spec import Capacity, Sharing

CALLS = Capacity(calls=100)
ALL = Capacity(calls=100, cpu_cores=2.0, bandwidth_bits_per_second=20_000_000)
COST = w.CallCost(cpu_cores=0.01, bandwidth_bits_per_second=100_000)


def test_workload_is_the_highest_share() -> None:
    """Whichever resource is fullest decides."""
    assert w.workload(w.Usage(calls=10), ALL) == 0.10
    assert w.workload(w.Usage(calls=10, cpu_cores=1.0), ALL) == 0.50
    assert w.workload(w.Usage(calls=10, bandwidth_bits_per_second=15_000_000), ALL) == 0.75
    assert w.workload(w.Usage(calls=10, cpu_cores=9.0, bandwidth_bits_per_second=9e9), CALLS) == 0.10


def test_media_sessions_without_a_call_are_in_use() -> None:
    """A restarted Kamailio whose rtpengine still relays is not taken for empty."""
    assert w.workload(w.Usage(calls=0, media_sessions=50), CALLS) == 0.5


@given(calls=st.integers(1, 10_000), percent=st.integers(1, 100))
def test_the_last_place_is_taken_just_below_the_threshold(calls: int, percent: int) -> None:
    """A call is admitted if and only if the workload before it is below the threshold, for every capacity."""
    places = w.places(Capacity(calls=calls), percent / 100)
    assert (places - 1) * 100 < percent * calls <= places * 100


def test_room_is_what_the_scarcest_resource_allows() -> None:
    """Threshold 80 %: calls, CPU and bandwidth each limit the room, and it is never below zero."""
    assert w.room(w.Usage(calls=20), ALL, 0.8, COST) == 60
    assert w.room(w.Usage(calls=20, cpu_cores=1.4), ALL, 0.8, COST) == 20
    assert w.room(w.Usage(calls=20, bandwidth_bits_per_second=15_950_000), ALL, 0.8, COST) == 1
    assert w.room(w.Usage(calls=20, cpu_cores=1.9), ALL, 0.8, COST) == 0
    assert w.room(w.Usage(calls=90), ALL, 0.8, COST) == 0


def test_young_calls_count_at_the_expected_cost() -> None:
    """Calls that CPU and bandwidth do not show yet take room there, and no second time among the calls."""
    assert w.room(w.Usage(calls=20, cpu_cores=1.4, young=15), ALL, 0.8, COST) == 5
    assert w.room(w.Usage(calls=20, young=15), CALLS, 0.8, COST) == 60


def test_the_ceiling_is_absolute() -> None:
    """Kamailio compares its own count with it, so it moves only when a measured resource or an orphan says so."""
    assert w.ceiling(w.Usage(calls=0), CALLS, 0.8, COST) == 80
    assert w.ceiling(w.Usage(calls=80), CALLS, 0.8, COST) == 80
    assert w.ceiling(w.Usage(calls=20, cpu_cores=1.4), ALL, 0.8, COST) == 40


def test_orphaned_media_lowers_the_ceiling() -> None:
    """Calls that a restarted Kamailio has forgotten keep their places until their media ends."""
    assert w.ceiling(w.Usage(calls=0, media_sessions=50), CALLS, 0.8, COST) == 30
    assert w.ceiling(w.Usage(calls=0, media_sessions=500), CALLS, 0.8, COST) == 0


def test_a_resource_without_room_closes_the_proxy() -> None:
    """A call that ends does not open a proxy again whose CPU is above the threshold."""
    assert w.ceiling(w.Usage(calls=20, cpu_cores=1.7), ALL, 0.8, COST) == 0


@given(
    calls=st.integers(0, 200),
    media=st.integers(0, 200),
    cpu=st.floats(0, 3),
    bandwidth=st.integers(0, 30_000_000),
    young=st.integers(0, 50),
)
def test_ceiling_and_room_say_the_same(calls: int, media: int, cpu: float, bandwidth: int, young: int) -> None:
    """At the reading, Kamailio admits exactly as many calls as the report says there is room for."""
    usage = w.Usage(calls=calls, media_sessions=media, cpu_cores=cpu, bandwidth_bits_per_second=bandwidth, young=young)
    admitted = max(0, w.ceiling(usage, ALL, 0.8, COST) - calls)
    assert admitted == w.room(usage, ALL, 0.8, COST)


@given(
    calls=st.integers(0, 200),
    media=st.integers(0, 200),
    cpu=st.floats(0, 3),
    young=st.integers(0, 50),
    percent=st.integers(1, 100),
)
def test_urgent_calls_have_full_capacity(calls: int, media: int, cpu: float, young: int, percent: int) -> None:
    """Whatever the threshold, urgent calls have at least the room of the others, and none beyond the capacity."""
    usage = w.Usage(calls=calls, media_sessions=media, cpu_cores=cpu, young=young)
    threshold = percent / 100
    assert w.ceiling(usage, ALL, threshold, COST) <= w.ceiling(usage, ALL, w.FULL, COST) <= ALL.calls
    assert w.room(usage, ALL, threshold, COST) <= w.room(usage, ALL, w.FULL, COST) <= max(0, ALL.calls - calls)


def test_cost_follows_what_is_measured() -> None:
    """A call's cost is learned from settled calls, smoothed."""
    cost = first = w.expected_cost(ALL)
    assert first == w.CallCost(cpu_cores=0.01, bandwidth_bits_per_second=100_000)
    usage = w.Usage(calls=50, cpu_cores=1.0, bandwidth_bits_per_second=8_000_000, young=10)
    for _ in range(600):
        cost = cost.learn(usage, ALL, 0.1)
    assert math.isclose(cost.cpu_cores, 0.025, rel_tol=0.01)
    assert math.isclose(cost.bandwidth_bits_per_second, 200_000, rel_tol=0.01)
    assert cost.learn(usage, ALL, 0.0) == cost


def test_few_calls_teach_nothing() -> None:
    """What the processes need when idle is not taken for the cost of the first calls."""
    first = w.expected_cost(ALL)
    assert first.learn(w.Usage(calls=8, cpu_cores=1.0, young=4), ALL, 10.0) is first


def test_a_call_never_seems_to_cost_nothing() -> None:
    """Readings without media (all on hold) do not make room for any number of calls."""
    cost = w.expected_cost(ALL)
    for _ in range(100):
        cost = cost.learn(w.Usage(calls=50), ALL, 10.0)
    assert cost == w.CallCost(cpu_cores=0.001, bandwidth_bits_per_second=10_000)


def test_saturation_has_hysteresis() -> None:
    """A proxy that lost its last place stays saturated until it is clearly below the threshold."""

    def after(before: bool, room: int, workload: float) -> bool:
        return w.saturated(before, room=room, workload=workload, threshold=0.8, change=0.02)

    assert after(before=False, room=0, workload=0.8)
    assert after(before=True, room=1, workload=0.79)
    assert not after(before=True, room=2, workload=0.78)
    assert not after(before=False, room=1, workload=0.79)


def test_crossing_is_either_way() -> None:
    """At the threshold counts as above it."""
    assert w.crossed(0.79, 0.80, 0.8)
    assert w.crossed(0.80, 0.79, 0.8)
    assert not w.crossed(0.80, 0.99, 0.8)
    assert not w.crossed(0.10, 0.79, 0.8)


@pytest.mark.parametrize(
    ("now", "silent", "cause"),
    [
        (w.Shared(room=60, workload=0.20), 0.4, None),
        (w.Shared(room=60, workload=0.20), 0.5, "period"),
        (w.Shared(room=59, workload=0.21), 0.0, None),
        (w.Shared(room=58, workload=0.22), 0.0, "change"),
        (w.Shared(room=58, workload=0.18), 0.0, "change"),
        (w.Shared(room=0, workload=0.20), 0.0, "threshold"),
        (w.Shared(room=0, workload=0.85), 0.0, "threshold"),
    ],
)
def test_why_a_proxy_reports(now: w.Shared, silent: float, cause: str | None) -> None:
    """Claims 7 and 8: periodically, and at once on a change or a crossing, its own last place included."""
    told = w.Shared(room=60, workload=0.20)
    assert w.report_cause(told, now, silent, sharing=Sharing(), threshold=0.8, places=80) == cause


def test_a_freed_place_is_reported_at_once() -> None:
    """A proxy whose room was 0 tells of the first place that comes free, however small the change."""
    full, freed = w.Shared(room=0, workload=0.8), w.Shared(room=1, workload=0.7999)
    assert w.report_cause(full, freed, 0.0, sharing=Sharing(), threshold=0.8, places=80) == "threshold"


def test_reports_come_more_often_as_room_shrinks() -> None:
    """A late report wastes places only when few are left."""
    assert w.report_period(0.5, room=80, places=80) == 0.5
    assert w.report_period(0.5, room=8, places=80) == 0.25
    assert w.report_period(0.5, room=0, places=80) == 0.125
