"""A pool on the kind cluster as its tests see it: through the API server, and from client pods."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pykube

from e2e import product
from e2e.embedded.waiting import wait_for
from e2e.kind import images, pods
from tests.tools.sipp import Sipp, answerer, caller

NAMESPACE = "voice"
READY_SECONDS = 120
ROLL = "example.com/roll"  # an annotation
CLIENTS = "198.18.128.0/17"  # the pods' range
T = TypeVar("T")

# Each SIPp has a port of its own, also in the next run: nodes remember for minutes which port spoke to which pod.
_ports = itertools.count(10000 + os.getpid() % 20000)


class VoipProxyPool(pykube.objects.NamespacedAPIObject):  # type: ignore[misc] # pykube has no types
    version = "switchboard.dev/v1alpha1"
    endpoint = "voipproxypools"
    kind = "VoipProxyPool"


class EndpointSlice(pykube.objects.NamespacedAPIObject):  # type: ignore[misc] # pykube has no types
    version = "discovery.k8s.io/v1"
    endpoint = "endpointslices"
    kind = "EndpointSlice"


class NetworkPolicy(pykube.objects.NamespacedAPIObject):  # type: ignore[misc] # pykube has no types
    version = "networking.k8s.io/v1"
    endpoint = "networkpolicies"
    kind = "NetworkPolicy"


def until(condition: Callable[[], T], what: str, within: float = 60) -> T:
    """What the condition gave as soon as that is true."""
    return wait_for(condition, within, what, every_seconds=0.2)


class Place:
    """A pod outside the pool: a client's or the PBX's."""

    def __init__(self, api: pykube.HTTPClient, name: str) -> None:
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                # Not on the workers, which tests drain and stop.
                "nodeSelector": {"node-role.kubernetes.io/control-plane": ""},
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "place", "image": images.TOOLS, "command": ["sleep", "infinity"]}],
            },
        }
        self.pod = pykube.Pod(api, manifest)
        if not self.pod.exists():
            self.pod.create()
        until(self._runs, f"pod {name} runs")
        self.address = str(self.pod.obj["status"]["podIP"])
        self.prefix = pods.network(self.pod.obj["metadata"]["uid"])

    def _runs(self) -> bool:
        self.pod.reload()
        return bool(self.pod.obj["status"].get("phase") == "Running" and self.pod.obj["status"].get("podIP"))


class Pool:
    """The VoipProxyPool of these tests, its PBX and its clients."""

    def __init__(self, api: pykube.HTTPClient, directory: Path, pbx: Place, client: Place) -> None:
        self.api, self.directory, self.pbx_place, self.client = api, directory, pbx, client
        self.name = "edge"

    # through the API server

    def apply(self, **spec: Any) -> None:
        """The pool as its tests begin with it; `spec` adds or overrides."""
        target = f"sip:{self.pbx_place.address}:5060"
        fields: dict[str, Any] = {
            "replicas": 2,
            "capacity": {"calls": 500},
            "assignment": {"mode": "forward", "policy": "least"},
            "clients": {"networks": [CLIENTS]},
            "routes": [{"name": "pbx", "prefix": "", "targets": [target]}],
            "proxy": {"image": f"switchboard-proxy:{product.version()}"},
        }
        product.apply(product.pool(self.name, **{**fields, **spec}), namespace=NAMESPACE)

    def patch(self, **spec: Any) -> None:
        self.get().patch({"spec": spec})

    def roll(self) -> None:
        """A change of the pod template that has not been there before."""
        template = self.get().obj["spec"]["proxy"].get("podTemplate", {})
        before = template.get("metadata", {}).get("annotations", {}).get(ROLL, "0")
        self.patch(proxy={"podTemplate": {"metadata": {"annotations": {ROLL: str(int(before) + 1)}}}})

    def nodes(self) -> set[str]:
        """Where its pods are."""
        return {str(pod.obj["spec"]["nodeName"]) for pod in self.pods().values()}

    def get(self) -> VoipProxyPool:
        found: VoipProxyPool = VoipProxyPool.objects(self.api, namespace=NAMESPACE).get_by_name(self.name)
        return found

    def status(self) -> dict[str, Any]:
        return dict(self.get().obj.get("status") or {})

    def pods(self) -> dict[str, pykube.Pod]:
        """Those that are not being deleted."""
        found = pykube.Pod.objects(self.api, namespace=NAMESPACE).filter(selector={"switchboard.dev/pool": self.name})
        return {pod.name: pod for pod in found if "deletionTimestamp" not in pod.obj["metadata"]}

    def entry(self) -> str | None:
        """The pod that the Service points at."""
        found = EndpointSlice.objects(self.api, namespace=NAMESPACE).get_or_none(name=self.name)
        endpoints = (found.obj.get("endpoints") if found else None) or []
        return str(endpoints[0]["targetRef"]["name"]) if endpoints else None

    def events(self, reason: str) -> set[tuple[str, int]]:
        """The Events about the pool that give this reason, and how often each came."""
        found = pykube.Event.objects(self.api, namespace=NAMESPACE)
        return {
            (event.name, event.obj.get("count", 1))
            for event in found
            if event.obj["involvedObject"]["name"] == self.name and event.obj["reason"] == reason
        }

    def ready(self, replicas: int, within: float = READY_SECONDS) -> None:
        """Waits until the pool says so, of its present spec."""

        def is_ready() -> bool:
            pool = self.get().obj
            status = pool.get("status") or {}
            conditions = {one["type"]: one["status"] for one in status.get("conditions", ())}
            return bool(
                status.get("observedGeneration") == pool["metadata"]["generation"]
                and (conditions.get("Ready"), conditions.get("Reconciling")) == ("True", "False")
                and (status.get("readyReplicas"), status.get("replicas")) == (replicas, replicas)
            )

        until(is_ready, f"{replicas} proxies ready", within)

    def service(self) -> str:
        service = pykube.Service.objects(self.api, namespace=NAMESPACE).get_by_name(self.name)
        return str(service.obj["spec"]["clusterIP"])

    # from pods

    def pbx(self, ring_seconds: float = 0.0) -> Sipp:
        """Answers every call."""
        place = self.pbx_place
        return answerer(place.address, self.directory, ring_seconds=ring_seconds, prefix=place.prefix)

    def call(self, calls: int, rate: float, hold_seconds: float = 2.0, **options: Any) -> Sipp:
        """Calls through the Service, from the client's pod."""
        place, target = self.client, f"{self.service()}:5060"
        how = {"calls": calls, "rate": rate, "hold_seconds": hold_seconds, "port": next(_ports), **options}
        return caller(target, place.address, self.directory, prefix=place.prefix, **how)


def all_completed(load: Sipp, calls: int, within: float = 120) -> None:
    """SIPp's own statistics: every call was answered, held, and ended as it should."""
    result = load.wait(within)
    assert (result.offered, result.completed) == (calls, calls), f"{result}\n{load.errors()}"


def some_answered(load: Sipp, calls: int = 20) -> None:
    until(lambda: load.statistics().answered >= calls, f"{calls} calls answered")


def timed(what: Callable[[], object]) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    what()
    return time.monotonic() - began
