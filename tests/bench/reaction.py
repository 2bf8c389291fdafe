"""From a load change at a proxy to its being in effect in the primary's routing, and what the operator needs for it.

Three real proxies, whose load changes by calls; then a pool of 100 and of 1000 whose primary is real and whose other
agents are simulated at the link, everything else being the whole product in the cluster: operator, Kubernetes API,
mutual TLS, the primary's agent and Kamailio. In effect means seen in Kamailio's own table.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import msgspec

from e2e import product
from e2e.embedded import network
from e2e.embedded.state import State
from e2e.embedded.waiting import wait_for
from tests.bench import calling, pool, procs
from tests.bench.caller import Planned
from tests.bench.context import Context
from tests.bench.figures import percentile
from tests.bench.observer import Seen
from tests.bench.pool import CALLER, NAMESPACE, PBX
from tests.bench.rows import Goal, Row
from tests.bench.simnode import Api, Node, simulated_node
from tests.bench.simulator import Change, Fleet
from tests.tools import sipp

POOL = "reaction"
CAPACITY = 50  # so that one call is 2 %, a change that is reported at once
PLACES = 40
PERIOD_SECONDS = 0.5
MILLISECONDS = 1000
LATENCY_GOALS = {3: 100.0, 100: 100.0, 1000: 150.0}
CPU_GOALS = {100: 0.10, 1000: 0.40}
MEMORY_GOALS = {100: 120.0, 1000: 150.0}
CHANGES_PER_SECOND = {100: 20.0, 1000: 50.0}
MEGABYTE = 1e6
SETTLE_SECONDS = 240.0
# The operator's own count of its writes for pools; it renews its Lease whether there are pools or not.
QUIET_SECONDS = 11.0  # longer than any interval between two writes
WRITES = re.compile(r"""^switchboard_api_writes_total\{(?![^}]*kind="Lease")([^}]*)\} (\S+)$""", re.MULTILINE)


def measure(context: Context) -> Iterator[Row]:
    yield from _real(context)
    sizes = (20, 100) if context.quick else (100, 1000)
    with _growing_pool() as grown, Simulators(context) as simulators:
        for size in sizes:
            yield from _simulated(context, grown, simulators, size)


# three real proxies


def _real(context: Context) -> Iterator[Row]:
    count = 20 if context.quick else 100
    context.say(f"reaction: 3 real proxies, {count} calls")
    spec: dict[str, Any] = {"replicas": 3, "capacity": {"calls": CAPACITY}, "media": {"enabled": False}}
    work = context.work / "reaction"
    work.mkdir()
    with pool.applied(POOL, **spec) as real, sipp.answerer(PBX, work, prefix=network.add_host("pbx", PBX)):
        primary = real.primary
        with _observing(primary) as observer:
            calls = [Planned(0.5 + 0.137 * number, 3600.0) for number in range(min(count, 3 * PLACES))]
            prefix = network.add_host("caller", CALLER)
            with calling.calling((real.service, 5060), (CALLER, 7001), calls, prefix) as caller:
                caller.placed()
                seen = observer.finish()
                records = caller.finish()
    starts = sorted(record.sent for record in records if record.outcome == "answered")
    yield _latency(3, _by_total(seen, starts, 3 * PLACES), "from a call's INVITE to the changed row")


def _by_total(seen: Sequence[Seen], starts: Sequence[float], places: int) -> list[float]:
    """The k-th call is in effect once the table's rooms add up to k places less."""
    rooms: dict[str, int] = {}
    pending, latencies = list(starts), []
    for one in seen:
        rooms[one.proxy] = one.room
        taken = places - sum(rooms.values())
        while pending and len(rooms) == places // PLACES and len(starts) - len(pending) < taken:
            latencies.append(one.at - pending.pop(0))
    return latencies + [float("inf")] * len(pending)


# simulated agents


class Grown(msgspec.Struct, frozen=True):
    """A pool of which one proxy is real, the primary: its `run` volume, and what leads into its network."""

    node: Node
    run: pathlib.Path
    network: Sequence[str]


@contextlib.contextmanager
def _growing_pool() -> Iterator[Grown]:
    """A pool of one real proxy, in a cluster whose real node takes no more."""
    spec: dict[str, Any] = {"replicas": 1, "capacity": {"calls": CAPACITY}, "media": {"enabled": False}}
    product.apply(product.pool(POOL, **spec))
    try:
        pool.wait_ready(POOL, 1)
        (primary,) = pool.pod_addresses(POOL)
        with simulated_node() as node:
            try:
                yield Grown(node, _run_volume(primary), pool.pod_network(NAMESPACE, primary))
            finally:
                product.kubectl("delete", "vpp", POOL, "--wait=false")
                api = Api()
                wait_for(lambda: _none_left(api), SETTLE_SECONDS, "the simulated pods to be gone", every_seconds=1.0)
                api.close()
    finally:
        pool.remove(POOL)


