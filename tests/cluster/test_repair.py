"""Whatever somebody changes or deletes, or whatever dies, is put right."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e import product
from e2e.embedded import faults
from e2e.embedded.cluster import Cluster
from e2e.embedded.waiting import wait_for
from switchboard.control.kube import Object
from switchboard.control.owned import covers
from tests.cluster.world import Pool, gone
from tests.tools.wait import until

OWNED = [
    ("v1", "Service", "edge"),
    ("v1", "Service", "edge-proxies"),
    ("discovery.k8s.io/v1", "EndpointSlice", "edge"),
    ("v1", "ConfigMap", "edge-load"),
    ("v1", "ConfigMap", "edge-settings"),
    ("v1", "Secret", "edge-ca"),
    ("v1", "Secret", "edge-agent-tls"),
    ("v1", "Secret", "edge-operator-tls"),
    ("v1", "Secret", "edge-token"),
    ("v1", "ServiceAccount", "edge-proxy"),
    ("networking.k8s.io/v1", "NetworkPolicy", "edge-proxy"),
    ("policy/v1", "PodDisruptionBudget", "edge-proxy"),
]


async def test_deleted_objects_come_back(pool: Pool) -> None:
    """Every object of a pool that somebody deletes is made again, and calls still go through."""
    pool.apply(replicas=1)
    await pool.ready(1)
    uids = {}
    for version, kind, name in OWNED:
        found = await pool.owned(version, kind, name)
        assert found is not None, f"{kind} {name}"
        uids[kind, name] = found["metadata"]["uid"]
        if (kind, name) != ("Secret", "edge-ca"):  # deleting the authority is another test's business
            product.kubectl("delete", kind, name, "--namespace", pool.namespace)

    async def back() -> bool:
        found = [await pool.owned(*one) for one in OWNED]
        return all(one is not None for one in found) and all(
            one["metadata"]["uid"] != uids[one["kind"], one["metadata"]["name"]]
            for one in found
            if one is not None and one["metadata"]["name"] != "edge-ca"
        )

    await until(back, "all objects made again")
    with pool.pbx(), await pool.call(calls=5, rate=10, hold_seconds=0.5) as load:
        assert load.wait(30).completed == 5, load.errors()


DRIFT: list[tuple[tuple[str, str, str], Object]] = [
    (("discovery.k8s.io/v1", "EndpointSlice", "edge"), {"endpoints": [{"addresses": ["198.18.127.1"]}]}),
    (("v1", "Service", "edge"), {"metadata": {"labels": {"app.kubernetes.io/name": "other"}}}),
    (("v1", "ConfigMap", "edge-load"), {"data": {"load.json": "{}"}}),
    (("networking.k8s.io/v1", "NetworkPolicy", "edge-proxy"), {"spec": {"ingress": [{}]}}),
]


@pytest.mark.parametrize(("where", "change"), DRIFT)
async def test_drift_is_repaired(pool: Pool, where: tuple[str, str, str], change: Object) -> None:
    """A value that somebody changed in an object of the pool is put back."""
    pool.apply(replicas=1)
    await pool.ready(1)
    found = await pool.owned(*where)
    assert found is not None
    changed = await pool.kube.merge(found, change)
    assert covers(change, changed)

    async def repaired() -> bool:
        return not covers(change, await pool.owned(*where))

    await until(repaired, f"{where[1]} {where[2]} repaired")


async def test_a_dead_pod_is_replaced(pool: Pool) -> None:
    """A pod that somebody deletes by force is replaced by another."""
    pool.apply(replicas=2)
    await pool.ready(2)
    entry = await pool.entry()
    victim = next(name for name in await pool.pods() if name != entry)
    product.kubectl("delete", "pod", victim, "--namespace", pool.namespace, "--force", "--grace-period=0")

    async def replaced() -> bool:
        pods = await pool.pods()
        return victim not in pods and len(pods) == 2

    await until(replaced, "another pod")
    await pool.ready(2)


async def test_what_nobody_saw_go_comes_back(pool: Pool) -> None:
    """Objects and a pod that go after an API server's outage, before an operator watches again, are soon made again."""
    pool.apply(replicas=2)
    await pool.ready(2)
    entry = await pool.entry()
    victim = next(name for name in await pool.pods() if name != entry)
    with blind_operators():
        for kind, name in (("configmap", "edge-load"), ("networkpolicy", "edge-proxy"), ("service", "edge-proxies")):
            product.kubectl("delete", kind, name, "--namespace", pool.namespace)
        product.kubectl("delete", "pod", victim, "--namespace", pool.namespace, "--force", "--grace-period=0")

    async def back() -> bool:
        there = [await pool.owned(*one) is not None for one in OWNED]
        return all(there) and len(await pool.pods()) == 2

    await until(back, "all made again", within=10)
    await pool.ready(2)


@contextmanager
def blind_operators() -> Iterator[None]:
    """Meanwhile operators stand still, longer than a Lease lasts; then they find that the API server was away, and no
    watch is left.
    """
    lease = ("lease", "switchboard-operator", "--namespace", product.NAMESPACE)
    lease_seconds = int(product.kubectl("get", *lease, "--output=jsonpath={.spec.leaseDurationSeconds}"))
    selector = ("--selector=app.kubernetes.io/component=operator", "--output=jsonpath={.items[*].metadata.name}")
    pods = product.kubectl("get", "pods", "--namespace", product.NAMESPACE, *selector).split()
    operators = [Cluster().process(product.NAMESPACE, pod, "operator") for pod in pods]
    for process in operators:
        os.kill(process, signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        faults.stop("kube-apiserver")
        faults.start("kube-apiserver")
        yield
        wait_for(lambda: time.monotonic() - stopped > lease_seconds, 2 * lease_seconds, "the Lease to run out")
    finally:
        for process in operators:
            os.kill(process, signal.SIGCONT)


async def test_deleting_the_pool_removes_everything(pool: Pool) -> None:
    """`kubectl delete vpp` returns at once and takes every object of the pool with it."""
    pool.apply(replicas=2)
    await pool.ready(2)
    pods = list(await pool.pods())
    product.kubectl("delete", "vpp", "edge", "--namespace", pool.namespace, "--timeout=30s")

    async def all_gone() -> bool:
        left = [one for one in OWNED if not await gone(pool.kube, one[0], one[1], pool.namespace, one[2])]
        return not left and not [name for name in pods if await pool.owned("v1", "Pod", name) is not None]

    await until(all_gone, "nothing left", within=90)
