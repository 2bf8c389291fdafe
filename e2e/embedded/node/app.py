"""The node program's main: registers the nodes, keeps them alive, and hands every Pod bound to one to a worker."""

import asyncio
import contextlib
import itertools
import logging
import signal
import sys
from pathlib import Path
from typing import Any

from e2e.embedded.components import NODE_NAME
from e2e.embedded.errors import ApiError
from e2e.embedded.node import heartbeat
from e2e.embedded.node.api import Api
from e2e.embedded.node.model import Pod, parse
from e2e.embedded.node.pod import PodWorker
from e2e.embedded.node.sandbox import Addresses
from e2e.embedded.node.status import now
from e2e.embedded.settings import Settings
from e2e.embedded.state import State

log = logging.getLogger(__name__)

SETTINGS_SECONDS = 0.5  # until changed settings are noticed


class NodeProgram:
    """One node, or several that differ by their names alone."""

    def __init__(self, state: State, api: Api) -> None:
        self.state = state
        self.api = api
        self.addresses = Addresses()
        self.services: dict[str, str] = {}  # name.namespace: address
        self._workers: dict[str, PodWorker] = {}  # by the Pod's uid
        self._finished: set[str] = set()  # uids: nothing is left here, the API server may still speak of them
        self._hearts: dict[str, asyncio.Task[None]] = {}  # by the node's name
        self._tasks: set[asyncio.Task[None]] = set()
        self._event_numbers = itertools.count()

    @property
    def settings(self) -> Settings:
        """Read each time, so that they can be changed while the cluster runs."""
        return Settings.load(self.state)

    async def run(self) -> None:
        """Until it is cancelled; then all Pods are killed."""
        await heartbeat.register(self.api, NODE_NAME)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_nodes())
                group.create_task(self._watch_pods())
                group.create_task(self._watch_services())
                group.create_task(self._watch_objects("configmaps"))
                group.create_task(self._watch_objects("secrets"))
        finally:
            tasks = (*self._tasks, *self._hearts.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(worker.kill() for worker in self._workers.values()))

    def event(self, pod: Pod, kind: str, reason: str, message: str) -> None:
        """Written in the background; one that cannot be written is only logged."""
        log.info("%s: %s: %s", pod.full_name, reason, message)
        metadata, time = pod.metadata, now()
        involved = {"apiVersion": "v1", "kind": "Pod", "name": metadata.name, "namespace": metadata.namespace}
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata.name}.{metadata.uid[:8]}.{next(self._event_numbers):x}"},
            "involvedObject": {**involved, "uid": metadata.uid},
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": "embedded-node", "host": pod.spec.node_name},
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
        }
        self._background(self._post(f"/api/v1/namespaces/{metadata.namespace}/events", body))

    async def _keep_nodes(self) -> None:
        """As many as the settings say; a node that is taken away stops beating, and all that ran on it is gone."""
        while True:
            wanted = [NODE_NAME, *(f"{NODE_NAME}-{number}" for number in range(2, self.settings.nodes + 1))]
            for name in wanted:
                if name not in self._hearts:
                    self._hearts[name] = asyncio.create_task(heartbeat.beat(self.api, name))
            for name in self._hearts.keys() - set(wanted):
                self._hearts.pop(name).cancel()
                for worker in self._workers.values():
                    if worker.pod.spec.node_name == name:
                        worker.vanished()
            await asyncio.sleep(SETTINGS_SECONDS)

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        try:
            await self.api.post(path, body)
        except ApiError as error:
            log.warning("%s", error)

    async def _watch_pods(self) -> None:
        async for event in self.api.watch("/api/v1/pods"):
            if event.kind == "LISTED":
                present = {one["metadata"]["uid"] for one in event.objects}
                self._finished &= present
                for uid, worker in self._workers.items():
                    if uid not in present:
                        worker.vanished()
                for one in event.objects:
                    self._look_at(one)
            elif event.kind == "DELETED":
                self._finished.discard(event.object["metadata"]["uid"])
                if gone := self._workers.get(event.object["metadata"]["uid"]):
                    gone.vanished()
            else:
                self._look_at(event.object)

    def _look_at(self, pod: dict[str, Any]) -> None:
        if pod["spec"].get("nodeName", "") in self._hearts:
            self._see(parse(pod))

    def _see(self, pod: Pod) -> None:
        if pod.metadata.uid in self._finished:
            return
        worker = self._workers.get(pod.metadata.uid)
        if worker is None:
            worker = self._workers[pod.metadata.uid] = PodWorker(self, pod)
            self._background(self._run(worker))
        worker.update(pod)

    async def _run(self, worker: PodWorker) -> None:
        try:
            await worker.run()
        except Exception:
            log.exception("%s: the node program has failed it", worker.pod.full_name)
            self.event(worker.pod, "Warning", "NodeProgramError", "see the node program's log")
            with contextlib.suppress(Exception):  # told above; a new worker has the next try, a deletion for one
                await worker.kill()
        else:
            self._finished.add(worker.pod.metadata.uid)
        del self._workers[worker.pod.metadata.uid]  # not when cancelled: `run` kills those that are left

    async def _watch_services(self) -> None:
        async for event in self.api.watch("/api/v1/services"):
            if event.kind == "LISTED":
                self.services.clear()
            for service in [event.object] if event.object else event.objects:
                metadata, address = service["metadata"], service["spec"].get("clusterIP", "None")
                name = f"{metadata['name']}.{metadata['namespace']}"
                if event.kind == "DELETED" or address == "None":
                    self.services.pop(name, None)
                else:
                    self.services[name] = address
            for worker in self._workers.values():
                worker.services_changed()

    async def _watch_objects(self, kind: str) -> None:
        async for event in self.api.watch(f"/api/v1/{kind}", metadata_only=True):
            for changed in [event.object] if event.object else event.objects:
                metadata = changed["metadata"]
                for worker in self._workers.values():
                    if worker.pod.metadata.namespace == metadata["namespace"]:
                        worker.object_changed(kind, metadata["name"])

    def _background(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _main(state: State) -> None:
    async with Api(state) as api:
        running = asyncio.create_task(NodeProgram(state, api).run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await running


def main() -> int:
    """Argument: the cluster's directory."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    asyncio.run(_main(State(Path(sys.argv[1]))))
    return 0
