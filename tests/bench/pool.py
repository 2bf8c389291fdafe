"""A pool in the embedded cluster, and what its proxies say about themselves."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from e2e import product
from e2e.embedded import network
from e2e.embedded.state import State
from e2e.embedded.waiting import wait_for
from switchboard.link.messages import Report
from switchboard.link.tls import Credentials, Identity
from switchboard.resources.names import AGENT_PORT

NAMESPACE = "default"
PBX = "198.18.200.1"  # the route's target (e2e.product.pool)
CALLER = "198.18.201.1"
READY_SECONDS = 90
GONE_SECONDS = 60
ANSWER_SECONDS = 5.0


class Agent:
    """`/v1/workload` of one agent, over a connection that stays."""

    def __init__(self, address: str, context: ssl.SSLContext, identity: str) -> None:
        self._address, self._context, self._identity = address, context, identity
        self._connection = self._connect()

    def report(self) -> Report:
        try:
            return self._ask()
        except (http.client.RemoteDisconnected, ConnectionError):
            self._connection = self._connect()  # it was idle for too long
            return self._ask()

    def close(self) -> None:
        self._connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        plain = socket.create_connection((self._address, AGENT_PORT), ANSWER_SECONDS)
        connection = http.client.HTTPSConnection(self._address)
        connection.sock = self._context.wrap_socket(plain, server_hostname=self._identity)
        return connection

    def _ask(self) -> Report:
        self._connection.request("GET", "/v1/workload")
        return msgspec.json.decode(self._connection.getresponse().read(), type=Report)


class Snapshot(msgspec.Struct, frozen=True):
    """All proxies' reports, as read at one moment (`at`: the machine's monotonic clock)."""

    at: float
    reports: dict[str, Report]

    def total(self, counter: str) -> int:
        return sum(getattr(report, counter) for report in self.reports.values())


class Pool:
    def __init__(self, name: str) -> None:
        self.name = name
        self.service = product.kubectl("get", "service", name, "-o", "jsonpath={.spec.clusterIP}")
        self.refused_status = int(
            product.kubectl("get", "vpp", name, "-o", "jsonpath={.spec.assignment.saturated.status}")
        )
        self.addresses = pod_addresses(name)
        context = operator_credentials(name).client_context()
        identity = Identity("agent", name, NAMESPACE).san
        self._agents = {pod: Agent(address, context, identity) for pod, address in self.addresses.items()}

    def snapshot(self) -> Snapshot:
        return Snapshot(time.monotonic(), {pod: agent.report() for pod, agent in self._agents.items()})

    @property
    def primary(self) -> str:
        """The pod that says it is."""
        return next(pod for pod, report in self.snapshot().reports.items() if report.role == "primary")

    def quiet(self) -> Snapshot:
        """Waits until no proxy has a call and every assignment has been accounted for: the next run starts afresh."""
        wait_for(lambda: self.snapshot().total("calls") == 0, GONE_SECONDS, f"the calls of pool {self.name} to end")
        tick = min(report.tick for report in self.snapshot().reports.values())
        wait_for(
            lambda: min(report.tick for report in self.snapshot().reports.values()) > tick + 4,
            GONE_SECONDS,
            f"five ticks in pool {self.name}",
        )
        return self.snapshot()

    def close(self) -> None:
        for agent in self._agents.values():
            agent.close()


@contextlib.contextmanager
def applied(name: str, **spec: Any) -> Iterator[Pool]:
    """A pool of that name until the end of the block: every proxy ready, and gone afterwards."""
    manifest = product.pool(name, **spec)
    product.apply(manifest)
    try:
        wait_ready(name, manifest["spec"]["replicas"])
        pool = Pool(name)
        try:
            pool.quiet()
            yield pool
        finally:
            pool.close()
    finally:
        remove(name)


def wait_ready(name: str, replicas: int, within: float = READY_SECONDS) -> None:
    """Until the pool is Ready with all of its proxies."""

    def ready() -> bool:
        status = json.loads(product.kubectl("get", "vpp", name, "-o", "json")).get("status", {})
        conditions = {one["type"]: one["status"] for one in status.get("conditions", [])}
        return bool(conditions.get("Ready") == "True" and status.get("readyReplicas") == replicas)

    wait_for(ready, within, f"pool {name} to be ready with {replicas} proxies", every_seconds=0.5)


def remove(name: str) -> None:
    """Deletes the pool and waits until its pods are gone; those left after a while are made to go."""
    product.kubectl("delete", "vpp", name, "--ignore-not-found", "--wait=false")
    selector = ["-l", f"switchboard.dev/pool={name}"]

    def gone() -> bool:
        return not product.kubectl("get", "pods", *selector, "-o", "name").strip()

    try:
        wait_for(gone, GONE_SECONDS, f"the pods of pool {name} to be gone", every_seconds=0.5)
    except TimeoutError:
        product.kubectl("delete", "pods", *selector, "--grace-period=0", "--force", "--wait=false")
        wait_for(gone, GONE_SECONDS, f"the pods of pool {name} to be gone, by force", every_seconds=0.5)


def pod_addresses(name: str) -> dict[str, str]:
    pods = json.loads(product.kubectl("get", "pods", "-l", f"switchboard.dev/pool={name}", "-o", "json"))["items"]
    return {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods if pod.get("status", {}).get("podIP")}


def secret(name: str) -> Mapping[str, bytes]:
    data = json.loads(product.kubectl("get", "secret", name, "-o", "json"))["data"]
    return {key: base64.b64decode(value) for key, value in data.items()}


def operator_credentials(pool: str) -> Credentials:
    name = f"{pool}-operator-tls"
    held = secret(name)
    return Credentials(held["tls.crt"], held["tls.key"], held["ca.crt"], name)


def main_process(namespace: str, pod: str, container: str) -> int:
    """Of a container, as the cluster's namespace numbers it."""
    return int((State.current().pod(namespace, pod) / f"{container}.pid").read_text())


def pod_network(namespace: str, pod: str) -> Sequence[str]:
    """What to put before a command so that it runs in the pod's network namespace."""
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    found = [line.split()[0] for line in listed.splitlines() if line.startswith(f"{namespace}.{pod}.")]
    return network.enter(found[0])
