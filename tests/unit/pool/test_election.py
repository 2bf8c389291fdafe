"""Who is primary, and how a hand-over goes, whoever dies on the way."""

from __future__ import annotations

from typing import Any

import pytest

from switchboard.pool import election as e
from tests.unit.pool.build import a_proxy, a_reading, unreported


def chosen(*proxies: Any, current: str | None = None) -> tuple[str | None, str]:
    election = e.elect(proxies, current)
    return election.primary, election.cause


def test_the_primary_keeps_its_office() -> None:
    """Neither load nor a better candidate takes it away."""
    full = a_proxy("b", reading=a_reading(room=0, workload=0.9))
    assert chosen(a_proxy("a"), full, current="b") == ("b", "kept")


def test_an_operator_that_has_just_started_replaces_nobody() -> None:
    """Its link to the primary has yet to come up; so have those to the others."""
    assert chosen(a_proxy("a"), unreported(a_proxy("b", link="dialing")), current="b") == ("b", "kept")


@pytest.mark.parametrize("facts", [{"ready": False}, {"link": "lost"}, {"failed": True}, {"terminating": True}])
def test_a_lost_primary_is_replaced_at_once(facts: dict[str, Any]) -> None:
    """Killed, unreachable, not answering or being deleted."""
    assert chosen(a_proxy("a"), a_proxy("b", **facts), current="b") == ("a", "lost")


def test_a_primary_that_is_gone_is_replaced() -> None:
    """Its pod has been deleted."""
    assert chosen(a_proxy("a"), current="b") == ("a", "lost")


def test_a_draining_primary_hands_over() -> None:
    """Planned: the successor confirms before the Service moves."""
    assert chosen(a_proxy("a"), a_proxy("b", draining_since=1.0), current="b") == ("a", "draining")


def test_the_first_primary_is_elected() -> None:
    assert chosen(a_proxy("a"), current=None) == ("a", "first")


def test_nothing_is_given_up_for_nothing() -> None:
    """Without a successor a primary stays, draining or cut off as it may be; without any proxy there is none."""
    assert chosen(a_proxy("b", draining_since=1.0), current="b") == ("b", "kept")
    assert chosen(a_proxy("b", link="lost"), a_proxy("a", ready=False), current="b") == ("b", "kept")
    assert chosen(a_proxy("a", ready=False), current=None) == (None, "none")
    assert chosen(a_proxy("b", failed=True), current="b") == (None, "none")


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({}, {"current": False}),
        ({}, {"evicted": True}),
        ({}, {"reading": a_reading(room=0)}),
        ({"reading": a_reading(workload=0.1)}, {"reading": a_reading(workload=0.5)}),
        ({"created": 1.0}, {"created": 2.0}),
    ],
)
def test_the_successor_stays_has_room_carries_little_and_is_old(better: dict[str, Any], worse: dict[str, Any]) -> None:
    """The choice is the same whoever makes it, in whatever order the proxies are listed."""
    good, bad = a_proxy("z", **{"created": 5.0, **better}), a_proxy("a", **{"created": 5.0, **worse})
    assert chosen(good, bad) == chosen(bad, good) == ("z", "first")


def test_among_equals_the_name_decides() -> None:
    assert chosen(a_proxy("b", created=1.0), a_proxy("a", created=1.0)) == ("a", "first")


def test_a_proxy_without_a_report_is_not_elected() -> None:
    """It has said nothing yet."""
    assert e.choose([unreported(a_proxy("a"))]) is None


def seen(**fields: Any) -> e.Seen:
    known = {"new_alive": True, "new_confirmed": True, "entry": "old", "old_alive": True}
    return e.Seen(**{**known, **fields})


def test_a_planned_hand_over_goes_step_by_step() -> None:
    """The Service moves when the new primary has confirmed, and the old one is demoted when the Service has moved."""
    start = e.Handover(new="new", old="old")
    assert e.advance(start, seen(new_confirmed=False)) == start
    switch = e.advance(start, seen())
    assert switch.step == "switch"
    assert e.advance(switch, seen()) == switch
    demote = e.advance(switch, seen(entry="new"))
    assert demote.step == "demote"
    assert e.advance(demote, seen(entry="new")) == demote
    done = e.advance(demote, seen(entry="new", old_demoted=True))
    assert done.step == "done"
    assert done.over
    assert not demote.over
    assert e.advance(done, seen(new_alive=False)) == done


def test_a_lost_primary_is_replaced_without_demoting_it() -> None:
    """There is nobody to wait for; neither when the old one dies in the middle."""
    assert e.advance(e.Handover(new="new", old=None, step="switch"), seen(entry="new")).step == "done"
    assert e.advance(e.Handover(new="new", old="old", step="demote"), seen(entry="new", old_alive=False)).step == "done"


def test_a_successor_that_dies_before_the_switch_changes_nothing() -> None:
    """The old one is still primary, and the Service still points at it."""
    assert e.advance(e.Handover(new="new", old="old"), seen(new_alive=False)).step == "abandoned"


@pytest.mark.parametrize("step", ["switch", "demote"])
def test_a_successor_that_dies_after_the_switch_gives_the_service_back(step: e.Step) -> None:
    """The old one has not been demoted: it has role and table, so only the Service has to move."""
    back = e.advance(e.Handover(new="new", old="old", step=step), seen(new_alive=False, entry="new"))
    assert back == e.Handover(new="old", old="new", step="switch")


@pytest.mark.parametrize("facts", [{"old_alive": False}, {"old_demoted": True}])
def test_when_both_are_gone_somebody_else_is_elected(facts: dict[str, Any]) -> None:
    """Neither holds the role: the hand-over ends, and the election finds the primary lost."""
    handover = e.Handover(new="new", old="old", step="demote")
    assert e.advance(handover, seen(new_alive=False, entry="new", **facts)).step == "abandoned"
    alone = e.Handover(new="new", old=None, step="switch")
    assert e.advance(alone, seen(new_alive=False)).step == "abandoned"
