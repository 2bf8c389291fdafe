"""A small world for the credits: proxies, calls, an assigner, and a network that loses, delays, repeats and reorders.

Everything that the system computes is computed by the real code (credits, table); the world only holds the truth that
the code cannot see, and lets things go wrong. Time is a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from switchboard.pool import credits as c
from switchboard.pool.table import Proxy, Reading, Row, newer, row
from tests.unit.pool.lua import Lua, LuaAssigner

SeenRow = tuple[Row, int]  # with the number of the report that it was made from
Follow = Literal["prompt", "late", "never"]

UNREPORTED = 3  # an assigner assigns at most so many between two of its reports: what `unreported` is told
PROMPT_SECONDS = 3.9  # closed ticks are at least 4 s old: a client that is slower is late
KEEP_TICKS = 30  # Kamailio forgets rcv after 60 s


@dataclass
class Call:
    assigner: str
    target: str  # id of the proxy at the time of the assignment
    tick: int
    follow: Follow
    due: float = 0.0  # a prompt client is there by then


@dataclass
class Pod:
    """A proxy: Kamailio's counters and its agent."""

    name: str
    places: int
    boots: int = 1
    used: int = 0
    tick: int = 0
    seq: int = 0
    received: dict[str, dict[int, int]] = field(default_factory=dict)
    disturbed: int = 0  # number of the first report that shows the last thing no credit was used for

    @property
    def id(self) -> str:
        return f"{self.name}~{self.boots}"

    def report(self, now: float) -> Reading:
        self.seq += 1
        return Reading(
            boot=str(self.boots),
            seq=self.seq,
            tick=self.tick,
            room=max(0, self.places - self.used),
            calls=self.used,
            workload=self.used / 100,
            sampled_at=now,
            received={
                assigner: {tick: count for tick, count in counts.items() if tick > self.tick - KEEP_TICKS}
                for assigner, counts in self.received.items()
            },
        )

    def disturb(self) -> None:
        """Something that the assigner could not know: rows made from reports before this one say too much."""
        self.disturbed = self.seq + 1


class Arithmetic(Protocol):
    """How rows are made and calls assigned; the prototype's is the other one (test_credits_prototype.py)."""

    def row(self, world: World, pod: Pod, reading: Reading, predecessors: Sequence[c.Predecessor]) -> Row: ...
    def take(self, level: Row, tick: int, now: float) -> bool: ...
    def free(self, level: Row, tick: int) -> int: ...
    def give_back(self, proxy: str, tick: int) -> None: ...
    def reported(self) -> Mapping[str, Mapping[int, int]]: ...


class BothLanguages:
    """Ours, in Python and in Lua side by side: each answer has to be the same. Two SIP workers take turns in Lua."""

    def __init__(self, assigner: str) -> None:
        self.id = assigner
        self.python = c.Assigner()
        lua = Lua()
        self.workers: list[LuaAssigner] = [lua.worker(), lua.worker()]

    def row(self, world: World, pod: Pod, reading: Reading, predecessors: Sequence[c.Predecessor]) -> Row:
        proxy = Proxy(
            name=pod.name, address="198.18.0.1", port=5060, advertise="", created=0.0, ready=True, reading=reading
        )
        return row(proxy, reading, self.id, places=pod.places, predecessors=predecessors)

    def take(self, level: Row, tick: int, now: float) -> bool:
        self.workers.reverse()
        expected = self.python.take(level, tick)
        assert self.workers[0].take(level, tick) == expected
        return expected

    def free(self, level: Row, tick: int) -> int:
        expected = self.python.free(level, tick)
        assert all(worker.free(level, tick) == expected for worker in self.workers)
        return expected

    def give_back(self, proxy: str, tick: int) -> None:
        self.python.give_back(proxy, tick)
        self.workers[0].give_back(proxy, tick)

    def reported(self) -> Mapping[str, Mapping[int, int]]:
        return {proxy: dict(counts) for proxy, counts in self.python.assigned.items()}


@dataclass
class Office:
    """An assigner's term: its rows in effect, and what its reports have told."""

    pod: str
    id: str
    arithmetic: Arithmetic
    rows: dict[str, SeenRow] = field(default_factory=dict)  # in effect, by pod name
    sent: dict[str, list[SeenRow]] = field(default_factory=dict)  # on their way, or late, or again
    reported: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    unreported: int = 0  # calls assigned since its last report
    predecessors: tuple[c.Predecessor, ...] = ()

    def report(self, tick: int) -> None:
        self.reported, self.unreported = c.merge_assigned(self.reported, self.arithmetic.reported(), tick), 0

    def gone(self, last_tick: int | None, unreported: int) -> c.Predecessor:
        return c.Predecessor(id=self.id, assigned=self.reported, last_tick=last_tick, unreported=unreported)