def _none_left(api: Api) -> bool:
    if not api.pods(POOL):
        return True
    api.delete_pods(POOL)
    return False


def _simulated(context: Context, grown: Grown, simulators: Simulators, size: int) -> Iterator[Row]:
    context.say(f"reaction: {size} proxies, all but the primary simulated at the link")
    product.kubectl("patch", "vpp", POOL, "--type=merge", "-p", json.dumps({"spec": {"replicas": size}}))
    new: dict[str, str] = {}

    def bound() -> bool:
        new.update(grown.node.claim(POOL))
        return len(grown.node.addresses) >= size - 1

    wait_for(bound, SETTLE_SECONDS, f"{size - 1} pods to be bound to the simulated node")
    rate = CHANGES_PER_SECOND.get(size, 20.0)
    simulators.add(new, rate)
    grown.node.say_running()
    pool.wait_ready(POOL, size, within=SETTLE_SECONDS)
    seconds = 5.0 if context.quick else 20.0
    context.say(f"reaction: {size} proxies ready; measuring for {2 * seconds:g} s")
    operator = Operator()
    operator.settle()
    idle = operator.over(seconds, simulators)
    with _observing_at(grown.run, grown.network) as observer:
        simulators.start_changing()
        busy = operator.over(seconds, simulators)
        changes = simulators.stop_changing()
        time.sleep(1.0)  # what was changed last is still on its way
        seen = observer.finish()
    note = f"{rate:g} changes/s besides a report every {PERIOD_SECONDS:g} s each"
    yield _latency(size, _by_proxy(seen, changes), note)
    yield from _operator_rows(size, idle, busy)


class Simulators:
    """Processes that simulate agents: one for each growth of the pool."""

    def __init__(self, context: Context) -> None:
        self._directory = context.work / "agent-tls"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._changes_per_second = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def add(self, agents: dict[str, str], changes_per_second: float) -> None:
        """`changes_per_second`: of all agents, together with those there already."""
        self._directory.mkdir(exist_ok=True)
        for name, content in pool.secret(f"{POOL}-agent-tls").items():
            (self._directory / name).write_bytes(content)
        more, self._changes_per_second = changes_per_second - self._changes_per_second, changes_per_second
        fleet = Fleet(POOL, NAMESPACE, agents, PLACES, PERIOD_SECONDS, more)
        self._processes.append(_start("tests.bench.simulator", [str(self._directory)], msgspec.json.encode(fleet)))

    def start_changing(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGUSR1)

    def stop_changing(self) -> list[Change]:
        changes: list[Change] = []
        for process in self._processes:
            process.send_signal(signal.SIGUSR2)
            assert process.stdout is not None
            changes += msgspec.json.decode(process.stdout.readline(), type=list[Change])
        return changes

    def cpu_seconds(self) -> float:
        return sum(procs.cpu_seconds(process.pid) for process in self._processes)


def _start(module: str, arguments: Sequence[str], given: bytes, prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=calling.PROJECT,
    )
    assert process.stdin is not None
    process.stdin.write(given)
    process.stdin.close()
    process.stdin = None
    return process


def _by_proxy(seen: Sequence[Seen], changes: Sequence[Change]) -> list[float]:
    """A change is in effect once its proxy's row shows the room it left; infinite: never."""
    by_proxy: dict[str, list[Seen]] = {}
    for one in seen:
        by_proxy.setdefault(one.proxy, []).append(one)

    def took(change: Change) -> float:
        for one in by_proxy.get(change.proxy, []):
            if one.at >= change.at and one.room == change.room:
                return one.at - change.at
        return float("inf")

    return [took(change) for change in changes]


# what is seen


class Observing:
    def __init__(self, run: pathlib.Path, prefix: Sequence[str]) -> None:
        self._process = _start("tests.bench.observer", [str(run)], b"", prefix)

    def finish(self) -> list[Seen]:
        self._process.terminate()
        output, _ = self._process.communicate(timeout=20)
        return msgspec.json.decode(output, type=list[Seen])

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def _observing_at(run: pathlib.Path, prefix: Sequence[str]) -> Iterator[Observing]:
    observing = Observing(run, prefix)
    try:
        yield observing
    finally:
        observing.kill()


