"""One Pod on this node, from its binding to its end: set up, run in order, taken down in reverse order.

    _live:       network and volumes -> init containers one by one (sidecars: until started) -> main containers together
                 -> when the last main one has ended for good: sidecars, the last one first
    _terminate:  main containers together -> sidecars, the last one first; all within one grace period

A deletion ends `_live` wherever it is and goes on with `_terminate`. A Pod that is gone from the API server before its
processes are (`kubectl delete --force`) is killed at once.
"""

import asyncio
import contextlib
import logging
from typing import Protocol

from e2e.embedded.errors import ApiError, PodSetupError
from e2e.embedded.node import environment, images, status
from e2e.embedded.node.api import Api
from e2e.embedded.node.container import ContainerRunner, Launched
from e2e.embedded.node.deadline import Deadline, cancelled
from e2e.embedded.node.model import Container, KeyRef, Pod
from e2e.embedded.node.sandbox import Addresses, Mount, Sandbox
from e2e.embedded.node.status import ContainerRecord, PodRecord
from e2e.embedded.node.volumes import Volumes
from e2e.embedded.settings import Settings
from e2e.embedded.state import State, write_atomically

log = logging.getLogger(__name__)

SETUP_RETRY_SECONDS = 1.0
API_RETRY_SECONDS = 0.5
SIDECAR_GRACE_SECONDS = 2.0  # at least, even when the main containers have used up the grace period: as a kubelet


class Node(Protocol):
    """What a Pod needs from the node."""

    state: State
    api: Api
    addresses: Addresses
    services: dict[str, str]

    @property
    def settings(self) -> Settings:
        """The cluster's, as they are now."""

    def event(self, pod: Pod, kind: str, reason: str, message: str) -> None:
        """Records an Event about a Pod."""


