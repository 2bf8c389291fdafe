"""Bursts of ten times the arrival rate on real pools: what is admitted over the threshold, what is refused and sent on,
and how much room is in use when the first client is turned away. Beside it, the same calls through Kamailio's
dispatcher to proxies that keep their own threshold.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from e2e.embedded import network
from tests.bench import calling, kamailio
from tests.bench.caller import Planned, Record
from tests.bench.calling import Counts, Saturation
from tests.bench.context import Context
from tests.bench.figures import erlang_b, pooled_refusals
from tests.bench.kamailio import Kamailio
from tests.bench.pool import CALLER, PBX, Pool, Snapshot, applied
from tests.bench.rows import Goal, Row
from tests.tools import sipp

UNFOLLOWED = (0.0, 0.005, 0.01)
SENT_ON_GOAL = {0.0: 0.1, 0.005: 1.0, 0.01: 1.0}  # per cent of the calls
ROOM_GOAL = 99.0  # per cent of the places
LOADS = (0.90, 0.95)
ERLANG_GOAL = 1.2
MEAN_SECONDS = 5.0
THRESHOLD = 0.8
CALLER_PORT = 7000


class Shape(msgspec.Struct, frozen=True):
    """A pool for bursts: `proxies` of `capacity` calls each."""

    proxies: int
    capacity: int
    base_seconds: float

    @property
    def places_each(self) -> int:
        return round(THRESHOLD * self.capacity)

    @property
    def places(self) -> int:
        return self.proxies * self.places_each


def measure(context: Context) -> Iterator[Row]:
    capacities = {10: 50} if context.quick else {3: 375, 10: 125}
    for proxies, capacity in capacities.items():
        shape = Shape(proxies, capacity, base_seconds=5.0 if context.quick else 20.0)
        yield from _pool(context, shape)
        for algorithm in ("10",) if context.quick else ("4", "10"):
            yield from _dispatcher(context, shape, algorithm)


def _pool(context: Context, shape: Shape) -> Iterator[Row]:
    context.say(f"burst: a pool of {shape.proxies} proxies with {shape.places_each} places each")
    with _ready(context, shape, mode="redirect") as (pool, prefix):
        for unfollowed in UNFOLLOWED[:1] if context.quick else UNFOLLOWED:
            what = f"{shape.proxies} proxies, {unfollowed:.1%} never followed"
            context.say(f"burst: {what}, until {calling.BELOW:.0%} of the places are taken")
            yield from _below(what, pool, prefix, shape, unfollowed)
            context.say(f"burst: {what}, past the last place")
            yield from _beyond(what, pool, prefix, shape, unfollowed)


def _below(what: str, pool: Pool, prefix: Sequence[str], shape: Shape, unfollowed: float) -> Iterator[Row]:
    """The pool has a place for every one of these calls, so each that a proxy refuses is a mistake, whoever made it."""
    records, counts = _placed(pool, prefix, calling.burst(shape.places, shape.base_seconds, unfollowed, calling.BELOW))
    outcomes = _outcomes(records)
    yield _over(f"{what}, below the last place", counts, outcomes)
    yield Row(
        group="burst",
        what=f"{what}: refused by a proxy and sent on",
        goal=Goal(SENT_ON_GOAL[unfollowed], "%"),
        value=100 * counts.refused / len(records),
        note=f"{counts.refused} of {len(records)} calls: {outcomes}",
    )


def _beyond(what: str, pool: Pool, prefix: Sequence[str], shape: Shape, unfollowed: float) -> Iterator[Row]:
    records, counts = _placed(pool, prefix, calling.burst(shape.places, shape.base_seconds, unfollowed, calling.BEYOND))
    outcomes = _outcomes(records)
    yield _over(f"{what}, past the last place", counts, outcomes)
    yield _room(what, shape, Saturation.of(records))


def _placed(pool: Pool, prefix: Sequence[str], calls: list[Planned]) -> tuple[list[Record], Counts]:
    """What became of these calls, and what the proxies counted meanwhile. The pool is quiet before and after."""
    before = _counts(pool.snapshot())
    with calling.calling(
        (pool.service, 5060), (CALLER, CALLER_PORT), calls, prefix, refused_status=pool.refused_status
    ) as caller:
        records = caller.finish()
    return records, _counts(pool.quiet()) - before


def _outcomes(records: Sequence[Record]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in Counter(one.outcome for one in records).items())


def _over(what: str, counts: Counts, outcomes: str) -> Row:
    return Row(
        group="burst",
        what=f"{what}: admitted at or above the threshold",
        goal=Goal(0, "calls"),
        value=counts.over,
        note=outcomes,
    )


def _room(what: str, shape: Shape, saturation: Saturation, goal: float | None = ROOM_GOAL) -> Row:
    used = 100 * saturation.in_use / shape.places
    note = f"{saturation.in_use} of {shape.places} places"
    if saturation.at == float("inf"):
        note += "; no call was refused"
    what = f"{what}: room in use at the first 503"
    return Row(group="burst", what=what, goal=Goal(goal, "%", at_least=True), value=used, note=note)


def measure_short(context: Context) -> Iterator[Row]:
    """Calls so short that places come free all the time, near saturation, against an ideal pool."""
    shape = Shape(3, 25 if context.quick else 100, 0.0)
    seconds = 15.0 if context.quick else 90.0
    with _ready(context, shape, mode="forward") as (pool, prefix):
        for load in LOADS:
            context.say(f"short calls: {load:.2f} of {shape.places} places, {MEAN_SECONDS:g} s each, for {seconds:g} s")
            calls = calling.steady(load * shape.places, MEAN_SECONDS, seconds)
            records, counts = _placed(pool, prefix, calls)
            yield _against_erlang(shape, load, calls, records)
            yield Row(
                group="short",
                what=f"load {load:.2f}: admitted over the threshold",
                goal=Goal(0, "calls"),
                value=counts.over,
                note=f"{counts.refused} refused and sent on",
            )


def _against_erlang(shape: Shape, load: float, calls: list[Planned], records: list[Record]) -> Row:
    refused = sum(record.outcome == "refused" for record in records)
    failed = sum(record.outcome in ("failed", "open") for record in records)
    ideal = pooled_refusals([(call.at, call.length) for call in calls], shape.places)
    formula = erlang_b(load * shape.places, shape.places)
    return Row(
        group="short",
        what=f"load {load:.2f}, {MEAN_SECONDS:g} s calls: refused against an ideal pool of {shape.places} places",
        goal=Goal(ERLANG_GOAL if ideal else None, "x"),  # of nothing there is no quotient to judge
        value=refused / max(1, ideal),
        note=f"{refused} of {len(records)} ({refused / len(records):.2%}); the ideal pool refuses {ideal} of the same "
        f"calls, Erlang B {formula:.2%}; {failed} failed",
    )


@contextlib.contextmanager
def _ready(context: Context, shape: Shape, mode: str) -> Iterator[tuple[Pool, Sequence[str]]]:
    """A pool of that shape, somebody who answers its calls, and a host that calls."""
    work = context.work / f"burst-{shape.proxies}-{mode}"
    work.mkdir()
    spec = {
        "replicas": shape.proxies,
        "capacity": {"calls": shape.capacity},
        "assignment": {"mode": mode},
        "media": {"enabled": False},
    }
    with (
        applied("burst", **spec) as pool,
        sipp.answerer(PBX, work, prefix=network.add_host("pbx", PBX)),
    ):
        yield pool, network.add_host("caller", CALLER)


def _counts(snapshot: Snapshot) -> Counts:
    return Counts(snapshot.total("refused"), snapshot.total("over_threshold"))


# the dispatcher


def _dispatcher(context: Context, shape: Shape, algorithm: str) -> Iterator[Row]:
    context.say(f"burst: {shape.proxies} proxies behind the dispatcher, alg {algorithm}")
    work = context.work / f"dispatcher-{shape.proxies}-{algorithm}"
    with contextlib.ExitStack() as stack:
        places = [
            stack.enter_context(_place(context.root, work, number, shape.places_each))
            for number in range(shape.proxies)
        ]
        limit = shape.places_each
        # alg 10 is told the places, as its users would; alg 4 has no use for them.
        lines = [f"1 sip:{place.address}:5060 0 0 duid=p{n};maxload={limit}\n" for n, place in enumerate(places)]
        (work / "dispatcher").mkdir()
        (work / "dispatcher" / "destinations.list").write_text("".join(lines))
        defines = [f'ALG="{algorithm}"', "FORWARD", "FAILOVER"]
        address = "127.91.0.1"
        stack.enter_context(kamailio.bare(context.root, work / "dispatcher", "dispatcher.cfg", address, defines))
        what = f"dispatcher alg {algorithm}, {shape.proxies} proxies"
        records = _dispatched(address, calling.burst(shape.places, shape.base_seconds, 0.0, calling.BELOW))
        refused = sum(place.control.number("cnt", "refused") for place in places)
        yield Row(
            group="burst",
            what=f"{what}: refused by a proxy and sent on",
            goal=Goal(None, "%"),
            value=100 * refused / len(records),
            note=f"{refused} of {len(records)} calls",
        )
        records = _dispatched(address, calling.burst(shape.places, shape.base_seconds, 0.0, calling.BEYOND))
        yield _room(what, shape, Saturation.of(records), goal=None)


def _dispatched(address: str, calls: list[Planned]) -> list[Record]:
    with calling.calling((address, 5060), ("127.91.0.5", CALLER_PORT), calls) as caller:
        return caller.finish()


def _place(
    root: pathlib.Path, work: pathlib.Path, number: int, places: int
) -> contextlib.AbstractContextManager[Kamailio]:
    return _opened(kamailio.bare(root, work / f"place-{number}", "place.cfg", f"127.91.1.{number + 1}", []), places)


@contextlib.contextmanager
def _opened(place: contextlib.AbstractContextManager[Kamailio], places: int) -> Iterator[Kamailio]:
    with place as opened:
        opened.control.set("ctl", "ceiling", places)
        yield opened
