"""What the eviction API says of a pool's proxies: `kubectl drain` and node upgrades go through it.

Needs a cluster (KUBECONFIG) with its disruption controller, and kubectl. The proxies here are pods that are only
written down as ready, on a node that does not exist, of a pool that no operator knows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from switchboard.pool.spec import DEFAULT_LISTEN, Capacity, PoolSpec, ProxyTemplate
from switchboard.resources import accounts, disruption, pods
from switchboard.resources.names import Manifest, PoolRef
from tests.cluster.kubectl import Kubectl, must, runner

NAMESPACE = f"disruption-{os.getpid()}"
POOL = PoolRef(name="fenced", namespace=NAMESPACE, uid="none")
SPEC = PoolSpec(
    replicas=1,
    threshold=0.8,
    capacity=Capacity(calls=10),
    client_networks=("198.51.100.0/24",),
    proxy=ProxyTemplate(image="switchboard-proxy:dev"),
    listen=DEFAULT_LISTEN,
)
PROXIES = ("fenced-aaaaa", "fenced-bbbbb")  # one more than replicas, as in a rolling change


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """Runs kubectl in a namespace with two ready proxies and their budget."""
    run = runner(NAMESPACE, tmp_path_factory.mktemp("kubectl"))
    must(run, "create", "namespace", NAMESPACE)
    apply(run, accounts.build_service_account(POOL))
    for name in PROXIES:
        pod = pods.build_pod(POOL, SPEC, name)
        pod["spec"]["nodeName"] = "none"
        apply(run, pod)
        ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        must(run, "patch", "pod", name, "--subresource=status", "--type=merge", f"--patch={json.dumps(ready)}")
    yield run
    must(run, "delete", "pods", "--all", "--force", "--grace-period=0")
    must(run, "delete", "namespace", NAMESPACE, "--wait=false")


def apply(run: Kubectl, manifest: Manifest) -> None:
    """Without its owner, whom the garbage collector would look for."""
    del manifest["metadata"]["ownerReferences"]
    must(run, "apply", "--server-side", "--filename=-", stdin=manifest)


def budget(run: Kubectl, *drained: str) -> None:
    """Apply the pool's budget and wait until the disruption controller has seen it."""
    apply(run, disruption.build_disruption_budget(POOL, drained))
    name = f"poddisruptionbudget/{POOL.name}-proxy"
    generation = run("get", name, "--output=jsonpath={.metadata.generation}").stdout
    must(run, "wait", name, f"--for=jsonpath={{.status.observedGeneration}}={generation}", "--timeout=30s")


def evict(run: Kubectl, name: str) -> str:
    """Ask for the eviction, without doing it: what was said against it, empty when nothing."""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "deleteOptions": {"dryRun": ["All"]},
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction"
    return run("create", "--raw", path, "--filename=-", stdin=eviction).stderr


def test_proxies_are_evicted_once_they_are_drained(kubectl: Kubectl) -> None:
    """Neither of two proxies is evicted, though the pool asks for one alone; a drained one may go, the other stays."""
    kept, drained = PROXIES
    budget(kubectl)
    assert "disruption budget" in evict(kubectl, kept)
    assert "disruption budget" in evict(kubectl, drained)
    budget(kubectl, drained)
    assert evict(kubectl, drained) == ""
    assert "disruption budget" in evict(kubectl, kept)