def _observing(pod: str) -> contextlib.AbstractContextManager[Observing]:
    return _observing_at(_run_volume(pod), pool.pod_network(NAMESPACE, pod))


def _run_volume(pod: str) -> pathlib.Path:
    """Where the node keeps the pod's `run` volume."""
    uid = product.kubectl("get", "pod", pod, "-o", "jsonpath={.metadata.uid}")
    return State.current().root / "volumes" / uid / "run"


class Spent(msgspec.Struct, frozen=True):
    """Over one stretch of time: cores, megabytes, writes a second."""

    operator_cores: float
    operator_megabytes: float
    api_writes_per_second: float
    api_writes: Mapping[str, int]  # by the metric's labels
    simulator_cores: float


class Operator:
    """The operator that holds the Lease."""

    def __init__(self) -> None:
        where = ("-n", product.NAMESPACE)
        lease = json.loads(product.kubectl("get", "lease", *where, "switchboard-operator", "-o", "json"))
        self.pod: str = lease["spec"]["holderIdentity"]
        self.pid = pool.main_process(product.NAMESPACE, self.pod, "operator")
        self._address = product.kubectl("get", "pod", *where, self.pod, "-o", "jsonpath={.status.podIP}")

    def writes(self) -> Counter[str]:
        with urllib.request.urlopen(f"http://{self._address}:8080/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return Counter({labels: round(float(value)) for labels, value in WRITES.findall(text)})

    def settle(self) -> None:
        """Waits until what the pool's growth had written has been written: nothing for QUIET_SECONDS."""
        last, since = self.writes(), time.monotonic()

        def quiet() -> bool:
            nonlocal last, since
            if (now := self.writes()) != last:
                last, since = now, time.monotonic()
            return time.monotonic() - since > QUIET_SECONDS

        wait_for(quiet, SETTLE_SECONDS, "the operator to write nothing", every_seconds=0.5)

    def over(self, seconds: float, simulators: Simulators) -> Spent:
        def read() -> tuple[float, float, Counter[str], float]:
            return time.monotonic(), procs.cpu_seconds(self.pid), self.writes(), simulators.cpu_seconds()

        at, cpu, writes, simulated = read()
        time.sleep(seconds)
        later, cpu_later, writes_later, simulated_later = read()
        took = later - at
        return Spent(
            operator_cores=(cpu_later - cpu) / took,
            operator_megabytes=procs.resident_bytes(self.pid) / MEGABYTE,
            api_writes_per_second=(writes_later - writes).total() / took,
            api_writes=writes_later - writes,
            simulator_cores=(simulated_later - simulated) / took,
        )


def _latency(size: int, latencies: Sequence[float], note: str) -> Row:
    if not latencies:
        raise RuntimeError(f"no load change was seen at {size} proxies")
    shown = {share: percentile(latencies, share) * MILLISECONDS for share in (0.5, 0.99)}
    lost = sum(latency == float("inf") for latency in latencies)
    return Row(
        group="reaction",
        what=f"load change to in effect in the primary, p99, {size} proxies",
        goal=Goal(LATENCY_GOALS.get(size, 100.0), "ms"),
        value=shown[0.99],
        note=f"p50 {shown[0.5]:.0f} ms; {len(latencies)} changes, {lost} never seen; {note}",
    )


def _operator_rows(size: int, idle: Spent, busy: Spent) -> Iterator[Row]:
    note = f"simulators apart: {busy.simulator_cores:.2f} core; without changes: {idle.operator_cores:.3f} core"
    cpu, memory = Goal(CPU_GOALS.get(size, 0.1), "core"), Goal(MEMORY_GOALS.get(size, 120.0), "MB")
    yield Row(group="reaction", what=f"operator's CPU, {size} proxies", goal=cpu, value=busy.operator_cores, note=note)
    yield Row(group="reaction", what=f"operator's memory, {size} proxies", goal=memory, value=busy.operator_megabytes)
    yield Row(
        group="reaction",
        what=f"operator's API writes, {size} proxies, loads changing",
        goal=Goal(1.0, "/s"),
        value=busy.api_writes_per_second,
        note=_told(busy.api_writes),
    )
    yield Row(
        group="reaction",
        what=f"operator's API writes, {size} proxies, nothing changing",
        goal=Goal(0.0, "/s"),
        value=idle.api_writes_per_second,
        note=_told(idle.api_writes),
    )


def _told(writes: Mapping[str, int]) -> str:
    return "; ".join(f"{count} of {labels}" for labels, count in writes.items())
