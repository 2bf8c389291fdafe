"""Plans of calls, the caller that places them, and what a run of it shows."""

from __future__ import annotations

import contextlib
import heapq
import math
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import msgspec

from tests.bench.caller import Address, Plan, Planned, Record

PROJECT = pathlib.Path(__file__).parents[2]
REFUSED_STATUS = 503  # the default of spec.assignment.saturated.status, and what the bare Kamailios answer
UNTIL_HUNG_UP = 3600.0  # longer than any run: such a call ends when the run does
BURST = 10.0  # times the arrival rate before it
BASE_SHARE = 0.5  # of the places, taken before the burst
BELOW = 0.99  # of the places: as far as a pool must go without a refusal
BEYOND = 1.25  # of the places: past the last one
SETTLE_SECONDS = 2.0  # after the last call was placed
END_SECONDS = 40.0  # for the BYEs of all calls, sent again as RFC 3261 wants


def burst(places: int, base_seconds: float, unfollowed: float, upto: float, seed: int = 1) -> list[Planned]:
    """Ordinary traffic that ends up in half of the places; then ten times its arrival rate, until `upto` x the places
    are asked for: below 1 the pool has room for all of it.

    The lengths of ordinary calls are exponential, so that proxies stand unequally when the burst comes, as they do.
    Whatever is up when it comes, and its own calls, outlast it.
    """
    draw = random.Random(seed)  # noqa: S311 - arrivals, no secrets
    rate = BASE_SHARE * places / (base_seconds * (1 - math.exp(-1)))
    calls: list[Planned] = []
    ends: list[float] = []  # of the calls that are up
    at = draw.expovariate(rate)
    while len(ends) < upto * places:
        ordinary = at < base_seconds
        length = draw.expovariate(1 / base_seconds)
        if at + length > base_seconds:
            length = UNTIL_HUNG_UP
        calls.append(Planned(at, length, draw.random() >= unfollowed))
        while ends and ends[0] <= at:
            heapq.heappop(ends)
        if calls[-1].follow:
            heapq.heappush(ends, at + length)
        at += draw.expovariate(rate if ordinary else BURST * rate)
    return calls


def steady(erlangs: float, mean_seconds: float, seconds: float, seed: int = 1) -> list[Planned]:
    """Poisson arrivals of calls of exponential length: what Erlang B is about."""
    draw = random.Random(seed)  # noqa: S311 - arrivals, no secrets
    calls: list[Planned] = []
    at = draw.expovariate(erlangs / mean_seconds)
    while at < seconds:
        calls.append(Planned(at, draw.expovariate(1 / mean_seconds)))
        at += draw.expovariate(erlangs / mean_seconds)
    return calls


class Calling:
    """A running caller; `finish` ends its calls and returns their records."""

    def __init__(self, plan: Plan, prefix: Sequence[str]) -> None:
        self.started = time.monotonic()
        self._last = max(call.at for call in plan.calls)
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.bench.caller"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=PROJECT,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(plan))
        self._process.stdin.close()
        self._process.stdin = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def over(self) -> bool:
        """Whether the last call has been placed."""
        return time.monotonic() > self.started + self._last

    def placed(self) -> None:
        """Returns when the last call has been placed and its outcome must be known."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, self.started + self._last + SETTLE_SECONDS - time.monotonic()))

    def finish(self) -> list[Record]:
        self.placed()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        output, _ = self._process.communicate(timeout=END_SECONDS)
        if self._process.returncode != 0:
            raise RuntimeError(f"the caller ended with status {self._process.returncode}; its error is above")
        return msgspec.json.decode(output, type=list[Record])

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def calling(
    target: Address,
    source: Address,
    calls: list[Planned],
    prefix: Sequence[str] = (),
    *,
    refused_status: int = REFUSED_STATUS,
) -> Iterator[Calling]:
    caller = Calling(Plan(target, source, "bench", refused_status, calls), prefix)
    try:
        yield caller
    finally:
        caller.kill()


class Counts(msgspec.Struct, frozen=True):
    """What proxies have counted."""

    refused: int  # calls refused admission: sent on, or tried elsewhere
    over: int  # calls admitted at or above the threshold

    def __sub__(self, before: Counts) -> Counts:
        return Counts(self.refused - before.refused, self.over - before.over)


class Saturation(msgspec.Struct, frozen=True):
    """The moment a burst was first refused."""

    at: float  # when the client had its 503; infinite: never
    in_use: int  # calls that had a place then

    @classmethod
    def of(cls, records: Sequence[Record]) -> Saturation:
        """What was placed before the first refused call had its place before it, as had what was answered by then."""
        refused = [record for record in records if record.outcome == "refused"]
        first = min(refused, key=lambda record: record.sent, default=None)
        until, end = (first.sent, first.final) if first else (records[-1].sent, records[-1].final)
        held = sum(
            record.outcome == "answered" and record.hung_up > end and (record.sent < until or record.final <= end)
            for record in records
        )
        return cls(first.final if first else float("inf"), held)
