"""What a proxy costs that carries calls: the figures that docs/sizing.md stands on. No goals: each row shows.

A pool of one proxy in the embedded cluster, so all of its containers count. CPU is the kernel's figure for each
container's processes, less what they need for as long without calls.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence

from e2e.embedded import network
from e2e.embedded.waiting import wait_for
from tests.bench import procs
from tests.bench.context import Context
from tests.bench.pool import CALLER, NAMESPACE, PBX, Pool, applied, main_process
from tests.bench.rows import Goal, Row
from tests.tools import sipp
from tests.tools.sipp import Sipp

CONTAINERS = ("kamailio", "rtpengine", "agent")
SCENARIO = pathlib.Path(__file__).parent / "scenarios" / "talking.xml"
CALLER_PORT = 7200
VOICE_SECONDS = 1.0  # of silence, over and over
PCMU_RATE = 8000
PCMU_SILENCE = b"\xff"
VOICE_BITS = 2 * 50 * (160 + 12) * 8  # a call's RTP, both ways: 20 ms of PCMU and a header in each packet
RELAYED_SHARE = 0.9  # of the voice sent: else the proxy was not measured at the load that the row tells
SETTLE_SECONDS = 3.0
MARGIN_SECONDS = 10.0
MILLI, MEGA = 1e3, 1e6


def measure(context: Context) -> Iterator[Row]:
    calls, seconds = (20, 3.0) if context.quick else (100, 20.0)
    work = context.work / "serve"
    work.mkdir()
    with applied("serve", replicas=1, capacity={"calls": 1000}) as pool:
        proxy = Proxy(pool, work, network.add_host("caller", CALLER))
        with sipp.answerer(PBX, work, prefix=network.add_host("pbx", PBX)):
            context.say(f"serve: a proxy without calls, for {seconds:g} s")
            idle = proxy.cores(seconds)
            yield _row("a proxy without calls", idle, "millicores", MILLI)
            yield proxy.memory("a proxy without calls")
            context.say(f"serve: {calls} calls that talk, for {seconds:g} s")
            yield from _talking(proxy, idle, calls, seconds)
            context.say(f"serve: calls set up and ended, for {seconds:g} s")
            yield _set_up(proxy, idle, seconds)


class Proxy:
    """The pool's one proxy, by its containers' processes; who calls it runs in `work`, behind `prefix`."""

    def __init__(self, pool: Pool, work: pathlib.Path, prefix: Sequence[str]) -> None:
        self.pool, self.work, self.prefix = pool, work, prefix
        (self._pod,) = pool.addresses
        self._pids = {name: main_process(NAMESPACE, self._pod, name) for name in CONTAINERS}

    def cpu_seconds(self) -> dict[str, float]:
        return {name: procs.cpu_seconds(pid) for name, pid in self._pids.items()}

    def cores(self, seconds: float) -> dict[str, float]:
        """What each container uses, in the mean over the time that comes."""
        started, before = time.monotonic(), self.cpu_seconds()
        time.sleep(seconds)  # what is measured goes on that long
        passed = time.monotonic() - started
        return {name: (after - before[name]) / passed for name, after in self.cpu_seconds().items()}

    def memory(self, what: str) -> Row:
        held = {name: procs.resident_bytes(pid) for name, pid in self._pids.items()}
        return _row(f"{what}: memory", held, "MB", 1 / MEGA)


def _talking(proxy: Proxy, idle: Mapping[str, float], calls: int, seconds: float) -> Iterator[Row]:
    voice = proxy.work / "voice.pcmu"
    voice.write_bytes(PCMU_SILENCE * int(PCMU_RATE * VOICE_SECONDS))
    hold = calls / 10 + SETTLE_SECONDS + seconds + MARGIN_SECONDS
    arguments = [f"{proxy.pool.service}:5060", "-i", CALLER, "-mi", CALLER, "-p", str(CALLER_PORT), "-s", "echo"]
    arguments += ["-m", str(calls), "-r", "10", "-l", str(calls), "-d", str(round(hold * MILLI))]
    with Sipp(SCENARIO, proxy.work, arguments, proxy.prefix, VOICE=str(voice)) as load:
        wait_for(
            lambda: proxy.pool.snapshot().total("calls") == calls,
            calls / 10 + MARGIN_SECONDS,
            f"{calls} calls to be up",
        )
        time.sleep(SETTLE_SECONDS)  # the workload's averages settle
        used = proxy.cores(seconds)
        relayed = proxy.pool.snapshot().total("bandwidth_bits_per_second")
        memory = proxy.memory(f"a proxy with {calls} voice calls")
        outcome = load.wait(hold + MARGIN_SECONDS)
    if outcome.failed or relayed < RELAYED_SHARE * calls * VOICE_BITS:
        raise RuntimeError(f"{outcome.failed} of {calls} calls failed, {relayed:.0f} bit/s relayed: {load.errors()}")
    each = {name: (used[name] - idle[name]) / calls for name in CONTAINERS}
    yield _row(
        "a voice call in progress", each, "millicores", MILLI, f"; {calls} calls, {relayed / MEGA:.1f} Mbit/s relayed"
    )
    yield memory


def _set_up(proxy: Proxy, idle: Mapping[str, float], seconds: float) -> Row:
    """From INVITE to BYE, with the media's ports, without a packet through them."""
    rate = 50
    calls = int(rate * seconds)
    proxy.pool.quiet()
    started, before = time.monotonic(), proxy.cpu_seconds()
    target = f"{proxy.pool.service}:5060"
    with sipp.caller(target, CALLER, proxy.work, calls=calls, rate=rate, port=CALLER_PORT, prefix=proxy.prefix) as load:
        outcome = load.wait(seconds + MARGIN_SECONDS)
    proxy.pool.quiet()
    passed, after = time.monotonic() - started, proxy.cpu_seconds()
    if outcome.completed != calls:
        raise RuntimeError(f"{outcome.completed} of {calls} calls completed: {load.errors()}")
    each = {name: (after[name] - before[name] - idle[name] * passed) / calls for name in CONTAINERS}
    return _row("a call set up and ended", each, "ms of CPU", MILLI, f"; {calls} calls, {rate}/s")


def _row(what: str, parts: Mapping[str, float], unit: str, scale: float, conditions: str = "") -> Row:
    note = ", ".join(f"{name} {part * scale:.3g}" for name, part in parts.items()) + conditions
    return Row(
        group="serve",
        what=what,
        goal=Goal(unit=unit),
        value=sum(parts.values()) * scale,
        note=note,
        details=dict(parts),
    )
