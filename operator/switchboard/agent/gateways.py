"""Calls of gateways that may have only so many at a time, as this proxy's Kamailio counts them (`pool.gateways`)."""

from __future__ import annotations

from collections.abc import Sequence

from switchboard.agent.counts import ByTick
from switchboard.agent.kamailio import Call, Kamailio, Refusal
from switchboard.pool.credits import CLOSES_AFTER
from switchboard.pool.table import GatewayCalls

KEPT_TICKS = CLOSES_AFTER + 1  # one longer than live here: another proxy may be a tick behind


class GatewayCounts:
    """The counters of one run of Kamailio."""

    def __init__(self, kamailio: Kamailio) -> None:
        self._kamailio = kamailio
        self._assignments: set[tuple[str, int]] = set()  # by which primary, under which tick

    async def read(self, names: Sequence[str], received: ByTick, tick: int) -> dict[str, GatewayCalls]:
        """Of these gateways; `received`, of all calls, tells by whom there can be any. What arrived is read first."""
        self._assignments |= {(assigner, at) for assigner, ticks in received.items() for at in ticks}
        self._assignments = {(assigner, at) for assigner, at in self._assignments if at > tick - KEPT_TICKS}
        if not names:
            return {}
        pairs = [(name, assigner, at) for name in names for assigner, at in sorted(self._assignments)]
        arrived = await self._kamailio.get([("gwrcv", f"{name}:{assigner}:{at}") for name, assigner, at in pairs])
        counts: dict[str, dict[str, dict[int, int]]] = {name: {} for name in names}
        for (name, assigner, at), count in zip(pairs, arrived, strict=True):
            if count:
                counts[name].setdefault(assigner, {})[at] = int(count)
        calls: list[Call] = [("dlg.profile_get_size", ("gateway", name)) for name in names]
        sizes = await self._kamailio.batch(calls)
        return {
            name: GatewayCalls(0 if isinstance(size, Refusal) else int(size), counts[name])
            for name, size in zip(names, sizes, strict=True)
        }
