"""Targets of a pool's routes that no proxy reaches, by the proxies' health checks: told once, and when one is back."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from switchboard.control.member import Member
from switchboard.control.recorder import Note
from switchboard.pool.spec import PoolSpec


class Targets:
    """`dead` is what no proxy reached at the last look."""

    def __init__(self, note: Callable[[Note], None]) -> None:
        self.dead: tuple[str, ...] = ()
        self._note = note

    def look(self, members: Iterable[Member], spec: PoolSpec) -> None:
        """Nothing changes while no proxy can say: those that start have not checked yet."""
        if not spec.health_checks.period_seconds:
            self.dead = ()
        known = [set(one.dead_targets) for one in members if one.up and one.dead_targets is not None]
        if not known:
            return
        before, self.dead = self.dead, tuple(sorted(set.intersection(*known)))
        for target in self.dead:
            if target not in before:
                message = f"No proxy gets an answer from target {target}; calls go to the others of its routes."
                self._note(Note("TargetUnreachable", message, "Warning"))
        for target in set(before).difference(self.dead).intersection(_called(spec)):
            self._note(Note("TargetReachable", f"Target {target} answers again."))


def _called(spec: PoolSpec) -> set[str]:
    lists = [*(route.targets for route in spec.routes), *(gateway.targets for gateway in spec.gateways)]
    return {target for targets in lists for target in targets}
