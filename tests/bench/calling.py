"""Plans of calls, the caller that places them, and what a run of it shows."""

from __future__ import annotations

import contextlib
import math
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import msgspec

from tests.bench.caller import Address, Plan, Planned, Record

PROJECT = pathlib.Path(__file__).parents[2]
UNTIL_HUNG_UP = 3600.0  # longer than any run: such a call ends when the run does
BURST = 10.0  # times the arrival rate before it
BASE_SHARE = 0.5  # of the places, taken before the burst
BURST_SHARE = 0.75  # of the places: the burst goes on beyond the last one
SETTLE_SECONDS = 2.0  # after the last call was placed
END_SECONDS = 40.0  # for the BYEs of all calls, sent again as RFC 3261 wants


def burst(places: int, base_seconds: float, unfollowed: float, seed: int = 1) -> list[Planned]:
    """Ordinary traffic that ends up in half of the places; then ten times its arrival rate, until past the last place.

    The lengths of ordinary calls are exponential, so that proxies stand unequally when the burst comes, as they do.
    Those of the burst outlast it.
    """
    draw = random.Random(seed)  # noqa: S311 - arrivals, no secrets
    rate = BASE_SHARE * places / (base_seconds * (1 - math.exp(-1)))
    calls: list[Planned] = []
    at, bursting = draw.expovariate(rate), 0
    while bursting < BURST_SHARE * places:
        ordinary = at < base_seconds
        length = draw.expovariate(1 / base_seconds) if ordinary else UNTIL_HUNG_UP
        calls.append(Planned(at, length, draw.random() >= unfollowed))
        bursting += not ordinary
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

    def __init__(self, target: Address, source: Address, calls: list[Planned], prefix: Sequence[str]) -> None:
        self.started = time.monotonic()
        self._last = max(call.at for call in calls)
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.bench.caller"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=PROJECT,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(Plan(target, source, "bench", calls)))
        self._process.stdin.close()
        self._process.stdin = None

    @property
    def pid(self) -> int:
        return self._process.pid

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
def calling(target: Address, source: Address, calls: list[Planned], prefix: Sequence[str] = ()) -> Iterator[Calling]:
    caller = Calling(target, source, calls, prefix)
    try:
        yield caller
    finally:
        caller.kill()


class Counts(msgspec.Struct, frozen=True):
    """What proxies have counted so far; `at`: seconds of the machine's monotonic clock, when the reading began."""

    at: float
    refused: int  # calls refused admission and sent on
    over: int  # calls admitted at or above the threshold


class Poller:
    """Reads counts in the background for as long as the block runs."""

    def __init__(self, read: Callable[[], Counts], every_seconds: float = 0.1) -> None:
        self._read, self._every_seconds = read, every_seconds
        self._counts = [read()]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll)
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def since_start(self, moment: float | None = None) -> Counts:
        """What was counted from the start until `moment`: by the last reading that began before; None: until now."""
        if self._error is not None:
            raise self._error
        first = self._counts[0]
        last = self._read() if moment is None else [one for one in self._counts if one.at <= moment or one is first][-1]
        return Counts(last.at, last.refused - first.refused, last.over - first.over)

    def _poll(self) -> None:
        try:
            while not self._ended.wait(self._every_seconds):
                self._counts.append(self._read())
        except Exception as error:  # noqa: BLE001 - told to whoever asks for the counts
            self._error = error


class Saturation(msgspec.Struct, frozen=True):
    """The moment a burst was first refused."""

    at: float  # when the client had its 503; infinite: never
    offered: int  # calls placed before that call
    in_use: int  # of those, the ones that got a place and kept it

    @classmethod
    def of(cls, records: Sequence[Record]) -> Saturation:
        """Calls are assigned in turn: what was placed before the first refused one had its place before it."""
        refused = [record for record in records if record.outcome == "refused"]
        first = min(refused, key=lambda record: record.sent, default=None)
        until, end = (first.sent, first.final) if first else (records[-1].sent, records[-1].final)
        before = [record for record in records if record.sent < until]
        held = sum(record.outcome == "answered" and record.hung_up > end for record in before)
        return cls(first.final if first else float("inf"), len(before), held)
