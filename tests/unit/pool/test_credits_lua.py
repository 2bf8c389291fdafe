"""Several SIP workers at once: whatever the order of their steps, a race may cost a place and never makes one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from switchboard.pool.credits import MAX_LIVE_TICKS, Assigner
from switchboard.pool.table import Row
from tests.unit.pool.lua import Lua

TICK = 10


def a_row(room: int, received: int = 0, closed: int = TICK - 3) -> Row:
    return Row(id="p~b", uri="sip:198.18.0.1:5060", advertise="", room=room, received=received, closed=closed, weight=1)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    room=st.integers(0, 6),
    received=st.integers(0, 4),
    before=st.lists(st.integers(TICK - 4, TICK), max_size=8),
    workers=st.lists(st.lists(st.sampled_from([TICK, TICK + 1]), min_size=1, max_size=4), min_size=2, max_size=4),
    order=st.lists(st.integers(0, 3), max_size=80),
)
def test_workers_together_never_take_more_than_the_room(
    room: int, received: int, before: list[int], workers: list[list[int]], order: list[int]
) -> None:
    """SIP workers that take places at the same time, also while a tick changes, together stay within the room."""
    lua, level = Lua(), a_row(room + received, received)
    earlier = [tick for tick in sorted(before) if lua.worker().take(level, tick)]
    running = {number: lua.racing(level, sorted(ticks)) for number, ticks in enumerate(workers)}
    taken: list[int] = []
    for number in [*order, *(number for number in running for _ in range(200))]:
        if number in running and (result := running[number]()) is not None:
            taken += [int(tick) for tick in result.split()]
            del running[number]
    assert not running

    live = [tick for tick in earlier if tick > level.closed] + taken
    assert len(live) <= level.room + received
    for tick in range(TICK - 3, TICK + 2):
        assert lua.count("p~b", tick) == (earlier + taken).count(tick), "a failed take left a count behind"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("take"), st.integers(1, 45)),
            st.tuples(st.just("give_back"), st.integers(0, 50)),
            st.tuples(st.just("level"), st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 40))),
        ),
        max_size=60,
    )
)
def test_both_languages_count_the_same(steps: list[tuple[str, object]]) -> None:
    """Lua in Kamailio and Python give the same answers for any history, ticks that jump or go back included."""
    lua, python, level = Lua().worker(), Assigner(), a_row(3, closed=0)
    taken: list[int] = []
    for what, value in steps:
        if isinstance(value, tuple):
            level = a_row(*value)
        elif what == "take" and isinstance(value, int):
            far_apart = taken and abs(value - taken[-1]) > 1
            if far_apart and value < taken[-1]:
                continue  # one Kamailio's tick does not go back by more than a worker's moment
            assert lua.free(level, value) == python.free(level, value)
            expected = python.take(level, value)
            assert lua.take(level, value) == expected
            taken += [value] * expected
        elif taken and isinstance(value, int):
            tick = taken.pop(value % len(taken))
            python.give_back("p~b", tick)
            lua.give_back("p~b", tick)


def test_a_tick_that_is_already_closed_is_not_used() -> None:
    """An assigner that has missed ticks assigns nothing until it has the present one: it would not count as pending."""
    level = a_row(5, closed=TICK)
    assert not Lua().worker().take(level, TICK)
    assert Assigner().free(level, TICK) == 0
    assert Lua().worker().take(level, TICK + 1)


def test_a_row_without_news_for_a_minute_is_not_trusted() -> None:
    """Counters are forgotten after 120 s, so a row whose ticks reach further back would offer places that are taken."""
    lua = Lua()
    level = a_row(5, closed=0)
    assert lua.worker().take(level, MAX_LIVE_TICKS)
    assert not lua.worker().take(level, MAX_LIVE_TICKS + 1)
    assert not Assigner().take(level, MAX_LIVE_TICKS + 1)
    assert int(lua.harness.max_live_ticks) == MAX_LIVE_TICKS


def test_more_received_than_assigned_makes_no_place() -> None:
    """Arrivals that this assigner does not know of (given back too early) do not add to the room it has."""
    assert Assigner().free(a_row(2, received=9), TICK) == 2
    assert Lua().worker().free(a_row(2, received=9), TICK) == 2
    assert not Lua().worker().take(a_row(0, received=9), TICK)
