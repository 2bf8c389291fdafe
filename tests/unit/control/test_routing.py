"""The routing table, kept up to date row by row."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from switchboard.control.routing import RoutingTable
from switchboard.pool.table import Proxy, Reading, compute

NAMES = ("a", "b", "c", "d")
ASSIGNER = "a~1"


def proxy(name: str, **changes: object) -> Proxy:
    reading = {"boot": "1", "seq": 1, "tick": 5, "room": 9, "calls": 0, "workload": 0.0, "sampled_at": 0.0} | changes
    return Proxy(
        name=name,
        address=f"127.0.0.{NAMES.index(name) + 1}",
        port=5060,
        advertise="x:5060",
        created=float(NAMES.index(name)),
        ready=True,
        link="up",
        reading=Reading(**reading),  # type: ignore[arg-type]  # one of its fields, changed by a test
    )


def table_of(*proxies: Proxy) -> RoutingTable:
    table = RoutingTable()
    table.rebuild(proxies, ASSIGNER, 10, (), 1.0)
    return table


def test_the_first_change_is_the_whole_table() -> None:
    """Who has nothing yet gets every row."""
    change = table_of(proxy("a"), proxy("b")).take()
    assert change is not None
    assert change.rows is None


def test_then_only_changed_rows() -> None:
    """After that a report costs one row, whatever the size of the pool."""
    table = table_of(proxy("a"), proxy("b"), proxy("c"))
    table.take()
    assert table.update(proxy("b", room=3, sampled_at=2.5))
    change = table.take()
    assert change is not None
    assert change.rows is not None
    assert [(row.id, row.room) for row in change.rows] == [("b~1", 3)]
    assert change.since == 2.5
    assert table.take() is None


def test_a_report_without_news_is_no_change() -> None:
    """A periodic report that changes no row pushes nothing."""
    table = table_of(proxy("a"))
    table.take()
    assert table.update(proxy("a", seq=2, sampled_at=3.0))
    assert table.take() is None


def test_who_comes_or_goes_asks_for_a_rebuild() -> None:
    """A proxy that is not in the table and should be, or the other way round, is told to the caller."""
    table = table_of(proxy("a"))
    assert not table.update(proxy("b"))
    assert not table.update(proxy("a", media_ok=False))


def test_a_push_that_was_lost_is_followed_by_the_whole_table() -> None:
    """Nobody knows what the primary has after a lost push: it gets everything."""
    table = table_of(proxy("a"))
    table.take()
    table.lost(4.0)
    change = table.take()
    assert change is not None
    assert change.rows is None


def test_the_same_again_is_no_change() -> None:
    """A reconcile that finds nothing new pushes nothing."""
    table = table_of(proxy("a"), proxy("b"))
    table.take()
    table.rebuild((proxy("a"), proxy("b")), ASSIGNER, 10, (), 2.0)
    assert not table.dirty


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 9), st.integers(5, 9)), max_size=30))
def test_row_by_row_is_the_table_made_at_once(reports: list[tuple[str, int, int]]) -> None:
    """After any reports the rows are those that `pool.table.compute` makes of all proxies."""
    proxies = {name: proxy(name) for name in NAMES}
    table = table_of(*proxies.values())
    for name, room, tick in reports:
        proxies[name] = proxy(name, room=room, tick=tick)
        table.update(proxies[name])
    assert tuple(table.rows) == compute(proxies.values(), ASSIGNER, places=10)
