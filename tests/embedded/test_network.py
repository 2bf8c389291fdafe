"""Pods, Services, and hosts outside the cluster."""

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.embedded import network
from e2e.embedded.errors import EmbeddedError
from e2e.embedded.waiting import wait_for
from tests.embedded.conftest import SECONDS, Namespace

# Answers on UDP and TCP with the name of the Pod and the address the question came from.
ECHO = """
import os, socket, threading
def udp():
    s = socket.socket(type=socket.SOCK_DGRAM); s.bind(("", 5060))
    while True:
        _, peer = s.recvfrom(100); s.sendto(f"{os.environ['HOSTNAME']} {peer[0]}".encode(), peer)
threading.Thread(target=udp, daemon=True).start()
t = socket.create_server(("", 5060))
print("up", flush=True)
while True:
    c, peer = t.accept(); c.sendall(f"{os.environ['HOSTNAME']} {peer[0]}".encode()); c.close()
"""
ASK = """
import socket, sys
kind, host = sys.argv[1:]
s = socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
s.settimeout(2); s.connect((host, 5060))
if kind == "udp": s.send(b"?")
print(s.recv(100).decode())
"""
PROBE = {"tcpSocket": {"port": 5060}, "periodSeconds": 1}


@pytest.fixture
def phone() -> Iterator[list[str]]:
    """A host outside the cluster."""
    yield network.add_host("phone", "198.18.128.7")
    network.remove_host("phone")


def _ask(host: list[str], kind: str, address: str) -> str:
    asked = subprocess.run([*host, "python3", "-c", ASK, kind, address], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or asked.stderr.strip().splitlines()[-1]


def _service(namespace: Namespace, **selector: str) -> str:
    ports = [{"name": kind.lower(), "protocol": kind, "port": 5060} for kind in ("UDP", "TCP")]
    spec: dict[str, Any] = {"selector": selector, "ports": ports}
    namespace.apply({"kind": "Service", "metadata": {"name": "edge"}, "spec": spec})
    return namespace.kubectl("get", "service", "edge", "-o", "jsonpath={.spec.clusterIP}")


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_host_reaches_pod_through_service(namespace: Namespace, phone: list[str], kind: str) -> None:
    """A phone reaches a Pod through a Service's address, and the Pod sees the phone's own address."""
    namespace.pod("server", {"name": "main", "command": ["python3", "-c", ECHO], "readinessProbe": PROBE})
    address = _service(namespace, app="server")
    pod = namespace.ready("server")
    wait_for(lambda: _ask(phone, kind, address) == "server 198.18.128.7", SECONDS, "an answer through the Service")
    assert _ask(phone, kind, pod["status"]["podIP"]) == "server 198.18.128.7"


def test_pod_reaches_pod_by_service_name(namespace: Namespace) -> None:
    """A Pod finds a Service by name, and the other Pod sees the first one's own address."""
    namespace.pod("server", {"name": "main", "command": ["python3", "-c", ECHO], "readinessProbe": PROBE})
    namespace.ready("server")
    _service(namespace, app="server")
    again = f"for i in $(seq 50); do python3 -c '{ASK}' udp edge && break; sleep 0.1; done; sleep 1000"
    namespace.pod("client", {"name": "main", "command": ["sh", "-c", again]})
    address = namespace.ready("client")["status"]["podIP"]
    namespace.until_log("client", f"server {address}")


def test_service_moves_quickly(namespace: Namespace, phone: list[str]) -> None:
    """When a Service's only Pod becomes another, new datagrams reach the new one within a fraction of a second."""
    for name in ("one", "two"):
        namespace.pod(name, {"name": "main", "command": ["python3", "-c", ECHO], "readinessProbe": PROBE})
    address = _service(namespace, app="one")
    for name in ("one", "two"):
        namespace.ready(name)
    wait_for(lambda: _ask(phone, "udp", address).startswith("one "), SECONDS, "an answer from one")
    _service(namespace, app="two")
    began = time.monotonic()
    wait_for(lambda: _ask(phone, "udp", address).startswith("two "), SECONDS, "an answer from two")
    assert time.monotonic() - began < 3


def test_nothing_leaves(phone: list[str]) -> None:
    """An address of ours that nobody has cannot be reached; it does not go anywhere else either."""
    assert "No route to host" in _ask(phone, "tcp", "198.18.9.9") or "unreachable" in _ask(phone, "tcp", "198.18.9.9")
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    assert "unreachable 198.18.0.0/15" in routes
    assert "default" not in routes


def test_host_addresses_are_checked() -> None:
    """A host has an address of the hosts' network, and keeps the one it has."""
    with pytest.raises(EmbeddedError, match=r"198\.18\.128\.0/17"):
        network.add_host("phone", "198.18.0.9")
    assert network.add_host("twice", "198.18.128.8") == network.add_host("twice", "198.18.128.8")
    with pytest.raises(EmbeddedError, match="another address"):
        network.add_host("twice", "198.18.128.9")
    network.remove_host("twice")
