"""A pool's pods: started, told to drain, taken back, deleted, as a `pool.scaling.Plan` says."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime

from switchboard.control.kube import Kube
from switchboard.control.member import ENDED_GRACE_SECONDS
from switchboard.control.observed import DRAINING_SINCE, PodView, format_time
from switchboard.control.overlay import Overlay
from switchboard.pool.scaling import Plan
from switchboard.pool.spec import PoolSpec
from switchboard.resources import names
from switchboard.resources.names import PoolRef
from switchboard.resources.pods import build_pod

logger = logging.getLogger(__name__)

SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # as Kubernetes': no vowels, nothing that looks like something else
SUFFIX_LENGTH = 5
AT_ONCE = 10  # requests in flight
FAILURE_PAUSE_SECONDS, FAILURE_PAUSE_MAX_SECONDS = 1.0, 60.0  # doubled with every pod that fails in a row


class Pods:
    def __init__(self, kube: Kube, clock: Callable[[], float]) -> None:
        self._kube, self._clock = kube, clock
        self._overlay: Overlay[str, PodView] = Overlay(lambda pod: pod.version, clock)
        self._failures = 0
        self._create_after = 0.0

    def latest(self, pool: PoolRef, observed: Iterable[PodView]) -> list[PodView]:
        """The pods there are; one that an older pool of this name left behind is the garbage collector's."""
        latest = self._overlay.over({pod.name: pod for pod in observed})
        return [pod for pod in latest.values() if pod.owner == pool.uid]

    async def carry_out(self, pool: PoolRef, spec: PoolSpec, plan: Plan, pods: Iterable[PodView]) -> None:
        known = {pod.name: pod for pod in pods}
        self._count_failures([known[name] for name in plan.delete], known.values())
        now = datetime.now(UTC)
        await self._all(self._mark(known[name], now) for name in plan.drain)
        await self._all(self._mark(known[name], None) for name in plan.undrain)
        await self._all(self._delete(known[name]) for name in plan.delete)
        if plan.create and self._clock() >= self._create_after:
            await self._all(self._create(pool, spec) for _ in range(plan.create))

    async def _all(self, requests: Iterable[Coroutine[None, None, None]]) -> None:
        """Some at a time; the first that fails is raised, after the others have ended."""
        limit = asyncio.Semaphore(AT_ONCE)

        async def limited(request: Coroutine[None, None, None]) -> None:
            async with limit:
                await request

        ended = await asyncio.gather(*(limited(request) for request in requests), return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error

    async def _create(self, pool: PoolRef, spec: PoolSpec) -> None:
        suffix = "".join(secrets.choice(SUFFIX_ALPHABET) for _ in range(SUFFIX_LENGTH))
        created = PodView.of(await self._kube.create(build_pod(pool, spec, names.proxy(pool, suffix))))
        self._overlay.wrote(created.name, created)
        logger.info("%s: started", created.name)

    async def _mark(self, pod: PodView, draining_since: datetime | None) -> None:
        """The pod itself remembers since when it drains, for an operator that starts anew."""
        text = format_time(draining_since) if draining_since is not None else None
        identity = {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": pod.namespace, "name": pod.name}}
        patched = await self._kube.merge(identity, {"metadata": {"annotations": {DRAINING_SINCE: text}}})
        self._overlay.wrote(pod.name, PodView.of(patched))
        logger.info("%s: %s", pod.name, "drains" if draining_since else "serves again")

    async def _delete(self, pod: PodView) -> None:
        left = await self._kube.delete_pod(pod.namespace, pod.name, pod.uid, ENDED_GRACE_SECONDS)
        if left is not None:
            self._overlay.wrote(pod.name, PodView.of(left))
        logger.info("%s: deleted%s", pod.name, ", it has failed" if pod.failed else "")

    def _count_failures(self, going: list[PodView], known: Iterable[PodView]) -> None:
        failed = sum(pod.failed for pod in going)
        if not failed and all(pod.ready for pod in known):
            self._failures = 0
        if failed:
            self._failures += failed
            pause = min(FAILURE_PAUSE_MAX_SECONDS, FAILURE_PAUSE_SECONDS * 2 ** (self._failures - 1))
            self._create_after = self._clock() + pause
            logger.warning("%d pod(s) failed; the next is started in %.0f s", failed, pause)
