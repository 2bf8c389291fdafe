"""What a pool tells the world: its load ConfigMap and its status, each written no more often than it may be."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from switchboard.control.fleet import Fleet
from switchboard.control.kube import Kube, Object
from switchboard.control.observed import format_time
from switchboard.control.owned import Id, Owned
from switchboard.pool import load
from switchboard.pool.conditions import Condition, ConditionType, Observed, Problem, Status, Truth, status, status_due
from switchboard.pool.spec import PoolSpec
from switchboard.resources import names
from switchboard.resources.configmaps import build_load
from switchboard.resources.names import PoolRef

_REFUSAL: tuple[tuple[ConditionType, Truth], ...] = (("Ready", "False"), ("Reconciling", "False"), ("Stalled", "True"))


class Publisher:
    def __init__(self, kube: Kube, owned: Owned, fleet: Fleet) -> None:
        self._kube, self._owned, self._fleet = kube, owned, fleet
        self._load: load.LoadDocument | None = None
        self._load_at = 0.0
        self.latest: Status | None = None  # as of the last reconcile, written or not
        self._status: Status | None = None
        self._status_at = 0.0
        self._refusal: tuple[Problem, int] | None = None

    @property
    def interval_seconds(self) -> float:
        return load.publish_interval(len(self._fleet.members))

    async def publish_load(
        self, pool: PoolRef, spec: PoolSpec, entry: str | None, observed: Mapping[Id, Object]
    ) -> None:
        now = self._fleet.clock()
        document = load.load_document(
            self._fleet.proxies(),
            load.Clock(monotonic=now, wall=time.time()),
            pool=pool.name,
            version=self._fleet.version,
            primary=entry,
            threshold=spec.threshold,
            stale_after_seconds=spec.sharing.stale_after_seconds,
        )
        if load.must_publish(self._load, document, now - self._load_at, spec.sharing.change):
            self._load, self._load_at = document, now
        if self._load is not None:
            await self._owned.ensure(build_load(pool, self._load), observed)

    async def publish_status(  # noqa: PLR0913 - what a status is made of
        self,
        resource: Object,
        pool: PoolRef,
        spec: PoolSpec,
        entry: str | None,
        *,
        desired: int,
        addresses: tuple[str, ...],
        refused: Problem | None,
        failing: Problem | None = None,
        secrets: Problem | None = None,
        dead_targets: tuple[str, ...] = (),
        without_database: tuple[str, ...] = (),
    ) -> None:
        """Writes the status when it is due; a spec that is refused is shown with what is in effect instead."""
        now = self._fleet.clock()
        proxies = self._fleet.proxies()
        seen = Observed(
            generation=resource["metadata"]["generation"],
            spec=spec,
            proxies=proxies,
            desired=desired,
            entry=entry,
            addresses=addresses,
            selector=names.selector_text(pool, without=[proxy.name for proxy in proxies if proxy.draining]),
            load_config_map=names.load(pool),
            now=now,
            refused=refused,
            failing=failing,
            secrets=secrets,
            dead_targets=dead_targets,
            without_database=without_database,
        )
        new = status(seen, self._conditions(resource), format_time(datetime.now(UTC)))
        self.latest = new
        if not status_due(self._status, new, now - self._status_at):
            return
        await self._apply(pool, msgspec.to_builtins(new))
        self._status, self._status_at = new, now

    async def publish_refusal(self, resource: Object, pool: PoolRef, refused: Problem | None) -> None:
        """For a pool whose very first spec is refused: there is nothing in effect to tell about."""
        if refused is None or self._refusal == (refused, resource["metadata"]["generation"]):
            return
        generation, now = resource["metadata"]["generation"], format_time(datetime.now(UTC))
        conditions = tuple(
            Condition(
                type=kind,
                status=truth,
                reason=refused.reason,
                message=refused.message,
                observed_generation=generation,
                last_transition_time=now,
            )
            for kind, truth in _REFUSAL
        )
        await self._apply(pool, {"observedGeneration": generation, "conditions": msgspec.to_builtins(conditions)})
        self._refusal = (refused, generation)

    async def _apply(self, pool: PoolRef, written: Object) -> None:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"namespace": pool.namespace, "name": pool.name},
            "status": written,
        }
        await self._kube.apply(body, subresource="status")

    def _conditions(self, resource: Object) -> tuple[Condition, ...]:
        """Those written last; an operator that has just started takes them from the pool."""
        if self._status is not None:
            return self._status.conditions
        try:
            return msgspec.convert((resource.get("status") or {}).get("conditions") or [], tuple[Condition, ...])
        except msgspec.ValidationError:
            return ()
