"""The Node object, and the Lease by whose renewal the node controller knows that the node lives."""

import asyncio
import datetime as dt
import logging
from typing import Any

from e2e.embedded.errors import ApiError
from e2e.embedded.network import NODE
from e2e.embedded.node.api import Api
from e2e.embedded.node.status import now

log = logging.getLogger(__name__)

RENEW_SECONDS = 10.0
LEASE_SECONDS = 40  # without a renewal, the node is lost after this
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
RESOURCES = {"cpu": "64", "memory": "64Gi", "ephemeral-storage": "64Gi", "pods": "2000"}  # nothing enforces them


async def register(api: Api, name: str) -> None:
    """A new node that is ready; or, after a restart of this program, the one that exists, ready again."""
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": _status(name)}
    while True:
        try:
            await api.post("/api/v1/nodes", node)
        except ApiError as error:
            if error.status == 409:
                return
            log.warning("%s", error)
            await asyncio.sleep(0.2)
        else:
            return


async def beat(api: Api, name: str) -> None:
    """Registers the node and keeps it alive, until cancelled."""
    await register(api, name)
    while True:
        try:
            await _renew(api, name)
            await api.patch(f"/api/v1/nodes/{name}/status", {"status": _status(name)})
        except ApiError as error:
            log.warning("%s", error)
            await asyncio.sleep(1.0)
            if error.status == 404:  # somebody has deleted the node
                await register(api, name)
        else:
            await asyncio.sleep(RENEW_SECONDS)


async def _renew(api: Api, name: str) -> None:
    time = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": time}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}
    try:
        await api.patch(f"{LEASES}/{name}", {"spec": spec})
    except ApiError as error:
        if error.status != 404:
            raise
        await api.post(LEASES, lease)


def _status(name: str) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True", "reason": "NodeProgramReady", "message": "the embedded node is ready"}
    return {
        "capacity": RESOURCES,
        "allocatable": RESOURCES,
        "addresses": [{"type": "InternalIP", "address": str(NODE)}, {"type": "Hostname", "address": name}],
        "conditions": [{**ready, "lastHeartbeatTime": now()}],
        "nodeInfo": _NODE_INFO,
    }


_NODE_INFO = {
    "architecture": "amd64",
    "operatingSystem": "linux",
    "osImage": "embedded",
    "containerRuntimeVersion": "bubblewrap://0",
    "kubeletVersion": "v0.0.0-embedded",
    "kubeProxyVersion": "",
    "machineID": "",
    "systemUUID": "",
    "bootID": "",
    "kernelVersion": "",
}
