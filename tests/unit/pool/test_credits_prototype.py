"""The tests of the credits would fail with an arithmetic that leaks: limit = room + max(received, assigned 4 s ago)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from switchboard.pool.credits import Predecessor, received_live
from switchboard.pool.table import Reading, Row
from tests.unit.pool.world import BothLanguages, Pod, World


class Prototype:
    """Counts assignments in total; those older than 4 s are taken to have arrived."""

    def __init__(self, assigner: str) -> None:
        self.id = assigner
        self.assigned: Counter[str] = Counter()
        self.times: list[tuple[float, str]] = []

    def row(self, world: World, pod: Pod, reading: Reading, predecessors: Sequence[Predecessor]) -> Row:
        received = received_live(reading.received, self.id, -1)
        settled = sum(1 for at, proxy in self.times if proxy == pod.id and at <= world.now - 4)
        limit = reading.room + max(received, settled)
        return Row(id=pod.id, uri="", advertise="", room=limit, received=0, closed=0, weight=1)

    def take(self, level: Row, tick: int, now: float) -> bool:
        if self.free(level, tick) <= 0:
            return False
        self.assigned[level.id] += 1
        self.times.append((now, level.id))
        return True

    def free(self, level: Row, tick: int) -> int:
        return level.room - self.assigned[level.id]

    def give_back(self, proxy: str, tick: int) -> None:
        raise AssertionError("not part of this history")

    def reported(self) -> Mapping[str, Mapping[int, int]]:
        return {}


def test_lost_assignments_leak_room_in_the_prototype_only() -> None:
    """After some clients never followed their redirect, quiet reports give all room back; the prototype's do not."""
    lost = {}
    for make in (BothLanguages, Prototype):
        world = World([20, 20], make)
        for name in world.pods:
            world.refresh(name)
            for _ in range(10):
                assert world.assign(name, "never")
        world.quiet()
        lost[make] = world.lost_room()
    assert lost[BothLanguages] == {"p0": 0, "p1": 0}
    assert all(places > 0 for places in lost[Prototype].values())
