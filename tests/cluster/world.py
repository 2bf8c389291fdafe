"""A pool in a real cluster as its tests see it: through the API server, from hosts outside, and by its processes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e import product
from e2e.embedded.cluster import Cluster
from e2e.embedded.components import NODE_NAME
from e2e.embedded.network import add_host
from switchboard.control.kube import Kube, KubeError, Object
from switchboard.resources import names
from switchboard.resources.names import PoolRef
from tests.tools.sipp import Sipp, answerer, caller
from tests.tools.wait import until

READY_SECONDS = 60
PBX = "198.18.200.1"

_clients = itertools.count(10)


class Pool:
    """One VoipProxyPool of a test."""

    def __init__(self, kube: Kube, namespace: str, name: str, directory: Path) -> None:
        self.kube, self.namespace, self.name, self.directory = kube, namespace, name, directory

    # through the API server

    def apply(self, **spec: Any) -> None:
        product.apply(product.pool(self.name, **spec), namespace=self.namespace)

    async def patch(self, **spec: Any) -> None:
        await self.kube.merge(self._identity, {"spec": spec})

    @property
    def _identity(self) -> Object:
        metadata = {"namespace": self.namespace, "name": self.name}
        return {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": metadata}

    async def get(self) -> Object:
        found = await self.kube.get(names.API_VERSION, names.KIND, self.namespace, self.name)
        assert found is not None, f"pool {self.name} is gone"
        return found

    async def status(self) -> dict[str, Any]:
        return (await self.get()).get("status") or {}

    async def condition(self, kind: str) -> dict[str, Any]:
        conditions = (await self.status()).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), {"status": "Unknown", "reason": ""})

    async def owned(self, api_version: str, kind: str, name: str) -> Object | None:
        return await self.kube.get(api_version, kind, self.namespace, name)

    async def pods(self) -> dict[str, Object]:
        """Those that are not being deleted."""
        selector = f"{names.POOL_LABEL}={self.name}"
        found = await self.kube.list("v1", "Pod", self.namespace, selector)
        return {pod["metadata"]["name"]: pod for pod in found if "deletionTimestamp" not in pod["metadata"]}

    async def reasons(self) -> set[str]:
        """Reasons of the Events about the pool."""
        found = await self.kube.list("v1", "Event", self.namespace, "")
        return {event["reason"] for event in found if event["involvedObject"]["name"] == self.name}

    async def messages(self, reason: str) -> list[str]:
        """Of the Events about the pool that have this reason."""
        found = await self.kube.list("v1", "Event", self.namespace, "")
        mine = [event for event in found if event["involvedObject"]["name"] == self.name]
        return [event["message"] for event in mine if event["reason"] == reason]

    async def carried(self, proxy: str) -> int:
        """A proxy's calls, as the load ConfigMap tells them."""
        found = await self.owned(
            "v1", "ConfigMap", names.load(PoolRef(name=self.name, namespace=self.namespace, uid=""))
        )
        assert found is not None
        document = json.loads(found["data"]["load.json"])
        return next((int(one["calls"]) for one in document["proxies"] if one["name"] == proxy), 0)

    async def entry(self) -> str | None:
        """The pod that the Service points at."""
        found = await self.owned("discovery.k8s.io/v1", "EndpointSlice", self.name)
        endpoints = (found or {}).get("endpoints") or []
        return endpoints[0]["targetRef"]["name"] if endpoints else None

    async def ready(self, replicas: int, within: float = READY_SECONDS) -> None:
        """Waits until the pool says so, of its present spec."""

        async def is_ready() -> bool:
            pool = await self.get()
            status = pool.get("status") or {}
            conditions = {one["type"]: one["status"] for one in status.get("conditions", ())}
            return (
                status.get("observedGeneration") == pool["metadata"]["generation"]
                and (conditions.get("Ready"), conditions.get("Reconciling")) == ("True", "False")
                and status["readyReplicas"] == replicas
            )

        await until(is_ready, f"{replicas} proxies ready: {await self.status()}", within)

    async def carries(self, calls: int) -> None:
        """Waits until so many calls are in progress."""

        async def told() -> bool:
            return bool((await self.status())["calls"] == calls)

        await until(told, f"{calls} calls in progress")

    async def address(self) -> str:
        service = await self.owned("v1", "Service", self.name)
        assert service is not None
        return str(service["spec"]["clusterIP"])

    # from hosts outside

    def pbx(self, ring_seconds: float = 0.0) -> Sipp:
        """Answers every call."""
        return answerer(PBX, self.directory, ring_seconds=ring_seconds, prefix=add_host("pbx", PBX))

    async def call(self, calls: int, rate: float, hold_seconds: float = 2.0, **options: Any) -> Sipp:
        """Calls through the Service, from a client host of its own."""
        ip = f"198.18.129.{next(_clients)}"
        prefix = add_host(f"client{ip.rsplit('.', 1)[1]}", ip)
        target = f"{await self.address()}:5060"
        return caller(
            target, ip, self.directory, calls=calls, rate=rate, hold_seconds=hold_seconds, prefix=prefix, **options
        )


@contextmanager
def two_nodes() -> Iterator[str]:
    """Meanwhile the cluster has a second node, of this name."""
    cluster, name = Cluster(), f"{NODE_NAME}-2"
    cluster.choose(nodes=2)
    product.kubectl("wait", "--for=create", f"node/{name}", "--timeout=30s")
    product.kubectl("wait", "--for=condition=Ready", f"node/{name}", "--timeout=30s")
    try:
        yield name
    finally:
        cluster.choose(nodes=1)
        product.kubectl("delete", "node", name)


async def holder(kube: Kube) -> str:
    """The operator pod that acts."""
    lease = await kube.get("coordination.k8s.io/v1", "Lease", product.NAMESPACE, "switchboard-operator")
    return str((lease or {"spec": {}})["spec"].get("holderIdentity") or "")


@contextmanager
def no_operator() -> Iterator[None]:
    """Meanwhile no operator runs."""
    scale("0")
    product.kubectl(
        *("wait", "--namespace", product.NAMESPACE, "--for=delete", "pods"),
        *("--selector=app.kubernetes.io/component=operator", "--timeout=60s"),
    )
    try:
        yield
    finally:
        scale("2")


def scale(replicas: str) -> None:
    product.kubectl(
        "scale", "--namespace", product.NAMESPACE, "deployment/switchboard-operator", f"--replicas={replicas}"
    )


async def gone(kube: Kube, api_version: str, kind: str, namespace: str, name: str) -> bool:
    try:
        return await kube.get(api_version, kind, namespace, name) is None
    except KubeError:
        return False
