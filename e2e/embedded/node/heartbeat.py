"""The Node object, and the Lease by whose renewal the node controller knows that the node lives."""

import asyncio
import datetime as dt
import logging
from typing import Any

from e2e.embedded.components import NODE_NAME
from e2e.embedded.errors import ApiError
from e2e.embedded.network import NODE
from e2e.embedded.node.api import Api
from e2e.embedded.node.status import now

log = logging.getLogger(__name__)

RENEW_SECONDS = 10.0
LEASE_SECONDS = 40  # without a renewal, the node is lost after this
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
RESOURCES = {"cpu": "64", "memory": "64Gi", "ephemeral-storage": "64Gi", "pods": "2000"}  # nothing enforces them


async def register(api: Api) -> None:
    """A new node that is ready; or, after a restart of this program, the one that exists, ready again."""
    labels = {"kubernetes.io/hostname": NODE_NAME, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE_NAME, "labels": labels}, "status": _status()}
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


async def beat(api: Api) -> None:
    """For ever."""
    while True:
        try:
            await _renew(api)
            await api.patch(f"/api/v1/nodes/{NODE_NAME}/status", {"status": _status()})
        except ApiError as error:
            log.warning("%s", error)
            await asyncio.sleep(1.0)
        else:
            await asyncio.sleep(RENEW_SECONDS)


async def _renew(api: Api) -> None:
    time = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": NODE_NAME, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": time}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NODE_NAME}, "spec": spec}
    try:
        await api.patch(f"{LEASES}/{NODE_NAME}", {"spec": spec})
    except ApiError as error:
        if error.status != 404:
            raise
        await api.post(LEASES, lease)


def _status() -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True", "reason": "NodeProgramReady", "message": "the embedded node is ready"}
    return {
        "capacity": RESOURCES,
        "allocatable": RESOURCES,
        "addresses": [{"type": "InternalIP", "address": str(NODE)}, {"type": "Hostname", "address": NODE_NAME}],
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
