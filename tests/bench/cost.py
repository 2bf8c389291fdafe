"""What one call costs the primary's CPU, against Kamailio's own dispatcher in the same run.

The Kamailios stand side by side and are loaded in turn by SIPp at the same fixed rate, below saturation. CPU is the
kernel's figure for all processes of each, during its turn and until its transactions have ended, less what they need
for as long without calls; the ratio is taken within each round, and the row is the median over the rounds.

The goal is against the dispatcher's own few lines. Nobody puts those before clients: what it would be against the same
with a look at each request's source and sanity, as the primary takes them too, a row of its own shows.
"""

from __future__ import annotations

import contextlib
import pathlib
import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Literal

from tests.bench.context import Context
from tests.bench.figures import median_ratio
from tests.bench.kamailio import Kamailio, bare
from tests.bench.primary import NETWORK, TICK, Primary, alone
from tests.bench.rows import Goal, Row
from tests.tools.proxies import Row as TableRow
from tests.tools.sipp import Sipp

Mode = Literal["redirect", "forward"]

GOALS: dict[Mode, float] = {"redirect": 1.15, "forward": 1.10}
RATE: dict[Mode, int] = {"redirect": 2000, "forward": 1000}
SCENARIOS = pathlib.Path(__file__).parent / "scenarios"
SCENARIO: dict[Mode, str] = {"redirect": "redirected.xml", "forward": "forwarded.xml"}
PORT = 5060
CALLS_SECONDS = 60.0
TAIL_SECONDS: dict[Mode, float] = {
    "redirect": 0.0,
    "forward": 2.3,
}  # tm frees a transaction wt_timer (2 s) after its answer
SIZES = (3, 100, 1000)
OURS, ROUND_ROBIN, CALL_LOAD, CHECKED = "switchboard", "alg 4", "alg 10", "alg 4 with checks"
ADDRESS = {OURS: "127.91.0.1", ROUND_ROBIN: "127.91.0.2", CALL_LOAD: "127.91.0.3", CHECKED: "127.91.0.4"}
DEFINES = {ROUND_ROBIN: ['ALG="4"'], CALL_LOAD: ['ALG="10"'], CHECKED: ['ALG="4"', "CHECKED"]}
CALLER, ANSWERING = "127.91.0.5", "127.91.0.9"
WARM_UP_CALLS = 200
MICROSECONDS = 1e6
PLENTY = 10**8


def measure(context: Context) -> Iterator[Row]:
    for mode in ("redirect", "forward"):
        for size in SIZES:
            context.say(f"cost: {mode}, {size} rows")
            yield from _compare(context, mode, size)


def _compare(context: Context, mode: Mode, size: int) -> Iterator[Row]:
    rounds, seconds = (1, 0.5) if context.quick else (5, 2.0)
    calls = int(RATE[mode] * seconds)
    spent: dict[str, list[float]] = {}
    work = context.work / f"cost-{mode}-{size}"
    with contextlib.ExitStack() as stack:
        running: dict[str, Primary | Kamailio] = {OURS: stack.enter_context(_ours(context, work, mode, size))}
        for name in DEFINES:
            running[name] = stack.enter_context(_dispatcher(context, work, mode, size, name))
        stack.enter_context(Sipp(SCENARIOS / "answering.xml", work, ("-i", ANSWERING, "-p", str(PORT))))
        for name in running:
            _load(mode, ADDRESS[name], WARM_UP_CALLS, work)
        idle = _idle(running, 1.0 if context.quick else 4.0)
        for _ in range(rounds):
            for name, kamailio in running.items():
                started, before = time.monotonic(), kamailio.cpu_seconds()
                _load(mode, ADDRESS[name], calls, work)
                time.sleep(TAIL_SECONDS[mode])  # what is measured goes on that long
                used = kamailio.cpu_seconds() - before - idle[name] * (time.monotonic() - started)
                spent.setdefault(name, []).append(used / calls * MICROSECONDS)
    cost = {name: statistics.median(values) for name, values in spent.items()}
    yield Row(
        group="cost",
        what=f"primary's CPU a call against dispatcher alg 4, {mode}, {size} proxies",
        goal=Goal(GOALS[mode], "x"),
        value=median_ratio(zip(spent[OURS], spent[ROUND_ROBIN], strict=True)),
        note=f"{cost[OURS]:.1f} against {cost[ROUND_ROBIN]:.1f} µs a call at {RATE[mode]}/s "
        f"(alg 10: {cost[CALL_LOAD]:.1f} µs); {rounds} rounds of {calls} calls",
        details={"microseconds": spent, "idle_cores": idle},
    )
    yield Row(
        group="cost",
        what=f"the same against {CHECKED}, {mode}, {size} proxies",
        goal=Goal(unit="x"),
        value=median_ratio(zip(spent[OURS], spent[CHECKED], strict=True)),
        note=f"{cost[OURS]:.1f} against {cost[CHECKED]:.1f} µs a call; source and sanity are looked at on both sides",
    )


def _idle(running: Mapping[str, Primary | Kamailio], seconds: float) -> dict[str, float]:
    """Cores that each needs without calls."""
    time.sleep(TAIL_SECONDS["forward"])  # the warm-up's transactions end
    before = {name: kamailio.cpu_seconds() for name, kamailio in running.items()}
    time.sleep(seconds)
    return {name: (kamailio.cpu_seconds() - before[name]) / seconds for name, kamailio in running.items()}


def _load(mode: Mode, address: str, calls: int, work: pathlib.Path) -> None:
    """All calls must succeed: a ratio of failures says nothing."""
    arguments = [f"{address}:{PORT}", "-i", CALLER, "-p", "6060", "-r", str(RATE[mode])]
    with Sipp(SCENARIOS / SCENARIO[mode], work, [*arguments, "-m", str(calls), "-l", str(calls)]) as load:
        outcome = load.wait(CALLS_SECONDS)
    if outcome.failed:
        raise RuntimeError(f"{outcome.failed} of {outcome.offered} calls through {address} failed: {load.errors()}")


@contextlib.contextmanager
def _ours(context: Context, work: pathlib.Path, mode: Mode, size: int) -> Iterator[Primary]:
    """A primary whose first half of the table is full: what policy `first` leaves behind in a pool at half load."""
    target = f"{ANSWERING}:{PORT}"
    rows = [
        TableRow(f"edge-{n:05}~{n:08x}", f"sip:{target}", target, 0 if n < size // 2 else PLENTY, closed=TICK - 3)
        for n in range(size)
    ]
    with alone(context.root, work / "ours", ADDRESS[OURS]) as primary:
        primary.open(mode, rows)
        yield primary


def _dispatcher(
    context: Context, work: pathlib.Path, mode: Mode, size: int, name: str
) -> contextlib.AbstractContextManager[Kamailio]:
    run = work / name.replace(" ", "")
    run.mkdir(parents=True)
    lines = (f"1 sip:{ANSWERING}:{PORT} 0 0 duid=p{n};maxload=0\n" for n in range(size))
    (run / "destinations.list").write_text("".join(lines))
    address, _, bits = NETWORK.partition("/")
    (run / "address.list").write_text(f"1 {address} {bits} 0 clients\n")
    defines = [*DEFINES[name], *(["FORWARD"] if mode == "forward" else [])]
    return bare(context.root, run, "dispatcher.cfg", ADDRESS[name], defines)
