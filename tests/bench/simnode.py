"""A node on which nothing runs: it takes the pods that the scheduler binds to it, and says that they are running.

Their addresses lead to the cluster's own namespace, where simulated agents listen. The real node takes no further pods
meanwhile, so those that run there already, such as the pool's first proxy and the operator, stay real.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import ipaddress
import ssl
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import msgspec

from e2e.embedded.components import NODE_NAME
from e2e.embedded.state import State

NAME = "simulated"
ADDRESSES = ipaddress.ip_network("198.18.64.0/19")  # of the pods' range, above what the node program gives out
TAINT = {"key": "switchboard.dev/full", "value": "true", "effect": "NoSchedule"}
BEAT_SECONDS = 10.0
RESOURCES = {"cpu": "4k", "memory": "4Ti", "pods": "2000"}


class Api:
    """The Kubernetes API over one connection, as cluster-admin."""

    def __init__(self) -> None:
        pki = State.current().pki
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "admin.pem")
        self._connection = http.client.HTTPSConnection("127.0.0.1", 6443, context=context)

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": kind, "Accept": "application/json"}
        try:
            self._connection.request(method, path, data, headers)
            answer = self._connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):
            self._connection.close()  # it was idle for too long; the next request opens it again
            self._connection.request(method, path, data, headers)
            answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:300]!r}")
        return msgspec.json.decode(content)

    def merge(self, path: str, patch: Any) -> Any:
        return self.call("PATCH", path, patch, "application/merge-patch+json")

    def pods(self, pool: str) -> list[Any]:
        selector = f"labelSelector=switchboard.dev%2Fpool%3D{pool}"
        found: list[Any] = self.call("GET", f"/api/v1/namespaces/default/pods?{selector}&resourceVersion=0")["items"]
        return found

    def delete_pods(self, pool: str) -> None:
        """All of a pool's pods, at once: on this node there is nobody to end them."""
        selector = f"labelSelector=switchboard.dev%2Fpool%3D{pool}"
        self.call("DELETE", f"/api/v1/namespaces/default/pods?{selector}", {"gracePeriodSeconds": 0})

    def close(self) -> None:
        self._connection.close()


class Node:
    """Which of the node's pods has which address."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._free = iter(ADDRESSES.hosts())
        self.addresses: dict[str, str] = {}
        self._running: set[str] = set()

    def claim(self, pool: str) -> dict[str, str]:
        """Addresses for the pool's pods that were bound here since the last time: pod → address."""
        new = {
            pod["metadata"]["name"]: str(next(self._free))
            for pod in self._api.pods(pool)
            if pod["spec"].get("nodeName") == NAME and pod["metadata"]["name"] not in self.addresses
        }
        self.addresses |= new
        return new

    def say_running(self) -> None:
        """Once somebody listens at their addresses."""
        for pod in self.addresses.keys() - self._running:
            self._api.merge(f"/api/v1/namespaces/default/pods/{pod}/status", {"status": _pod(self.addresses[pod])})
            self._running.add(pod)


@contextlib.contextmanager
def simulated_node() -> Iterator[Node]:
    api = Api()
    subprocess.run(["ip", "route", "add", "local", str(ADDRESSES), "dev", "lo"], check=True)
    local = f"/api/v1/nodes/{NODE_NAME}"
    api.merge(local, {"spec": {"taints": [TAINT]}})
    api.call("POST", "/api/v1/nodes", {"metadata": {"name": NAME, "labels": {"kubernetes.io/hostname": NAME}}})
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(ended,))
    heart.start()
    try:
        yield Node(api)
    finally:
        ended.set()
        heart.join()
        api.call("DELETE", f"/api/v1/nodes/{NAME}")
        api.merge(local, {"spec": {"taints": None}})
        subprocess.run(["ip", "route", "del", "local", str(ADDRESSES), "dev", "lo"], check=True)
        api.close()


def _beat(ended: threading.Event) -> None:
    """The node controller takes a node that stays silent for lost."""
    api = Api()
    while True:
        ready = {"type": "Ready", "status": "True", "reason": "Simulated", "message": "simulated"}
        status = {
            "conditions": [{**ready, "lastHeartbeatTime": _now(), "lastTransitionTime": _now()}],
            "capacity": RESOURCES,
            "allocatable": RESOURCES,
        }
        api.merge(f"/api/v1/nodes/{NAME}/status", {"status": status})
        if ended.wait(BEAT_SECONDS):
            api.close()
            return


def _pod(address: str) -> dict[str, Any]:
    kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": _now(),
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": _now()} for kind in kinds],
    }


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
