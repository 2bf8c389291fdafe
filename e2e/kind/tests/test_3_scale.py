"""Scaling, rolling changes and hand-over while calls come in: none fails, by SIPp's own statistics.

CALLS is how many the longest of them takes: 10,000, or what the environment says.
"""

import os
from functools import partial

import pytest

from e2e.kind.tests.world import Pool, all_completed, some_answered, until

FEW = 600  # a minute of them
MANY = int(os.environ.get("CALLS", "10000"))


def rate(calls: int) -> float:
    """Calls a second: as slow as lets a change happen meanwhile, and at most 40."""
    return min(40.0, calls / 60)


@pytest.mark.smoke
def test_scale_up_and_down_under_load(pool: Pool) -> None:
    """While calls go on, the pool grows from 2 to 4 and shrinks to 2 again; every call ends as it should."""
    with pool.pbx(), pool.call(calls=FEW, rate=rate(FEW), hold_seconds=4) as load:
        some_answered(load)
        pool.patch(replicas=4)
        pool.ready(4)
        pool.patch(replicas=2)
        pool.ready(2)
        assert load.running, "the calls were over before the change was: nothing was shown"
        all_completed(load, FEW)


@pytest.mark.smoke
@pytest.mark.parametrize(("mode", "calls"), [("forward", MANY), ("redirect", FEW)])
def test_rolling_update_under_load(pool: Pool, mode: str, calls: int) -> None:
    """Changes of the pod template replace every proxy, the primary by hand-over, and in neither mode a call fails."""
    pool.patch(assignment={"mode": mode})
    pool.ready(2)
    with pool.pbx(ring_seconds=0.5), pool.call(calls=calls, rate=rate(calls), hold_seconds=4) as load:
        some_answered(load)
        while load.statistics().offered < calls / 4:
            before = set(pool.pods())
            pool.roll()
            until(partial(replaced, pool, before), "every proxy replaced", within=180)
            pool.ready(2)
        assert load.running, "the calls were over before the change was: nothing was shown"
        all_completed(load, calls, within=60 + calls / rate(calls))


def test_hand_over_of_ringing_calls(pool: Pool) -> None:
    """Calls that ring for two seconds while the primary hands over are answered, all of them."""
    before = pool.entry()
    with pool.pbx(ring_seconds=2), pool.call(calls=400, rate=10, hold_seconds=1) as load:
        some_answered(load)
        pool.roll()
        until(lambda: pool.entry() not in {None, before}, "another primary", within=120)
        assert load.running, "the calls were over before the change was: nothing was shown"
        all_completed(load, 400)
    pool.ready(2)


def replaced(pool: Pool, before: set[str]) -> bool:
    """Whether none of those pods is there any more."""
    return not before & set(pool.pods())
