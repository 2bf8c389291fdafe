"""What clients see when the primary is killed, hands over, or when the pool shrinks under load."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import yaml

from e2e import product
from e2e.embedded import faults, network
from e2e.embedded.state import State, write_atomically
from e2e.embedded.waiting import wait_for
from tests.bench import calling
from tests.bench.caller import Planned, Record
from tests.bench.context import Context
from tests.bench.figures import percentile
from tests.bench.pool import CALLER, NAMESPACE, PBX, Pool, applied, pod_addresses, wait_ready
from tests.bench.rows import Goal, Row
from tests.tools import sipp

RATE = 25.0  # calls a second
HOLD_SECONDS = 4.0
RING_SECONDS = 0.5  # so that some attempts are ringing when their primary dies
BEFORE_SECONDS = 5.0
AFTER_SECONDS = 10.0
CHANGING_CALLS = 10_000
CHANGING_RATE = 60.0  # one proxy alone has room for what is up at that rate
CHANGES = (("scale-down", 1), ("scale-up", 3), ("rolling change", 3))
CHANGED_SECONDS = 120.0
KILL_GOALS = {50: 2.0, 1000: 3.0}  # kube-proxy's minSyncPeriod in ms → seconds
HANDOVER_GOAL = 100.0
MILLISECONDS = 1000


def measure_kill(context: Context) -> Iterator[Row]:
    with _ready(context, "kill", replicas=3, ring_seconds=RING_SECONDS) as (pool, prefix):
        for sync in (50,) if context.quick else (50, 1000):
            with _kube_proxy_syncing(sync):
                context.say(f"primary killed, kube-proxy syncs every {sync} ms")
                yield from _killed(pool, prefix, sync)
                wait_ready("kill", 3)


def measure_change(context: Context) -> Iterator[Row]:
    with _ready(context, "shift", replicas=3, ring_seconds=0.0) as (pool, prefix):
        context.say("planned hand-over")
        yield from _handed_over(pool, prefix)
        context.say("scale-down, scale-up and rolling change under load")
        yield from _changing(context, pool, prefix)


def _killed(pool: Pool, prefix: Sequence[str], sync: int) -> Iterator[Row]:
    primary = _primary(pool.name)
    address = pod_addresses(pool.name)[primary]
    calls = _calls(BEFORE_SECONDS + AFTER_SECONDS)
    with calling.calling((pool.service, 5060), (CALLER, 7100 + sync), calls, prefix) as caller:
        time.sleep(BEFORE_SECONDS)  # load before the event
        killed_at = time.monotonic()
        faults.kill_pod(NAMESPACE, primary)
        records = caller.finish()
    fate = Fate.of(records, killed_at, address)
    what = f"primary killed, kube-proxy sync {sync} ms"
    yield Row(
        group="kill",
        what=f"{what}: attempts without a provisional answer, longest until answered",
        goal=Goal(KILL_GOALS[sync], "s"),
        value=max(fate.delays, default=None),
        note=f"{len(fate.delays)} attempts under way or placed within 5 s after the kill; "
        f"first answer by the new primary {fate.first_answer * MILLISECONDS:.0f} ms after it",
    )
    yield Row(group="kill", what=f"{what}: of those, failed", goal=Goal(0, "calls"), value=fate.failed)
    yield Row(
        group="kill",
        what=f"{what}: calls on other proxies lost",
        goal=Goal(0, "calls"),
        value=fate.lost_elsewhere,
        note=f"{fate.lost_with_it} ended with the primary itself",
    )
    yield Row(
        group="kill", what=f"{what}: attempts lost while ringing", goal=Goal(None, "calls"), value=fate.ringing_lost
    )


class Fate(msgspec.Struct, frozen=True):
    """What became of the calls of a time in which the primary was killed."""

    delays: list[float]  # of attempts that had no provisional answer yet: until their answer
    first_answer: float  # after the kill, to an attempt placed after it; infinite: none
    failed: int
    ringing_lost: int
    lost_elsewhere: int
    lost_with_it: int

    @classmethod
    def of(cls, records: Sequence[Record], killed_at: float, address: str) -> Fate:
        attempts = [
            one
            for one in records
            if one.sent < killed_at + 5.0 and not (0 < one.provisional < killed_at or 0 < one.final < killed_at)
        ]
        ringing = [one for one in records if 0 < one.provisional < killed_at and not 0 < one.final < killed_at]
        answered = [one for one in records if one.outcome == "answered"]
        up = [one for one in answered if one.final < killed_at and not 0 < one.ended < killed_at]
        after = [_first(one) - killed_at for one in records if one.sent > killed_at and _first(one)]
        return cls(
            delays=[_first(one) - max(one.sent, killed_at) for one in attempts if _first(one)],
            first_answer=min(after, default=float("inf")),
            failed=sum(one.outcome != "answered" for one in attempts),
            ringing_lost=sum(one.outcome != "answered" for one in ringing),
            lost_elsewhere=sum(not one.ended for one in up if one.served_by != address),
            lost_with_it=sum(not one.ended for one in up if one.served_by == address),
        )


def _first(record: Record) -> float:
    """When the client first heard anything."""
    return record.provisional or record.final


def _handed_over(pool: Pool, prefix: Sequence[str]) -> Iterator[Row]:
    """The primary's pod is deleted, as a drained node's would be."""
    primary = _primary(pool.name)
    with calling.calling((pool.service, 5060), (CALLER, 7300), _calls(15.0), prefix) as caller:
        time.sleep(BEFORE_SECONDS)  # load before the event
        product.kubectl("delete", "pod", primary, "--wait=false")
        wait_for(lambda: _primary(pool.name) not in ("", primary), 60, "another primary")
        records = caller.finish()
    usual = percentile([one.final - one.sent for one in records if one.outcome == "answered"], 0.5)
    slowest = max(one.final - one.sent for one in records)
    yield Row(
        group="hand-over",
        what="planned hand-over: longest until answered",
        goal=Goal(HANDOVER_GOAL, "ms"),
        value=slowest * MILLISECONDS,
        note=f"median {usual * MILLISECONDS:.1f} ms; {len(records)} calls of {HOLD_SECONDS:g} s at {RATE:g}/s",
    )
    yield _lost("hand-over", "planned hand-over: calls failed or lost", records)


def _changing(context: Context, pool: Pool, prefix: Sequence[str]) -> Iterator[Row]:
    """Scale-down, scale-up and a rolling change, one after the other, for as long as the calls are placed."""
    wait_ready("shift", 3)
    count = 600 if context.quick else CHANGING_CALLS
    made: Counter[str] = Counter()
    with calling.calling(
        (pool.service, 5060), (CALLER, 7301), _calls(count / CHANGING_RATE, CHANGING_RATE), prefix
    ) as caller:
        for number, (what, replicas) in enumerate(itertools.cycle(CHANGES)):
            before = set(pod_addresses("shift"))
            spec: dict[str, Any] = {"replicas": replicas}
            if what == "rolling change":
                spec["proxy"] = {"podTemplate": {"metadata": {"annotations": {"example.com/roll": str(number)}}}}
            product.kubectl("patch", "vpp", "shift", "--type=merge", "-p", json.dumps({"spec": spec}))
            wait_for(
                functools.partial(_changed, replicas, before if "proxy" in spec else set()),
                CHANGED_SECONDS,
                f"the {what} to end",
            )
            made[what] += 1
            if caller.over:
                break
        records = caller.finish()
    changes = ", ".join(f"{times} x {what}" for what, times in made.items())
    yield _lost("scale-down", f"{changes}, under load: calls failed or lost", records)


def _changed(replicas: int, replaced: set[str]) -> bool:
    """Whether the pool has that many pods, none of them from `replaced`."""
    pods = pod_addresses("shift").keys()
    return len(pods) == replicas and not replaced & pods


def _lost(group: str, what: str, records: Sequence[Record]) -> Row:
    failed = sum(one.outcome != "answered" for one in records)
    lost = sum(one.outcome == "answered" and not one.ended for one in records)
    note = f"{failed} failed and {lost} lost of {len(records)}"
    return Row(group=group, what=what, goal=Goal(0, "calls"), value=failed + lost, note=note)


def _calls(seconds: float, rate: float = RATE) -> list[Planned]:
    return [Planned(number / rate, HOLD_SECONDS) for number in range(int(seconds * rate))]


def _primary(pool: str) -> str:
    """The pod that the pool's Service points at, by its status."""
    return product.kubectl("get", "vpp", pool, "-o", "jsonpath={.status.primary}")


