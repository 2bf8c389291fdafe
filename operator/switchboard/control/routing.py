"""The routing table kept up to date row by row: a report costs the same in a pool of three and of a thousand.

Rows are recomputed when their proxy reports. Only when members or the assigner change is everything computed anew; the
next push then sends the whole table. Between pushes the names of changed rows are collected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from switchboard.pool.credits import Predecessor
from switchboard.pool.table import Proxy, Row, compute, eligible, row


class Change(msgspec.Struct, frozen=True):
    """What a push has to carry; `rows` is None when the whole table has to be sent."""

    rows: tuple[Row, ...] | None
    since: float  # when the oldest of its changes was reported


class RoutingTable:
    """The rows for one assigner (`<pod>~<boot>`), in policy order."""

    def __init__(self) -> None:
        self.assigner: str | None = None
        self.rows: list[Row] = []
        self._at: dict[str, int] = {}
        self._places = 1
        self._predecessors: Sequence[Predecessor] = ()
        self._changed: set[str] = set()
        self._whole = True
        self._since: float | None = None

    @property
    def dirty(self) -> bool:
        return self._since is not None

    def rebuild(
        self,
        proxies: Iterable[Proxy],
        assigner: str | None,
        places: int,
        predecessors: Sequence[Predecessor],
        now: float,
    ) -> None:
        """Everything anew: members, assigner or predecessors have changed."""
        rows = [] if assigner is None else list(compute(proxies, assigner, places=places, predecessors=predecessors))
        if rows == self.rows and assigner == self.assigner:
            return
        self.assigner, self._places, self._predecessors = assigner, places, predecessors
        self.rows = rows
        self._at = {one.id: index for index, one in enumerate(rows)}
        self._whole = True
        self.touch(now)

    def update(self, proxy: Proxy) -> bool:
        """Takes in one proxy's new reading; False when it changes who is in the table: rebuild then."""
        index = self._at.get(proxy.id)
        if (index is not None) != eligible(proxy):
            return False
        if index is None or self.assigner is None or proxy.reading is None:
            return True
        new = row(proxy, proxy.reading, self.assigner, places=self._places, predecessors=self._predecessors)
        if new != self.rows[index]:
            self.rows[index] = new
            self._changed.add(proxy.id)
            self.touch(proxy.reading.sampled_at)
        return True

    def take(self) -> Change | None:
        """What has changed since the last `take`; the caller sends it, or calls `lost` when it could not."""
        if self._since is None:
            return None
        rows = None if self._whole else tuple(self.rows[self._at[name]] for name in self._changed if name in self._at)
        change = Change(rows, self._since)
        self._changed, self._whole, self._since = set(), False, None
        return change

    def touch(self, now: float) -> None:
        """Something that goes along with the table has changed: it is to be sent, whether rows have changed or not."""
        if self._since is None:
            self._since = now

    def lost(self, now: float) -> None:
        """What was sent did not come into effect, or nobody knows: the next push carries the whole table."""
        self._whole = True
        self.touch(now)
