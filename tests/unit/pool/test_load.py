"""The load ConfigMap: what it holds, when it is written, and how a proxy starts from it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from switchboard.pool import load
from switchboard.pool.table import Proxy
from tests.unit.pool.build import a_proxy, a_reading, unreported

CLOCK = load.Clock(monotonic=101.0, wall=1_700_000_000.0)


def a_document(*proxies: Proxy, primary: str | None = "a", threshold: float = 0.8) -> load.LoadDocument:
    return load.load_document(
        proxies,
        CLOCK,
        pool="edge",
        version=(3, 7),
        primary=primary,
        threshold=threshold,
        stale_after_seconds=3.0,
    )


def test_the_document_holds_what_each_proxy_carries() -> None:
    """One key, one JSON document: who is primary, the threshold, and each proxy's workload and when it was read."""
    document = json.loads(load.encode(a_document(a_proxy("b"), unreported(a_proxy("a", ready=False)))))
    assert document == {
        "pool": "edge",
        "version": [3, 7],
        "publishedAt": "2023-11-14T22:13:20.000Z",
        "primary": "a",
        "threshold": 0.8,
        "proxies": [
            {
                "name": "a",
                "id": "",
                "address": "198.18.0.1",
                "port": 5060,
                "advertise": "198.18.0.1:5060",
                "state": "unready",
                "calls": 0,
                "workload": 0.0,
                "limit": 0,
                "sampledAt": "",
            },
            {
                "name": "b",
                "id": "b~b",
                "address": "198.18.0.1",
                "port": 5060,
                "advertise": "198.18.0.1:5060",
                "state": "ready",
                "calls": 20,
                "workload": 0.2,
                "limit": 80,
                "sampledAt": "2023-11-14T22:13:19.000Z",
            },
        ],
    }


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({}, "ready"),
        ({"saturated": True}, "saturated"),
        ({"reading": a_reading(sampled_at=97.0)}, "stale"),
        ({"reading": a_reading(media_ok=False)}, "mediaDown"),
        ({"draining_since": 1.0}, "draining"),
        ({"reading": a_reading(draining=True)}, "draining"),
        ({"ready": False, "draining_since": 1.0}, "unready"),
        ({"terminating": True}, "unready"),
    ],
)
def test_states_tell_what_matters_most(facts: dict[str, Any], state: str) -> None:
    """A proxy has one state; the one that keeps it from taking calls comes first."""
    assert load.state(a_proxy(**facts), now=101.0, stale_after_seconds=3.0) == state


def test_the_first_document_is_written_at_once() -> None:
    assert load.must_publish(None, a_document(), 0.0, 0.02)


def test_nothing_is_written_when_nothing_moved() -> None:
    """An idle pool writes nothing, however long; a number of calls or a version alone is no reason."""
    old = a_document(a_proxy("a"))
    trembling = a_document(a_proxy("a", reading=a_reading(workload=0.215, calls=21, seq=9)))
    assert not load.must_publish(old, msgspec.structs.replace(old, version=(4, 1)), 3600.0, 0.02)
    assert not load.must_publish(old, trembling, 3600.0, 0.02)


@pytest.mark.parametrize(
    "new",
    [
        a_document(a_proxy("a", reading=a_reading(workload=0.22))),
        a_document(a_proxy("a", saturated=True)),
        a_document(a_proxy("a", draining_since=1.0)),
        a_document(a_proxy("a", address="198.18.0.9")),
        a_document(a_proxy("a", reading=a_reading(boot="c"))),
        a_document(a_proxy("a"), a_proxy("b")),
        a_document(a_proxy("a"), primary="b"),
        a_document(a_proxy("a"), threshold=0.7),
    ],
)
def test_what_moved_is_written_once_the_interval_has_passed(new: load.LoadDocument) -> None:
    """A workload that moved by `change`, a state, the membership, the primary or the threshold."""
    old = a_document(a_proxy("a"))
    assert load.must_publish(old, new, 1.25, 0.02)
    assert not load.must_publish(old, new, 1.2, 0.02)


def test_a_large_pool_is_written_less_often() -> None:
    """Every 1.25 s for a small pool, every 10 s at 1000 proxies."""
    assert load.publish_interval(3) == 1.25
    assert load.publish_interval(100) == 1.25
    assert load.publish_interval(1000) == 10.0