@contextlib.contextmanager
def _ready(context: Context, name: str, replicas: int, ring_seconds: float) -> Iterator[tuple[Pool, Sequence[str]]]:
    """Calls are spread (policy `least`), so that some are on other proxies than the primary."""
    spec: dict[str, Any] = {
        "replicas": replicas,
        "capacity": {"calls": 500},
        "assignment": {"policy": "least"},
        "media": {"enabled": False},
    }
    work = context.work / name
    work.mkdir()
    with (
        applied(name, **spec) as pool,
        sipp.answerer(PBX, work, ring_seconds=ring_seconds, prefix=network.add_host("pbx", PBX)),
    ):
        yield pool, network.add_host("caller", CALLER)


@contextlib.contextmanager
def _kube_proxy_syncing(milliseconds: int) -> Iterator[None]:
    """kube-proxy gathers changes for so long before it writes its rules; 1 s is its default."""
    path = State.current().root / "kube-proxy.yaml"
    before = path.read_text()
    configuration = yaml.safe_load(before)
    configuration["nftables"]["minSyncPeriod"] = f"{milliseconds}ms"
    try:
        _restart_kube_proxy(yaml.safe_dump(configuration))
        yield
    finally:
        _restart_kube_proxy(before)


def _restart_kube_proxy(configuration: str) -> None:
    path = State.current().root / "kube-proxy.yaml"
    if path.read_text() == configuration:
        return
    faults.stop("kube-proxy")
    write_atomically(path, configuration)
    faults.start("kube-proxy")
