"""Who assigned how many calls to whom, by tick: read from Kamailio without ever reading all of it.

A pool of a thousand proxies has tens of thousands of counters, and a datagram holds a few hundred. So Kamailio keeps a
list of them in the order of their first call (`new=><n>`, n from `cnt=>new`; docs/contracts.md): the agent reads what
was added since it last looked, and after that only counters that can still change.
"""

from __future__ import annotations

from collections.abc import Sequence

from switchboard.agent.kamailio import Kamailio, Key, Value
from switchboard.pool.credits import CLOSES_AFTER, MAX_LIVE_TICKS

NEW: Key = ("cnt", "new")
PATIENCE = 20  # samples until an entry that was numbered and never written is passed over: its worker died
LOOK_BACK = 4096  # entries that an agent which restarted looks back for

ByTick = dict[str, dict[int, int]]  # id → tick → calls


class Counts:
    """The counters of one run of Kamailio: `received` for the live ticks, `assigned` for those still counted."""

    def __init__(self, kamailio: Kamailio) -> None:
        self._kamailio = kamailio
        self.received: ByTick = {}
        self.assigned: ByTick = {}
        self._read_up_to: int | None = None
        self._patience = PATIENCE

    def received_keys(self, tick: int) -> list[Key]:
        """The counters of arrivals that a reading at `tick` needs; what is closed by then is forgotten."""
        self.received = _since(self.received, tick - CLOSES_AFTER)
        return [("rcv", f"{one}:{at}") for one, counts in self.received.items() for at in counts]

    def take_received(self, keys: Sequence[Key], values: Sequence[Value | None]) -> None:
        """The values of `received_keys`, read before the calls in use."""
        for (_, key), value in zip(keys, values, strict=True):
            one, at = _split(key)
            self.received[one][at] = int(value or 0)

    async def discover(self, newest: Value | None) -> None:
        """Read the list's entries up to number `newest`, which was read with the counters."""
        end = int(newest or 0)
        begins = self._read_up_to is None
        begin = max(0, end - LOOK_BACK) if self._read_up_to is None else self._read_up_to
        self._read_up_to = begin
        if end <= begin:
            return
        entries = await self._kamailio.get([("new", str(number)) for number in range(begin + 1, end + 1)])
        for entry in entries:
            if entry is None and self._patience > 0 and not begins:
                self._patience -= 1  # numbered, and about to be written
                return
            self._read_up_to += 1
            self._patience = PATIENCE
            if entry is not None:  # old ones have expired
                self._note(str(entry))

    async def refresh_assigned(self, tick: int, *, everything: bool = False) -> ByTick:
        """Read what was assigned under ticks that still change; gives what did. All live ticks at a hand-over."""
        self.assigned = _since(self.assigned, tick - MAX_LIVE_TICKS)
        since = tick - MAX_LIVE_TICKS if everything else tick - CLOSES_AFTER
        keys = [("ast", f"{one}:{at}") for one, counts in self.assigned.items() for at in counts if at > since]
        changed: ByTick = {}
        for (_, key), value in zip(keys, await self._kamailio.get(keys), strict=True):
            one, at = _split(key)
            count = int(value or 0)
            if self.assigned[one][at] != count:
                self.assigned[one][at] = count
                changed.setdefault(one, {})[at] = count
        return changed

    def _note(self, entry: str) -> None:
        kind, _, key = entry.partition(":")
        one, at = _split(key)
        known = self.assigned if kind == "ast" else self.received
        known.setdefault(one, {}).setdefault(at, 0)


def _split(key: str) -> tuple[str, int]:
    one, _, tick = key.rpartition(":")
    return one, int(tick)


def _since(counts: ByTick, tick: int) -> ByTick:
    """What was counted after `tick`."""
    live = {one: {at: count for at, count in by_tick.items() if at > tick} for one, by_tick in counts.items()}
    return {one: by_tick for one, by_tick in live.items() if by_tick}
