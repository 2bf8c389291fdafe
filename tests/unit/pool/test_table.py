"""The routing table: who is in it, in which order, and what one row says."""

from __future__ import annotations

from typing import Any

import pytest

from switchboard.pool import table as t
from switchboard.pool.credits import Predecessor
from tests.unit.pool.build import a_proxy, a_reading, unreported


def ids(rows: tuple[t.Row, ...]) -> list[str]:
    return [row.id for row in rows]


def test_a_row_is_made_from_the_last_report() -> None:
    """Room, what has arrived in live ticks, and the closed tick come from one reading."""
    reading = a_reading(tick=10, received={"me": {7: 9, 8: 1, 10: 2}, "other": {10: 5}})
    row = t.row(a_proxy("p", reading=reading), reading, "me", places=80)
    assert row == t.Row(
        id="p~b",
        uri="sip:198.18.0.1:5060",
        advertise="198.18.0.1:5060",
        room=60,
        received=3,
        closed=7,
        weight=15,
    )


def test_a_predecessors_calls_reduce_the_room() -> None:
    """A new assigner does not give away what the one before it may have given; its own counts are its own."""
    reading = a_reading(room=5)
    before = Predecessor(id="old", assigned={"p~b": {9: 3}}, last_tick=9)
    many = Predecessor(id="older", assigned={"p~b": {9: 30}}, last_tick=9)
    proxy = a_proxy("p", reading=reading)
    assert t.row(proxy, reading, "me", places=80, predecessors=[before]).room == 2
    assert t.row(proxy, reading, "old", places=80, predecessors=[before]).room == 5
    assert t.row(proxy, reading, "me", places=80, predecessors=[before, many]).room == 0


@pytest.mark.parametrize(
    ("facts", "leaving", "gone"),
    [
        ({}, False, False),
        ({"draining_since": 1.0}, True, False),
        ({"draining_since": 1.0, "terminating": True}, True, False),
        ({"draining_since": 1.0, "terminating": True, "link": "lost"}, False, False),
        ({"draining_since": 1.0, "terminating": True, "link": "lost", "ready": False}, False, True),
        ({"draining_since": 1.0, "link": "lost", "ready": False}, True, False),
        ({"draining_since": 1.0, "failed": True}, False, True),
    ],
)
def test_a_deleted_proxy_leaves_until_nothing_is_heard_of_it(facts: dict[str, Any], leaving: bool, gone: bool) -> None:
    """A pod that is deleted drains as long as its agent speaks; its calls are over when pod and link are both lost."""
    proxy = a_proxy("p", **facts)
    assert (proxy.leaving, proxy.gone) == (leaving, gone)


@pytest.mark.parametrize(("room", "weight"), [(0, 1), (1, 1), (4, 1), (5, 2), (60, 15), (80, 20), (99, 20)])
def test_the_weight_is_the_free_share_in_coarse_steps(room: int, weight: int) -> None:
    """Policy weighted prefers proxies with more room; the weight moves rarely."""
    reading = a_reading(room=room)
    assert t.row(a_proxy(reading=reading), reading, "me", places=80).weight == weight


def test_ipv6_addresses_are_bracketed_in_uris() -> None:
    """A peer reaches a proxy on either family."""
    assert t.sip_uri("2001:db8::1", 5080) == "sip:[2001:db8::1]:5080"


@pytest.mark.parametrize(
    "facts",
    [
        {"ready": False},
        {"draining_since": 1.0},
        {"compatible": False},
        {"failed": True},
        {"terminating": True},
        {"reading": a_reading(media_ok=False)},
        {"reading": a_reading(draining=True)},
    ],
)
def test_who_cannot_take_calls_is_left_out(facts: dict[str, Any]) -> None:
    """Unready, draining, going, speaking another protocol, or without media: no row."""
    assert t.compute([a_proxy("a"), a_proxy("b", **facts)], "me", places=80)[0].id == "a~b"
    assert len(t.compute([a_proxy("a"), a_proxy("b", **facts)], "me", places=80)) == 1


def test_a_proxy_without_a_report_has_no_row() -> None:
    """Its room is not known, and neither is its run."""
    proxy = unreported(a_proxy("a"))
    assert t.compute([proxy], "me", places=80) == ()
    assert proxy.id == ""
    assert proxy.calls == 0


def test_a_lost_link_leaves_the_row_as_it_was() -> None:
    """The proxy may be well: what it was last known to have room for may still be assigned, no more."""
    up, lost = a_proxy("a"), a_proxy("a", link="lost")
    assert t.compute([up], "me", places=80) == t.compute([lost], "me", places=80)


def test_the_order_is_that_of_creation_whatever_the_load() -> None:
    """Policy first fills the same proxies first for as long as they live; a report never changes the order."""
    proxies = [
        a_proxy("c", created=1.0, reading=a_reading(room=0)),
        a_proxy("b", created=2.0, reading=a_reading(room=60)),
        a_proxy("a", created=2.0, reading=a_reading(room=99)),
    ]
    assert ids(t.compute(proxies, "me", places=80)) == ["c~b", "a~b", "b~b"]
    assert ids(t.compute(reversed(proxies), "me", places=80)) == ["c~b", "a~b", "b~b"]


def test_the_short_list_is_the_best_in_table_order() -> None:
    """Proxies that are not primary hold the candidates with most room, to forward on without the primary."""
    rows = t.compute(
        [a_proxy(name, reading=a_reading(room=room)) for name, room in zip("abcd", (1, 9, 5, 9), strict=True)],
        "me",
        places=80,
    )
    assert ids(t.shortlist(rows, 3)) == ["b~b", "c~b", "d~b"]
    assert ids(t.shortlist(rows)) == ids(rows)


def test_an_older_report_changes_nothing() -> None:
    """Repeated and overtaken reports are dropped; another run of Kamailio begins anew."""
    held = a_reading(seq=5)
    assert t.newer(None, held)
    assert t.newer(held, a_reading(seq=6))
    assert not t.newer(held, a_reading(seq=5))
    assert not t.newer(held, a_reading(seq=4))
    assert t.newer(held, a_reading(boot="c", seq=1))
