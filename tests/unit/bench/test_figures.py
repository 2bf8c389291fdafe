"""The bench's arithmetic, against figures known from elsewhere."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.figures import erlang_b, median_ratio, percentile, pooled_refusals


@pytest.mark.parametrize(
    ("erlangs", "places", "blocked"),
    [(1.0, 1, 0.5), (2.0, 2, 0.4), (20.0, 30, 0.00846), (84.1, 100, 0.01), (100.0, 100, 0.0757)],
)
def test_erlang_b_agrees_with_published_tables(erlangs: float, places: int, blocked: float) -> None:
    """The loss formula gives the values of the printed Erlang B tables."""
    assert erlang_b(erlangs, places) == pytest.approx(blocked, rel=0.01)


def test_an_ideal_pool_refuses_what_erlang_b_says() -> None:
    """Over a long run of Poisson arrivals, the replayed pool and the formula agree."""
    draw = random.Random(7)  # noqa: S311 - arrivals, not secrets
    clock, calls = 0.0, []
    for _ in range(200_000):
        clock += draw.expovariate(19.0)
        calls.append((clock, draw.expovariate(1.0)))
    assert pooled_refusals(calls, 20) / len(calls) == pytest.approx(erlang_b(19.0, 20), rel=0.05)


def test_a_place_is_free_again_the_moment_its_call_ends() -> None:
    """Calls that follow each other share a place; one that overlaps a full pool is refused."""
    assert pooled_refusals([(0.0, 1.0), (0.5, 1.0), (1.0, 1.0)], 1) == 1


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_a_sample_that_enough_samples_do_not_exceed(samples: list[float], share: float) -> None:
    """Nearest rank: at least the asked share lies at or below the value, which was really measured."""
    value = percentile(samples, share)
    assert value in samples
    assert sum(sample <= value for sample in samples) >= share * len(samples) - 1e-9


def test_a_percentile_of_nothing_is_an_error() -> None:
    """A row that measured nothing must not print a figure."""
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 0.5)


def test_a_ratio_is_taken_within_each_pair() -> None:
    """A run twice as slow on both sides does not move the ratio."""
    assert median_ratio([(11.0, 10.0), (22.0, 20.0), (1.0, 1.0)]) == pytest.approx(1.1)
