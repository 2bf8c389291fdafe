"""Faults of the cluster's own parts: nodes and the API server. Each ends with its block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from e2e.embedded.waiting import wait_for
from e2e.kind import cluster, settings
from e2e.kind.command import run, succeeds

MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
ASIDE = "/etc/kubernetes/kube-apiserver.yaml"
BACK_SECONDS = 120


@contextmanager
def stopped(node: str) -> Iterator[None]:
    """Meanwhile the node is off, without a word to anybody."""
    run("docker", "kill", node)
    try:
        yield
    finally:
        run("docker", "start", node)
        cluster.join()
        run("kubectl", "wait", "--for=condition=Ready", f"node/{node}", f"--timeout={BACK_SECONDS}s")


@contextmanager
def no_api_server() -> Iterator[None]:
    """Meanwhile there is no API server: the kubelet has no manifest for one."""
    control_plane = settings.NODES[0]
    run("docker", "exec", control_plane, "mv", MANIFEST, ASIDE)
    wait_for(lambda: not answers(), BACK_SECONDS, "the API server's end", every_seconds=0.5)
    try:
        yield
    finally:
        run("docker", "exec", control_plane, "mv", ASIDE, MANIFEST)
        wait_for(answers, BACK_SECONDS, "the API server's return", every_seconds=0.5)


def answers() -> bool:
    """Whether the API server says that it is ready."""
    return succeeds("kubectl", "get", "--raw", "/readyz", "--request-timeout=2s")
