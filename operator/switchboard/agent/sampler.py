"""One reading of the proxy, twenty times a second: what it carries, and how many calls more it may take.

The order is what makes credits safe (docs/contracts.md): the newest tick first, then what arrived by tick, then the
calls in use. A call in between is in use and not yet received: that costs a place and never makes one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import msgspec

from switchboard.agent.apply import Admission
from switchboard.agent.counts import NEW, ByTick, Counts
from switchboard.agent.gateways import GatewayCounts
from switchboard.agent.kamailio import Kamailio, Key
from switchboard.agent.processes import Processes
from switchboard.agent.rtpengine import Rtpengine
from switchboard.link.messages import Settings
from switchboard.pool import workload
from switchboard.pool.spec import Capacity
from switchboard.pool.workload import FULL, CallCost, Usage, expected_cost

SAMPLE_SECONDS: Final = 0.05
YOUNG_SECONDS: Final = 1.2  # CPU and bandwidth are averages over a second, of readings up to 0.1 s old
SLOW_SAMPLES: Final = 4  # CPU, and ringing calls where bandwidth counts, are read with every fourth sample

_IN_USE: Final[Key] = ("use", "calls")
_ADMITTED: Final[Key] = ("cnt", "admitted")


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One reading. `room` and `workload` are 0 before the settings are known."""

    at: float
    boot: str
    tick: int
    usage: Usage
    received: ByTick
    room: int
    spare: int = 0  # for urgent calls: up to full capacity
    workload: float
    media_ok: bool


class Sampler:
    def __init__(self, kamailio: Kamailio, processes: Processes, rtpengine: Rtpengine | None) -> None:
        self._kamailio = kamailio
        self._processes = processes
        self._rtpengine = rtpengine
        self._capacity: Capacity | None = None
        self._cost = CallCost(cpu_cores=0.0, bandwidth_bits_per_second=0.0)
        self._number = 0
        self._at = 0.0
        self.begin()

    def begin(self) -> None:
        """A new run of Kamailio: nothing is known of it."""
        self.counts = Counts(self._kamailio)
        self.gateways = GatewayCounts(self._kamailio)
        self.usage: Usage | None = None
        self._admitted: deque[tuple[float, int]] = deque()  # of the last moments
        self._ringing: deque[tuple[float, int]] = deque()

    @property
    def media_ok(self) -> bool:
        return self._rtpengine is None or self._rtpengine.answers

    async def sample(self, boot: str, tick: int, settings: Settings | None) -> Sample:
        """Read the run of Kamailio named `boot`; `tick` is the newest in effect."""
        received_keys = self.counts.received_keys(tick)
        newest, *received, calls, admitted = await self._kamailio.get([NEW, *received_keys, _IN_USE, _ADMITTED])
        now = asyncio.get_running_loop().time()
        self.counts.take_received(received_keys, received)
        await self.counts.discover(newest)
        await self._read_slow(now, settings)
        self.usage = self._usage(now, int(calls or 0), int(admitted or 0))
        if settings is None:
            room, spare, load = 0, 0, 0.0
        else:
            self._learn(self.usage, settings.capacity, now)
            room = workload.room(self.usage, settings.capacity, settings.threshold, self._cost)
            spare = workload.room(self.usage, settings.capacity, FULL, self._cost)
            load = workload.workload(self.usage, settings.capacity)
        self._at = now
        return Sample(
            at=now,
            boot=boot,
            tick=tick,
            usage=self.usage,
            received={one: dict(counts) for one, counts in self.counts.received.items()},
            room=room if self.media_ok else 0,
            spare=spare if self.media_ok else 0,
            workload=load,
            media_ok=self.media_ok,
        )

    def admission(self, settings: Settings) -> Admission | None:
        """What the last reading says about admission; None before the first."""
        if self.usage is None:
            return None
        self._follow_capacity(settings.capacity)
        ceiling = workload.ceiling(self.usage, settings.capacity, settings.threshold, self._cost)
        full = workload.ceiling(self.usage, settings.capacity, FULL, self._cost)
        return Admission(ceiling, full, self.media_ok)

    def _usage(self, now: float, calls: int, admitted: int) -> Usage:
        rtpengine = self._rtpengine
        return Usage(
            calls=calls,
            media_sessions=rtpengine.sessions if rtpengine else 0,
            cpu_cores=self._processes.cpu_cores,
            bandwidth_bits_per_second=rtpengine.bandwidth_bits_per_second if rtpengine else 0.0,
            young=max(self._admitted_lately(now, admitted), max((count for _, count in self._ringing), default=0)),
        )

    def _admitted_lately(self, now: float, admitted: int) -> int:
        """Calls of the last moments."""
        self._admitted.append((now, admitted))
        _keep(self._admitted, now - YOUNG_SECONDS)
        return admitted - self._admitted[0][1]

    async def _read_slow(self, now: float, settings: Settings | None) -> None:
        self._number += 1
        if self._number % SLOW_SAMPLES != 1:
            return
        self._processes.sample(now)
        if settings is not None and settings.capacity.bandwidth_bits_per_second:
            stats = await self._kamailio.call("dlg.stats_active")
            self._ringing.append((now, stats["starting"] + stats["connecting"]))
            _keep(self._ringing, now - YOUNG_SECONDS)

    def _learn(self, usage: Usage, capacity: Capacity, now: float) -> None:
        self._follow_capacity(capacity)
        self._cost = self._cost.learn(usage, capacity, min(now - self._at, 1.0))

    def _follow_capacity(self, capacity: Capacity) -> None:
        if capacity != self._capacity:
            self._capacity = capacity
            self._cost = expected_cost(capacity)


def _keep(history: deque[tuple[float, int]], since: float) -> None:
    """Forget what is older, but for the newest of the old: it says what was before."""
    while len(history) > 1 and history[1][0] <= since:
        history.popleft()
