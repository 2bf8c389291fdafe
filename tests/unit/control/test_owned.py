"""What counts as drift, and reading one's own writes."""

from __future__ import annotations

from typing import Any

import pytest

from switchboard.control.overlay import UNSEEN_SECONDS, Overlay
from switchboard.control.owned import covers


@pytest.mark.parametrize(
    ("wanted", "current", "so"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 2]}}, True),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"a": [{"x": 1}]}, {"a": [{"x": 1, "default": 3}]}, True),
        ({"a": []}, {}, True),
        ({"a": {}}, {"a": None}, True),
        ({"a": False}, {}, True),
        ({"a": "x"}, {}, False),
        ({"a": {"b": 1}}, {"a": 5}, False),
        ({"ownerReferences": [{"uid": "1"}]}, {"ownerReferences": [{"uid": "2"}, {"uid": "1", "x": 1}]}, True),
        ({"ownerReferences": [{"uid": "1"}]}, {"ownerReferences": [{"uid": "2"}]}, False),
        ({"data": {"a": "1"}}, {"data": {"a": "1"}}, True),
        ({"data": {"a": "1"}}, {"data": {"a": "1", "b": "2"}}, False),
    ],
)
def test_what_counts_as_drift(wanted: dict[str, Any], current: dict[str, Any], so: bool) -> None:
    """Something wanted that is missing or other is drift; what the API server or others add is not."""
    assert covers(wanted, current) is so


class Time:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def overlay(time: Time) -> Overlay[str, int]:
    """Values are their own versions."""
    return Overlay(lambda value: value, time)


def test_what_was_written_counts_until_the_watch_shows_it() -> None:
    """A reconcile that follows a write at once sees it, so it starts no pod twice."""
    seen = overlay(Time())
    seen.wrote("pod", 7)
    assert seen.over({}) == {"pod": 7}
    assert seen.over({"pod": 6}) == {"pod": 7}
    assert seen.over({"pod": 7}) == {"pod": 7}
    assert seen.over({"pod": 9}) == {"pod": 9}


def test_what_the_watch_has_shown_and_takes_away_is_gone() -> None:
    """An object that was deleted after our write is not seen for ever."""
    seen = overlay(Time())
    seen.wrote("pod", 7)
    assert seen.over({"pod": 6}) == {"pod": 7}
    assert seen.over({}) == {}


def test_what_the_watch_never_shows_is_given_up() -> None:
    """A pod that was created and deleted between two looks does not count for ever."""
    time = Time()
    seen = overlay(time)
    seen.wrote("pod", 7)
    time.now = UNSEEN_SECONDS + 1
    assert seen.over({}) == {}
