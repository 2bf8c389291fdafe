"""One pool: a level-based reconcile in a task of its own, woken by events, by links and now and then by the clock.

It asks what is, not what has changed, so a missed event or a restart in the middle of anything costs nothing but time.
What is fast does not pass here: the dispatcher's loops (routing table, ticks) and the one that keeps the pool's primary
run beside it and never wait for it, so an API server that is slow, or refuses some of our writes, delays no failover.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import closing

import aiohttp
import msgspec

from switchboard.control.accept import Accepted, accept, build_kept
from switchboard.control.credentials import ensure_secrets
from switchboard.control.dispatch import Dispatcher
from switchboard.control.entry import Entry
from switchboard.control.fleet import Fleet
from switchboard.control.kube import Kube, KubeError, Object
from switchboard.control.listening import Listening
from switchboard.control.metrics import RECONCILE_SECONDS, RECONCILES, telling
from switchboard.control.nodes import Nodes
from switchboard.control.observed import Observed, PodView, PoolKey
from switchboard.control.owned import Id, Owned
from switchboard.control.pods import Pods
from switchboard.control.publish import Publisher
from switchboard.control.recorder import Note, Recorder
from switchboard.control.scaler import Scaler
from switchboard.control.settings import Settings
from switchboard.control.targets import Targets
from switchboard.errors import SwitchboardError
from switchboard.logs import about
from switchboard.pool.conditions import Problem, Status
from switchboard.pool.scaling import drained, plan
from switchboard.pool.spec import PoolSpec
from switchboard.resources import names
from switchboard.resources.accounts import build_service_account
from switchboard.resources.disruption import build_disruption_budget
from switchboard.resources.names import PoolRef
from switchboard.resources.networkpolicies import build_network_policy
from switchboard.resources.services import build_proxies_service, build_service, entry_addresses, known_as
from switchboard.resources.settings import settings as link_settings

logger = logging.getLogger(__name__)

GAP_SECONDS = 0.02  # events come in flocks; a primary's loss can wait for so long
RETRY_SECONDS, RETRY_MAX_SECONDS = 0.5, 15.0  # after a failed reconcile, doubled each time
ENTRY_GAP_SECONDS = 0.005  # clients wait for a new primary
ENTRY_RETRY_SECONDS, ENTRY_RETRY_MAX_SECONDS = 0.1, 2.0  # likewise
MAX_SHOWN_DRAINED = 100  # names in the disruption budget's selector


class View(msgspec.Struct, frozen=True):
    """What one reconcile looks at."""

    resource: Object
    pool: PoolRef
    owned: Mapping[Id, Object]


class PoolController:
    """`run` returns when the pool is gone; cancelled, it closes its links and leaves all in the cluster as it is."""

    def __init__(  # noqa: PLR0913 - which pool, and what to reach it with
        self,
        key: PoolKey,
        observed: Observed,
        term: int,
        *,
        kube: Kube,
        session: aiohttp.ClientSession,
        settings: Settings,
        nodes: Nodes,
    ) -> None:
        self.last_success = time.monotonic()
        self._key, self._observed, self._settings, self._nodes = key, observed, settings, nodes
        self._woken = asyncio.Event()
        self._entry_woken = asyncio.Event()
        resource = observed.pool(key)
        assert resource is not None  # noqa: S101 - the manager starts controllers for pools that exist
        self._resource = resource
        self._pool = PoolRef.of(resource)
        self._accepted: Accepted | None = None
        self._refused: Problem | None = None
        self._addresses: tuple[str, ...] = ()  # of the Service
        self._retry_seconds = RETRY_SECONDS
        self._recorder = Recorder(kube, settings.identity)
        self._owned = Owned(kube)
        self._pods = Pods(kube, time.monotonic)
        self.fleet = Fleet(self._pool, term, session, wake=self.wake, note=self._note)
        self._entry = Entry(self.fleet, self._owned, self._note)
        self._scaler = Scaler(self.fleet, self._note)
        self._listening = Listening(kube, self._note, time.monotonic)
        self._targets = Targets(self._note)
        self._publisher = Publisher(kube, self._owned, self.fleet)

    def wake(self) -> None:
        self._woken.set()
        self._entry_woken.set()

    @property
    def told(self) -> tuple[Status, PoolSpec] | None:
        """The pool's status, and the spec in effect, for the metrics."""
        if self._publisher.latest is None or self._accepted is None:
            return None
        return self._publisher.latest, self._accepted.spec

    async def run(self) -> None:
        about(namespace=self._pool.namespace, pool=self._pool.name)
        with telling(*self._key), closing(self.fleet):
            async with asyncio.TaskGroup() as tasks:
                loops = (Dispatcher(self.fleet).run(), self._recorder.run(), self._keep_primary())
                beside = [tasks.create_task(loop) for loop in loops]
                await self._reconcile_while_there()
                for task in beside:
                    task.cancel()
        logger.info("%s/%s: gone", *self._key)

    async def _reconcile_while_there(self) -> None:
        while (view := self._look()) is not None:
            self._woken.clear()
            try:
                with RECONCILE_SECONDS.time():
                    await self._reconcile(view)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong here must not take the links down
                RECONCILES.labels("error").inc()
                await self._failed(view, error)
            else:
                RECONCILES.labels("success").inc()
                self.last_success = time.monotonic()
                self._retry_seconds = RETRY_SECONDS
                await self._rest()

    # observe

    def _look(self) -> View | None:
        """None: the pool is gone, or is another one of the same name."""
        resource = self._observed.pool(self._key)
        if (
            resource is None
            or resource["metadata"]["uid"] != self._pool.uid
            or "deletionTimestamp" in resource["metadata"]
        ):
            return None
        self._resource = resource
        return View(resource, self._pool, self._observed.owned(self._key))

    def _follow(self, accepted: Accepted) -> list[PodView]:
        """The pods there are at this moment, our own last writes included; the fleet knows them then."""
        cordoned = self._nodes.cordoned
        pods = [
            msgspec.structs.replace(pod, evicted=True) if pod.node in cordoned else pod
            for pod in self._pods.latest(self._pool, self._observed.pods(self._key))
        ]
        self.fleet.follow(pods, accepted.spec, accepted.template)
        return pods

    def _primary(self) -> str | None:
        """The pod that the Service points at, at this moment."""
        return self._entry.current(self._pool, self._observed.owned(self._key))

    # the primary

    async def _keep_primary(self) -> None:
        """Elects and hands over; writes the Service's EndpointSlice and nothing else."""
        pause = ENTRY_RETRY_SECONDS
        while True:
            await self._entry_woken.wait()
            self._entry_woken.clear()
            if self._accepted is None:
                continue
            try:
                self._follow(self._accepted)
                await self._entry.settle(self._pool, self._accepted.spec, self._observed.owned(self._key))
            except Exception as error:  # noqa: BLE001 - whatever goes wrong here must not take the links down
                self._complain("the primary could not be settled", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, ENTRY_RETRY_MAX_SECONDS)
                self._entry_woken.set()
            else:
                pause = ENTRY_RETRY_SECONDS
                await asyncio.sleep(ENTRY_GAP_SECONDS)

    def _complain(self, what: str, error: Exception) -> None:
        known = isinstance(error, SwitchboardError)
        logger.warning("%s/%s: %s: %s", *self._key, what, error, exc_info=None if known else error)

    # decide and apply

    async def _reconcile(self, view: View) -> None:
        accepted = self._accept(view)
        if accepted is None:
            return await self._publisher.publish_refusal(view.resource, view.pool, self._refused)
        self._entry_woken.set()
        await self._provide(view, accepted)
        await self._scale(accepted)
        self._targets.look(self.fleet.members.values(), accepted.spec)
        await self._publisher.publish_load(view.pool, accepted.spec, self._primary(), view.owned)
        await self._publish_status(view, accepted)
        return None

    def _accept(self, view: View) -> Accepted | None:
        kept = self._owned.latest(view.owned).get(("ConfigMap", names.settings(view.pool)))
        accepted, refused = accept(view.resource, view.pool, self._accepted, kept)
        if refused is not None and refused != self._refused:
            self._note(Note("SpecRejected", f"{refused.reason}: {refused.message}", "Warning"))
        self._accepted, self._refused = accepted, refused
        return accepted

    async def _provide(self, view: View, accepted: Accepted) -> None:
        """All that pods need before they start, and what is to be in effect there."""
        pool, spec, owned = view.pool, accepted.spec, view.owned
        await self._listening.look(pool, spec)
        credentials = await ensure_secrets(self._owned, pool, owned, self.fleet.fingerprints())
        service = await self._owned.ensure(build_service(pool, spec.listen, spec.expose), owned)
        self._addresses = entry_addresses(service)
        settings = link_settings(pool, spec, addresses=known_as(service))
        for wanted in (
            build_kept(pool, settings, accepted),
            build_service_account(pool),
            build_proxies_service(pool, spec.listen, spec.expose),
            build_network_policy(pool, spec, self._settings.lease_namespace),
            build_disruption_budget(pool, drained=self._drained()),
        ):
            await self._owned.ensure(wanted, owned)
        self.fleet.equip(settings, credentials)

    def _drained(self) -> list[str]:
        leaving = [proxy.name for proxy in self.fleet.proxies() if proxy.draining and drained(proxy)]
        return leaving[:MAX_SHOWN_DRAINED]

    async def _scale(self, accepted: Accepted) -> None:
        """Pods come and go; when the primary has to go, it hands over before."""
        spec, pods, primary = accepted.spec, self._follow(accepted), self._primary()
        desired = self._scaler.look(spec)
        todo = plan(self.fleet.proxies(), spec, desired=desired, primary=primary, now=self.fleet.clock())
        coming = self._entry.handover.new if self._entry.handover else todo.hand_over_to
        todo = msgspec.structs.replace(todo, drain=tuple(name for name in todo.drain if name != coming))
        self._entry.successor = todo.hand_over_to
        if todo.hand_over_to is not None:
            self._entry_woken.set()
        await self._pods.carry_out(self._pool, spec, todo, pods)
        if any((todo.create, todo.drain, todo.undrain, todo.delete)):
            self.wake()  # what has been written is to be followed at once

    async def _publish_status(self, view: View, accepted: Accepted, failing: Problem | None = None) -> None:
        await self._publisher.publish_status(
            view.resource,
            view.pool,
            accepted.spec,
            self._primary(),
            desired=self._scaler.desired(accepted.spec),
            addresses=self._addresses,
            refused=self._refused,
            failing=failing,
            secrets=self._listening.problem,
            dead_targets=self._targets.dead,
            without_database=tuple(
                one.proxy.name for one in self.fleet.members.values() if one.up and one.database_up is False
            ),
        )

    # when

    async def _rest(self) -> None:
        """Until something happens; meanwhile the load is published, and drains are watched."""
        await asyncio.sleep(GAP_SECONDS)
        wait = self._publisher.interval_seconds if self._busy() else self._settings.resync_seconds
        try:
            async with asyncio.timeout(wait):
                await self._woken.wait()
        except TimeoutError:
            return

    def _busy(self) -> bool:
        """Whether figures may have moved: every proxy reports, so whenever there are proxies."""
        return bool(self.fleet.members)

    async def _failed(self, view: View, error: Exception) -> None:
        self._complain("reconcile failed", error)
        unreachable = isinstance(error, KubeError) and error.status == 0
        if self._accepted is not None and not unreachable:
            try:
                failing = Problem("ReconcileFailed", str(error))
                await self._publish_status(view, self._accepted, failing)
            except KubeError as again:
                logger.info("%s/%s: nor could the status be written: %s", *self._key, again)
        await asyncio.sleep(self._retry_seconds)
        self._retry_seconds = min(2 * self._retry_seconds, RETRY_MAX_SECONDS)

    def _note(self, note: Note) -> None:
        self._recorder.note(self._resource, note)