class World:
    def __init__(self, places: Sequence[int], make: Callable[[str], Arithmetic] = BothLanguages) -> None:
        self.now = 0.0
        self.make = make
        self.runs: dict[str, Office] = {}  # by assigner id: its counts last as long as its run
        self.pods = {f"p{number}": Pod(f"p{number}", size) for number, size in enumerate(places)}
        self.born = len(places)
        self.calls: list[Call] = []  # assigned and not yet arrived
        self.readings: dict[str, Reading] = {}  # by pod name
        self.ticker = c.Ticker(tick=1)
        self.office = self._office("p0")
        self.coming: Office | None = None  # in a hand-over
        self.deliver_tick("p0")

    def _office(self, name: str) -> Office:
        """A new term; one that assigns again in the same run has the same counts, and what it has told is known."""
        identity = self.pods[name].id
        if identity not in self.runs:
            self.runs[identity] = Office(name, identity, self.make(identity))
        office = self.runs[identity]
        office.rows, office.sent, office.predecessors = {}, {}, ()
        return office

    # the network

    def wait(self, seconds: float) -> None:
        """Time passes. Prompt clients are there by then; the next tick is sent when it is due."""
        self.now += seconds
        for call in [call for call in self.calls if call.follow == "prompt" and call.due <= self.now]:
            self.arrive(call)
        if self.ticker.due(self.now) and self.coming is None:
            self.ticker = self.ticker.advance()

    def until_due(self) -> float:
        """The time to the next tick, if the primary has the present one."""
        acknowledged = self.ticker.acknowledged_at
        return 0.0 if acknowledged is None else max(0.0, acknowledged + c.TICK_SECONDS - self.now)

    def deliver_tick(self, name: str, late: int = 0) -> None:
        """A tick reaches a proxy, perhaps an old one. The primary's acknowledgement sets the pace."""
        pod = self.pods[name]
        pod.tick = max(pod.tick, self.ticker.tick - late)
        if name == self.office.pod:
            self.ticker = self.ticker.acknowledged(pod.tick, self.now)

    def deliver_report(self, name: str, report: Reading) -> None:
        """A report reaches whoever computes the table; one of an earlier run came over a link that is no more."""
        if report.boot != str(self.pods[name].boots) or not newer(self.readings.get(name), report):
            return
        self.readings[name] = report
        self.ticker = self.ticker.seen(report.tick)
        if self.pods.keys() == self.readings.keys():
            known = self.readings
            for office in self.offices():
                office.predecessors = tuple(one for one in office.predecessors if not c.spent(one, known))

    def offices(self) -> list[Office]:
        return [office for office in (self.office, self.coming) if office is not None]

    def send_row(self, name: str) -> None:
        """The table is computed anew for one proxy, for whoever assigns or is about to."""
        reading = self.readings.get(name)
        if reading is None:
            return
        for office in self.offices():
            made = office.arithmetic.row(self, self.pods[name], reading, office.predecessors)
            office.sent.setdefault(name, []).append((made, reading.seq))

    def deliver_row(self, name: str, late: int = 0) -> None:
        """A row takes effect at the assigner: the last one sent, or by mischance one sent before it."""
        for office in self.offices():
            sent = office.sent.get(name)
            if sent:
                office.rows[name] = sent[max(0, len(sent) - 1 - late)]

    def refresh(self, name: str) -> None:
        """Nothing goes wrong: report, row and all are in effect at once."""
        self.deliver_report(name, self.pods[name].report(self.now))
        self.send_row(name)
        self.deliver_row(name)

    # calls

    def assign(self, name: str, follow: Follow) -> bool:
        """The primary assigns a call to a proxy if its row allows it. Invariant 1 is checked here."""
        office = self.office
        if name not in office.rows:
            return False
        level, seen = office.rows[name]
        tick = self.pods[office.pod].tick
        if office.unreported >= UNREPORTED:
            if self.coming is not None:
                return False  # the new primary has been told that it will not be more
            office.report(self.ticker.tick)
        if not office.arithmetic.take(level, tick, self.now):
            return False
        self.calls.append(Call(office.id, level.id, tick, follow, self.now + PROMPT_SECONDS))
        office.unreported += 1
        pod = self.pods[name]
        if level.id == pod.id and seen >= pod.disturbed:
            due = sum(one.follow == "prompt" and one.target == pod.id for one in self.calls)
            assert pod.used + due <= pod.places, f"{pod.id} is assigned beyond its room"
        return True

    def arrive(self, call: Call) -> None:
        """A client comes to the proxy that it was given, or to what runs there now."""
        self.calls.remove(call)
        pod = self.pods[call.target.partition("~")[0]]
        known = call.target == pod.id
        if not known or call.tick <= c.closed(pod.tick):
            pod.disturb()
        pod.used += pod.used < pod.places
        if known:
            counts = pod.received.setdefault(call.assigner, {})
            counts[call.tick] = counts.get(call.tick, 0) + 1

    def give_back(self, call: Call) -> None:
        """It is certain that the call never reached the proxy."""
        self.calls.remove(call)
        self.runs[call.assigner].arithmetic.give_back(call.target, call.tick)

    # what happens to proxies

    def restart(self, name: str, forgotten: int) -> None:
        """Kamailio starts anew: other boot, no counts. `forgotten` calls end with it, the others are still relayed."""
        pod = self.pods[name]
        pod.boots, pod.tick, pod.received, pod.used = pod.boots + 1, 0, {}, max(0, pod.used - forgotten)
        pod.disturb()
        self._forget(name)
        if name == self.office.pod:
            self.replace(name)

    def join(self, places: int) -> None:
        self.pods[f"p{self.born}"] = Pod(f"p{self.born}", places)
        self.born += 1

    def die(self, name: str, successor: str) -> None:
        del self.pods[name]
        self._forget(name)
        self.calls = [call for call in self.calls if not call.target.startswith(f"{name}~")]
        if name == self.office.pod:
            self.replace(successor)

    def _forget(self, name: str) -> None:
        self.readings.pop(name, None)
        if self.coming is not None and self.coming.pod == name:
            self.coming = None
        for office in self.offices():
            office.rows.pop(name, None)
            office.sent.pop(name, None)

    def replace(self, name: str) -> None:
        """The primary is lost: its last report is what is known of it."""
        gone, before = self.office.gone(self.ticker.tick, self.office.unreported), self.office.predecessors
        self._succeed(self._office(name), gone, before)

    def begin_hand_over(self, name: str) -> None:
        """The new one gets table and role while the old one goes on."""
        self.office.report(self.ticker.tick)
        coming = self._office(name)
        gone = self.office.gone(None, UNREPORTED)
        coming.predecessors = c.succeed(self.office.predecessors, gone, coming.id)
        self.deliver_tick(name)
        self.coming = coming

    def end_hand_over(self) -> None:
        """The Service points at the new one, the old one is demoted, and its final report is in."""
        if self.coming is not None:
            self.office.report(self.ticker.tick)
            self._succeed(self.coming, self.office.gone(self.ticker.tick, 0), self.office.predecessors)

    def restart_operator(self) -> None:
        """Another operator takes up the ticks where the primary is, and learns of newer ones by reports."""
        self.ticker = c.Ticker(tick=max(1, self.pods[self.office.pod].tick))

    def _succeed(self, office: Office, gone: c.Predecessor, before: Sequence[c.Predecessor]) -> None:
        office.predecessors = c.succeed(before, gone, office.id)
        self.office, self.coming = office, None
        self.ticker = self.ticker.reassigned()
        self.deliver_tick(office.pod)

    # and at last

    def quiet(self, ticks: int = 3) -> None:
        """Nothing goes wrong any more; a few prompt clients call at each proxy, and hang up."""
        self.end_hand_over()
        for name in self.pods:
            self.refresh(name)
        for _ in range(ticks):
            before = {name: pod.used for name, pod in self.pods.items()}
            for name in self.pods:
                self.deliver_tick(name)
                self.refresh(name)
                for _ in range(4):
                    self.assign(name, "prompt")
            for call in [call for call in self.calls if call.follow == "prompt"]:
                self.arrive(call)
            for name, pod in self.pods.items():
                pod.used = min(pod.used, before[name])
            self.wait(self.until_due())
        for name in self.pods:
            self.deliver_tick(name)
            self.refresh(name)

    def lost_room(self) -> dict[str, int]:
        """Places of each proxy that its row does not offer."""
        tick = self.pods[self.office.pod].tick
        return {
            name: max(0, pod.places - pod.used) - self.office.arithmetic.free(self.office.rows[name][0], tick)
            for name, pod in self.pods.items()
        }
