"""Credits piece by piece: ticks, what a predecessor may have outstanding, what reports add up to."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from switchboard.pool import credits as c
from tests.unit.pool.build import a_reading


def test_a_tick_closes_with_the_third_after_it() -> None:
    """Until then its calls may be on their way."""
    assert c.closed(0) == 0
    assert c.closed(3) == 0
    assert c.closed(10) == 7


def test_only_live_ticks_of_the_assigner_count_as_received() -> None:
    """Closed ticks are in the room; other assigners' calls are none of this one's."""
    received = {"a": {7: 100, 8: 2, 10: 3}, "b": {9: 50}}
    assert c.received_live(received, "a", 7) == 5
    assert c.received_live(received, "c", 7) == 0


@settings(deadline=None, derandomize=True)
@given(delays=st.lists(st.floats(0, 30), min_size=6, max_size=20))
def test_the_third_tick_is_four_seconds_away(delays: list[float]) -> None:
    """However late the assigner answers, 4 s pass between its last assignment in a tick and the third tick after."""
    now, ticker = 0.0, c.Ticker(tick=0)
    sent: dict[int, float] = {}
    last_use: dict[int, float] = {}  # an assigner counts under a tick until it acknowledges the next
    for delay in delays:
        ticker = ticker.advance()
        sent[ticker.tick] = now
        assert not ticker.due(now + 1000)
        now += delay
        last_use[ticker.tick - 1] = now
        ticker = ticker.acknowledged(ticker.tick, now)
        assert not ticker.due(now + 1.99)
        assert ticker.due(now + 2)
        now += 2
    for tick in sent:
        if tick + 3 in sent:
            assert sent[tick + 3] - last_use[tick] >= 4 - 1e-9


def test_only_the_assigners_answer_to_the_present_tick_counts() -> None:
    """A late answer to an older tick, or a second one, does not hurry or delay the next tick."""
    ticker = c.Ticker(tick=5)
    assert ticker.acknowledged(4, 10.0) == ticker
    answered = ticker.acknowledged(5, 10.0)
    assert answered.acknowledged(5, 11.0) == answered
    assert answered.due(12.0)


def test_a_new_assigner_answers_first() -> None:
    """Until it has the present tick no other is sent: it would assign under one that is about to close."""
    ticker = c.Ticker(tick=5, acknowledged_at=0.0).reassigned()
    assert ticker == c.Ticker(tick=5)
    assert not ticker.due(1000.0)


def test_ticks_never_go_back() -> None:
    """A ticker that starts anew takes up the newest tick that any proxy has seen."""
    ticker = c.Ticker(tick=5, acknowledged_at=0.0)
    assert ticker.seen(7) == c.Ticker(tick=7)
    assert ticker.seen(5) == ticker
    assert ticker.seen(4) == ticker


def test_reports_of_changes_add_up() -> None:
    """A report holds the counts that changed; each replaces the one before, and ticks long closed are forgotten."""
    known = c.merge_assigned({}, {"p": {9: 1, 10: 4}, "q": {10: 1}}, 10)
    known = c.merge_assigned(known, {"p": {10: 6, 11: 1}}, 11)
    assert known == {"p": {9: 1, 10: 6, 11: 1}, "q": {10: 1}}
    assert c.merge_assigned(known, {}, 40) == {"p": {11: 1}}


def test_a_predecessors_calls_hold_places_until_they_arrive_or_their_tick_closes() -> None:
    """What an assigner gave before it was lost is not given away a second time."""
    before = c.Predecessor(id="old", assigned={"p": {7: 9, 8: 4, 9: 3}}, last_tick=9)
    assert c.pending(before, "p", a_reading(tick=10)) == 7
    assert c.pending(before, "p", a_reading(tick=10, received={"old": {8: 3, 9: 3}})) == 1
    assert c.pending(before, "p", a_reading(tick=12)) == 0
    assert c.pending(before, "q", a_reading(tick=10)) == 0


def test_unreported_calls_hold_places_until_the_last_tick_closes() -> None:
    """A killed primary has assigned since its last report; for how long that matters is known."""
    killed = c.Predecessor(id="old", assigned={}, last_tick=9, unreported=5)
    assert c.pending(killed, "p", a_reading(tick=11)) == 5
    assert c.pending(killed, "p", a_reading(tick=12)) == 0
    assigning = c.Predecessor(id="old", assigned={}, last_tick=None, unreported=5)
    assert c.pending(assigning, "p", a_reading(tick=99)) == 5


def test_a_predecessor_is_forgotten_when_nothing_can_be_outstanding() -> None:
    """At every proxy its last tick is closed."""
    before = c.Predecessor(id="old", assigned={"p": {9: 3}}, last_tick=9)
    assert not c.spent(before, {"p": a_reading(tick=12), "q": a_reading(tick=11)})
    assert c.spent(before, {"p": a_reading(tick=12), "q": a_reading(tick=12)})


def test_a_primary_that_returns_is_not_its_own_predecessor() -> None:
    """Its counts go on where they were; and nobody is counted twice."""
    first = c.Predecessor(id="a", assigned={"p": {5: 1}}, last_tick=5)
    second = c.Predecessor(id="b", assigned={}, last_tick=6)
    again = c.Predecessor(id="a", assigned={"p": {5: 1, 7: 2}}, last_tick=7)
    assert c.succeed((), first, "b") == (first,)
    assert c.succeed((first,), second, "a") == (second,)
    assert c.succeed((first, second), again, "c") == (second, again)


def test_what_a_killed_primary_may_have_assigned_unseen() -> None:
    """Twice its rate for as long as nothing was heard of it: some calls, not all the room of the pool."""
    assert c.expected_unreported(20.0, 0.5) == 20
    assert c.expected_unreported(0.0, 10.0) == 0
