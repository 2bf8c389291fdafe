"""How many proxies a pool is to have at this moment: `spec.replicas`, or what its autoscaler finds.

The outcome is told in `status.desiredReplicas`; `spec.replicas` belongs to whoever applies the pool.
"""

from __future__ import annotations

from collections.abc import Callable

from switchboard.control.fleet import Fleet
from switchboard.control.recorder import Note
from switchboard.pool.autoscaling import Autoscaler
from switchboard.pool.spec import Autoscaling, PoolSpec


class Scaler:
    def __init__(self, fleet: Fleet, note: Callable[[Note], None]) -> None:
        self._fleet, self._note = fleet, note
        self._autoscaler: Autoscaler | None = None
        self._told: int | None = None  # the last number that the autoscaler came to

    def look(self, spec: PoolSpec) -> int:
        """The number as of now."""
        if spec.autoscaling is None:
            self._autoscaler = self._told = None
            return spec.replicas
        members = self._fleet.members.values()
        turned_away = {one.proxy.id: one.report.saturated for one in members if one.report is not None}
        before = self._autoscaler or Autoscaler()
        now = before.look(self._fleet.clock(), self._fleet.proxies(), turned_away, spec, spec.autoscaling)
        self._autoscaler = now
        return self._tell(now, spec.autoscaling)

    def desired(self, spec: PoolSpec) -> int:
        """The number that the last look came to."""
        if spec.autoscaling is None or self._autoscaler is None:
            return spec.replicas
        return self._autoscaler.wanted(spec.autoscaling)

    def _tell(self, now: Autoscaler, rule: Autoscaling) -> int:
        wanted = now.wanted(rule)
        if self._told is not None and self._told != wanted:
            limit = f" (spec.autoscaling.max; {now.needed} are needed)" if now.needed > rule.max else ""
            used = f"calls fill {now.used:.1f} proxies up to the threshold"
            self._note(Note("Autoscaled", f"From {self._told} to {wanted} proxies{limit}: {used}."))
        self._told = wanted
        return wanted