class PodWorker:
    """`run` ends when nothing of the Pod is left on this node."""

    def __init__(self, node: Node, pod: Pod) -> None:
        self.pod = pod
        self._node = node
        self.address = node.addresses.take()
        root = node.state.root / "volumes" / pod.metadata.uid
        self._volumes = Volumes(node.api, pod, root, self.address)
        self._sandbox = Sandbox(node.state, pod, self.address)
        self._sandbox_made = False
        self._volumes_made = False
        self._making: asyncio.Task[None] | None = None
        self._living: asyncio.Task[None] | None = None
        self._records = {one.name: ContainerRecord(one) for one in (*pod.spec.init_containers, *pod.spec.containers)}
        self._runners: dict[str, ContainerRunner] = {}
        self._keys: dict[tuple[str, str], dict[str, str]] = {}
        self._over = False
        self._gone = False
        self._deleting = asyncio.Event()
        self._grace = Deadline(pod.spec.termination_grace_period_seconds)
        self._dirty = asyncio.Event()
        self._written: dict[str, object] = dict(pod.status)
        self._refreshing: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._started_at = status.now()

    # What the node tells it.

    def update(self, pod: Pod) -> None:
        """The Pod is another than it was; labels, and whether it is to end, are what can change."""
        self.pod = pod
        if pod.metadata.deletion_timestamp is not None:
            seconds = float(pod.metadata.deletion_grace_period_seconds or 0)
            if not self._deleting.is_set():
                self._grace = Deadline(seconds)
                self._deleting.set()
                self.event("Normal", "Killing", f"stopping within {seconds:g} s")
            else:
                self._grace.bring_forward(seconds)

    def vanished(self) -> None:
        """The Pod is gone from the API server: its processes have to go at once."""
        self._gone = True
        self._grace.bring_forward(0)
        if not self._deleting.is_set():
            self._grace = Deadline(0)
            self._deleting.set()

    def object_changed(self, kind: str, name: str) -> None:
        """A ConfigMap or Secret of its namespace; the files follow after the delay that was chosen."""
        if self._volumes.uses(kind, name):
            self._refresh_in(self._node.settings.volume_refresh_seconds)

    def services_changed(self) -> None:
        """/etc/hosts has them all."""
        if self._sandbox_made:
            self._sandbox.write_hosts(self._node.services)

    # What its containers ask of it.

    @property
    def settings(self) -> Settings:
        """The cluster's."""
        return self._node.settings

    @property
    def grace_seconds(self) -> float:
        """For a container that is restarted while its Pod goes on."""
        return self.pod.spec.termination_grace_period_seconds

    async def launch(self, record: ContainerRecord) -> Launched:
        """Starts one container's process."""
        container = record.container
        image = images.find(self._node.state, container.image)
        await self._read_keys(container)
        variables = environment.build(container, self.pod, self.address, image, self._key)
        command = environment.command(container, image, variables)
        mounts = [
            Mount(
                self._volumes.path(mount.name) / mount.sub_path if mount.sub_path else self._volumes.path(mount.name),
                mount.mount_path,
                read_only=mount.read_only or self._is_read_only(mount.name),
            )
            for mount in container.volume_mounts
        ]
        process = await self._sandbox.start(container, image, command, variables, mounts)
        metadata = self.pod.metadata
        logs = self._node.state.pod(metadata.namespace, metadata.name)
        write_atomically(logs / f"{container.name}.pid", str(process.pid))
        return Launched(process, variables)

    def changed(self) -> None:
        """The status has to be written."""
        self._dirty.set()

    def event(self, kind: str, reason: str, message: str) -> None:
        """Passed on to the node, which knows whom it concerns."""
        self._node.event(self.pod, kind, reason, message)

    # Its life.

    async def run(self) -> None:
        """From binding to the end."""
        if self.pod.status.get("phase") in ("Succeeded", "Failed"):  # before this program was started
            await self._deleting.wait()
            await self._delete(report=False)
            return
        writing = asyncio.create_task(self._write_status())
        try:
            self._living = asyncio.create_task(self._live())
            deleting = asyncio.create_task(self._deleting.wait())
            await asyncio.wait({self._living, deleting}, return_when=asyncio.FIRST_COMPLETED)
            deleting.cancel()
            await cancelled(self._living)
            await self._terminate(self._grace)
            self._over = True
            await self._clean()
            self.changed()
            await self._deleting.wait()
        finally:
            await cancelled(writing)
            self._node.addresses.give_back(self.address)
        await self._delete()

    async def kill(self) -> None:
        """The node itself ends, or cannot go on with this Pod."""
        self._gone = True
        if self._living is not None:
            with contextlib.suppress(Exception):  # it has been reported
                await cancelled(self._living)
        await self._terminate(Deadline(0))
        await self._clean()

    async def _live(self) -> None:
        await self._set_up()
        for container in self.pod.spec.init_containers:
            runner = self._runner(container)
            task = runner.start()
            if container.sidecar:
                await runner.started.wait()
            else:
                await asyncio.shield(task)
                if runner.record.exit_code != 0:
                    return
        mains = [self._runner(container).start() for container in self.pod.spec.containers]
        for main in mains:
            await asyncio.shield(main)

    async def _set_up(self) -> None:
        self.changed()
        self._making = asyncio.create_task(self._sandbox.make())
        await asyncio.shield(self._making)
        self._sandbox_made = True
        self.services_changed()
        while True:
            try:
                await self._volumes.make()
            except PodSetupError as error:
                self.event("Warning", error.reason, str(error))
                await asyncio.sleep(SETUP_RETRY_SECONDS)
            else:
                break
        self._volumes_made = True
        self._plan_token_renewal()
        self.changed()

    def _runner(self, container: Container) -> ContainerRunner:
        spec = self.pod.spec
        policy = "Always" if container.sidecar else spec.restart_policy
        if container in spec.init_containers and not container.sidecar and policy == "Always":
            policy = "OnFailure"  # an init container is done when it succeeds
        record = self._records[container.name]
        runner = ContainerRunner(record, self, policy)
        self._runners[container.name] = runner
        return runner

    async def _terminate(self, grace: Deadline) -> None:
        sidecars = [one.name for one in self.pod.spec.init_containers if one.sidecar]
        first = [runner for name, runner in self._runners.items() if name not in sidecars]
        await asyncio.gather(*(runner.stop(grace) for runner in first))
        if not self._gone and grace.remaining() < SIDECAR_GRACE_SECONDS:
            grace = Deadline(SIDECAR_GRACE_SECONDS)
            self._grace = grace
        for name in reversed(sidecars):
            if name in self._runners:
                await self._runners[name].stop(grace)

    async def _clean(self) -> None:
        self._volumes_made = False
        if self._refreshing is not None:
            self._refreshing.cancel()
        for task in list(self._tasks):
            await cancelled(task)
        if self._making is not None:
            await asyncio.wait({self._making})  # else something might be made after all was removed
        self._sandbox_made = False  # before its files go: Services may change meanwhile
        await self._sandbox.remove()
        self._volumes.remove()
        metadata = self.pod.metadata
        for mark in self._node.state.pod(metadata.namespace, metadata.name).glob("*.pid"):
            mark.unlink(missing_ok=True)

    async def _delete(self, *, report: bool = True) -> None:
        """The API server waits for this before it forgets the Pod."""
        metadata = self.pod.metadata
        path = f"/api/v1/namespaces/{metadata.namespace}/pods/{metadata.name}"
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        while not self._gone:
            try:
                if report:
                    await self._node.api.patch(f"{path}/status", self._status_patch())
                    report = False
                await self._node.api.delete(path, {**options, "preconditions": {"uid": metadata.uid}})
            except ApiError as error:
                if error.status in (404, 409):  # gone, or another Pod of that name
                    return
                log.warning("%s: %s", self.pod.full_name, error)
                report = report and error.passing  # a status that is refused keeps nobody from going
                await asyncio.sleep(API_RETRY_SECONDS)
            else:
                return

    # What it reports.

    async def _write_status(self) -> None:
        metadata = self.pod.metadata
        path = f"/api/v1/namespaces/{metadata.namespace}/pods/{metadata.name}/status"
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            patch = self._status_patch()
            if patch["status"] == self._written or self._gone:
                continue
            try:
                await self._node.api.patch(path, patch)
                self._written = patch["status"]
            except ApiError as error:
                if error.status in (404, 409):
                    continue
                log.warning("%s: %s", self.pod.full_name, error)
                if error.passing:
                    self._dirty.set()
                    await asyncio.sleep(API_RETRY_SECONDS)

    def _status_patch(self) -> dict[str, dict[str, object]]:
        record = PodRecord(
            self.pod,
            self.address if self._sandbox_made or self._over else "",
            self._started_at,
            self._sandbox_made,
            [self._records[one.name] for one in self.pod.spec.init_containers],
            [self._records[one.name] for one in self.pod.spec.containers],
            over=self._over,
        )
        return {"metadata": {"uid": self.pod.metadata.uid}, "status": status.build(record, self._written)}

    # Its volumes and environment.

    def _is_read_only(self, volume_name: str) -> bool:
        return any(one.name == volume_name and one.empty_dir is None for one in self.pod.spec.volumes)

    def _refresh_in(self, seconds: float) -> None:
        if self._refreshing is None and self._volumes_made:
            self._refreshing = asyncio.get_running_loop().call_later(seconds, self._refresh)

    def _refresh(self) -> None:
        self._refreshing = None

        async def refresh() -> None:
            await self._volumes.refresh()
            self._plan_token_renewal()

        task = asyncio.create_task(refresh())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _plan_token_renewal(self) -> None:
        due = self._volumes.next_token_renewal()
        if due is not None:
            asyncio.get_running_loop().call_at(due, self._refresh_in, 0.0)

    async def _read_keys(self, container: Container) -> None:
        """What its environment takes from ConfigMaps and Secrets, read anew at each start."""
        self._keys.clear()
        for variable in container.env:
            source = variable.value_from
            if source is None:
                continue
            wanted = (("configmaps", source.config_map_key_ref), ("secrets", source.secret_key_ref))
            for kind, reference in wanted:
                if reference is None or (kind, reference.name) in self._keys:
                    continue
                with contextlib.suppress(ApiError):  # `_key` says what is missing
                    path = f"/api/v1/namespaces/{self.pod.metadata.namespace}/{kind}/{reference.name}"
                    data = (await self._node.api.get(path)).get("data", {})
                    self._keys[kind, reference.name] = data

    def _key(self, kind: str, reference: KeyRef) -> str | None:
        value = self._keys.get((kind, reference.name), {}).get(reference.key)
        if value is None:
            if reference.optional:
                return None
            message = f"{kind[:-1]} {reference.name!r} with key {reference.key!r} does not exist"
            raise PodSetupError("CreateContainerConfigError", message)
        return environment.decoded(value) if kind == "secrets" else value
