"""Arithmetic on samples: percentiles, ratios of paired runs, and what an ideal pool would have refused."""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Iterable, Sequence


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that `share` (0..1) of all samples do not exceed (nearest rank: no invented values)."""
    if not samples:
        raise ValueError("a percentile of no samples")
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median_ratio(pairs: Iterable[tuple[float, float]]) -> float:
    """The median of a/b over pairs of neighbouring runs: what the machine did meanwhile falls out of each quotient."""
    return statistics.median(a / b for a, b in pairs)


def erlang_b(offered_erlangs: float, places: int) -> float:
    """The share of calls that `places` refuse at Poisson arrivals, whatever the distribution of their lengths."""
    blocked = 1.0
    for place in range(1, places + 1):
        blocked = offered_erlangs * blocked / (place + offered_erlangs * blocked)
    return blocked


def pooled_refusals(calls: Iterable[tuple[float, float]], places: int) -> int:
    """How many of these calls (start, length; in order of start) one single pool of `places` must refuse.

    Erlang B is a long-run mean and a run of two minutes strays far from it. Fed with the very calls of the run, the
    ideal pool strays alike, so the quotient of the two is what the product adds.
    """
    ends: list[float] = []
    refused = 0
    for start, length in calls:
        while ends and ends[0] <= start:
            heapq.heappop(ends)
        if len(ends) < places:
            heapq.heappush(ends, start + length)
        else:
            refused += 1
    return refused
