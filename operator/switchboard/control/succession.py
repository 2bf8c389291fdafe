"""What assigners before the present one may still have on the way, kept until nothing of it can be (pool.credits)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from switchboard.pool.credits import Counts, Predecessor, expected_unreported, spent, succeed
from switchboard.pool.table import Proxy, eligible

OVERLAP_SECONDS = 0.5  # how long two assigners may overlap in a planned hand-over

Assigned = Mapping[str, Counts]


class Succession:
    """`tick` gives the newest tick sent; each method returns whether anything changed, so that rows are made anew."""

    def __init__(self, tick: Callable[[], int]) -> None:
        self.predecessors: tuple[Predecessor, ...] = ()
        self._tick = tick
        self._settling: set[str] = set()  # ids: demoted, the next report tells exactly what they had assigned

    def overlaps(self, old: str, assigned: Assigned, per_second: float, new: str) -> None:
        """The assigner with id `old` goes on beside `new` until it is demoted."""
        unreported = expected_unreported(per_second, OVERLAP_SECONDS)
        gone = Predecessor(id=old, assigned=assigned, last_tick=None, unreported=unreported)
        self.predecessors = succeed(self.predecessors, gone, new)

    def killed(self, old: str, assigned: Assigned, per_second: float, silent_seconds: float, new: str = "") -> None:
        """The assigner with id `old` is gone; its last report came `silent_seconds` ago."""
        unreported = expected_unreported(per_second, silent_seconds)
        gone = Predecessor(id=old, assigned=assigned, last_tick=self._tick(), unreported=unreported)
        self.predecessors = succeed(self.predecessors, gone, new)

    def dies_overlapping(self, old: str, assigned: Assigned, per_second: float, silent_seconds: float) -> bool:
        """A demotion that will never be acknowledged."""
        if not any(one.id == old and one.last_tick is None for one in self.predecessors):
            return False
        unreported = expected_unreported(per_second, silent_seconds)
        self._replace(Predecessor(id=old, assigned=assigned, last_tick=self._tick(), unreported=unreported))
        return True

    def demoted(self, old: str) -> None:
        """It has acknowledged that it is a member now: its next report is complete."""
        if any(one.id == old for one in self.predecessors):
            self._settling.add(old)

    def reported(self, old: str, assigned: Assigned) -> bool:
        if old not in self._settling:
            return False
        self._settling.discard(old)
        self._replace(Predecessor(id=old, assigned=assigned, last_tick=self._tick()))
        return True

    def forget_spent(self, proxies: Iterable[Proxy]) -> bool:
        if not self.predecessors:
            return False
        readings = {one.id: one.reading for one in proxies if eligible(one) and one.reading is not None}
        left = tuple(one for one in self.predecessors if not spent(one, readings))
        changed = len(left) != len(self.predecessors)
        self.predecessors = left
        return changed

    def _replace(self, one: Predecessor) -> None:
        self.predecessors = (*(before for before in self.predecessors if before.id != one.id), one)
