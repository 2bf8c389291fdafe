"""Which operator acts: the one that holds a coordination.k8s.io Lease; a second one waits for it.

`term` numbers the holders and only ever grows: proxies refuse a command of a lower term, so that an operator that was
cut off, and does not know yet that it has been replaced, changes nothing. Therefore each taking of the Lease counts,
also the same operator's after a restart (client-go counts only changes of the holder), and a Lease that somebody
deleted starts again from the clock, above every term before it.

Clocks of two machines are never compared: a waiting operator takes the Lease when it has not seen it change for its
whole duration, the holder gives up acting when it could not renew for two thirds of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from switchboard.control.kube import Kube, KubeError, Object
from switchboard.errors import SwitchboardError

logger = logging.getLogger(__name__)

API_VERSION, KIND = "coordination.k8s.io/v1", "Lease"
TERM_EPOCH = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())  # leaseTransitions is an int32: good until 2088

MAX_LOOK_SECONDS = 2.0  # between two looks at a Lease that another one holds


class OutOfReachError(SwitchboardError):
    """The API server could not be reached for as long as a Lease lasts, so whoever had it has it no longer."""


class Lease:
    """Acquire, then hold; `hold` returns when the Lease is lost."""

    def __init__(  # noqa: PLR0913 - what the Lease is called, and how long it lasts
        self,
        kube: Kube,
        *,
        namespace: str,
        name: str,
        identity: str,
        duration_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.term = 0
        self._kube = kube
        self._namespace, self._name, self._identity = namespace, name, identity
        self._duration_seconds = duration_seconds
        self._clock = clock
        self._current: Object | None = None

    async def acquire(self) -> int:
        """Waits until the Lease is ours; returns the new term, or raises OutOfReachError."""
        seen: str | None = None
        seen_at = answered_at = self._clock()
        waiting_for: str | None = None
        while True:
            try:
                current = await self._kube.get(API_VERSION, KIND, self._namespace, self._name)
                self._check_reach(answered_at)
                answered_at = self._clock()
                version = current["metadata"]["resourceVersion"] if current else None
                if version != seen:
                    seen, seen_at = version, self._clock()
                if current is None or is_free(current, self._clock() - seen_at):
                    await self._take(current)
                    logger.info("Lease %s/%s is ours, term %d", self._namespace, self._name, self.term)
                    return self.term
                holder = current["spec"]["holderIdentity"]
                if holder != waiting_for:
                    waiting_for = holder
                    logger.info("Waiting: operator %s holds the Lease %s/%s", holder, self._namespace, self._name)
            except KubeError as error:
                if error.status != 409:  # 409: another one was faster; look again
                    logger.warning("Cannot take the Lease yet: %s", error)
                if error.status == 0:
                    self._check_reach(answered_at)
            await asyncio.sleep(min(MAX_LOOK_SECONDS, self._duration_seconds / 6))

    async def hold(self) -> None:
        """Renews until the Lease is lost; OutOfReachError when that is because the API server does not answer."""
        renewed_at = self._clock()
        while True:
            await asyncio.sleep(self._duration_seconds / 5)
            try:
                async with asyncio.timeout(self._duration_seconds / 5):
                    await self._renew()
                self._check_reach(renewed_at)
                renewed_at = self._clock()
            except (KubeError, TimeoutError) as error:
                status = error.status if isinstance(error, KubeError) else 0
                if status in {404, 409}:
                    logger.warning("The Lease has been taken or changed by someone else: %s", error)
                    return
                if status == 0:
                    self._check_reach(renewed_at, self._duration_seconds * 2 / 3)
                elif self._clock() - renewed_at > self._duration_seconds * 2 / 3:
                    logger.warning("The Lease could not be renewed in time: %s", error)
                    return

    def _check_reach(self, answered_at: float, seconds: float | None = None) -> None:
        silent_seconds = self._clock() - answered_at
        if silent_seconds > (self._duration_seconds if seconds is None else seconds):
            raise OutOfReachError(f"no answer from the API server for {silent_seconds:.1f} s")

    async def release(self) -> None:
        """Lets a waiting operator take over without waiting for the Lease to run out."""
        if self._current is None:
            return
        self._current["spec"] |= {"holderIdentity": "", "renewTime": _now()}
        try:
            await self._kube.replace(self._current)
        except KubeError as error:
            logger.info("The Lease was not released, it runs out by itself: %s", error)
        self._current = None

    async def _take(self, current: Object | None) -> None:
        now = _now()
        before = current["spec"].get("leaseTransitions", 0) if current else int(time.time()) - TERM_EPOCH
        taken: Object = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"namespace": self._namespace, "name": self._name},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": max(1, round(self._duration_seconds)),
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": before + 1,
            },
        }
        if current is None:
            self._current = await self._kube.create(taken)
        else:
            taken["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"]
            self._current = await self._kube.replace(taken)
        self.term = before + 1

    async def _renew(self) -> None:
        assert self._current is not None  # noqa: S101 - hold comes after acquire
        self._current["spec"]["renewTime"] = _now()
        self._current = await self._kube.replace(self._current)


def is_free(lease: Object, unchanged_seconds: float) -> bool:
    spec = lease.get("spec") or {}
    return not spec.get("holderIdentity") or unchanged_seconds > spec.get("leaseDurationSeconds", 0)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
