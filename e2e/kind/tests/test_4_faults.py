"""When parts fail on a real kubelet: calls that a fault does not carry go on."""

import json
import os
import signal
from contextlib import suppress

import pykube
import pytest

from e2e import product
from e2e.kind import nodes, pods
from e2e.kind.tests.world import NAMESPACE, Pool, all_completed, some_answered, timed, until

CONTROL = ("--namespace", product.NAMESPACE, "deployment/switchboard-operator")


def kill(pod: pykube.Pod) -> None:
    """SIGKILL to all that runs in the pod but its sandbox; the kubelet starts it again."""
    for process in pods.processes(pod.obj["metadata"]["uid"])[1:]:
        with suppress(ProcessLookupError):  # it has ended with the one before it
            os.kill(process, signal.SIGKILL)


@pytest.mark.smoke
def test_a_killed_primary_is_replaced(pool: Pool) -> None:
    """The primary is killed: another answers within seconds, and no attempt without an answer yet fails."""
    before = pool.entry()
    assert before is not None
    with pool.pbx(), pool.call(calls=300, rate=10, hold_seconds=1, ring_limit_seconds=10) as load:
        some_answered(load)
        kill(pool.pods()[before])
        took = timed(lambda: until(lambda: pool.entry() not in {None, before}, "another primary", within=15))
        result = load.wait(120)
    assert took < 5
    assert result.failed == 0, f"{result}\n{load.errors()}"
    pool.ready(2)


def test_a_killed_proxy_is_started_again(pool: Pool) -> None:
    """A proxy that is not the primary is killed: calls on the primary go on, and the pool is whole again."""
    pool.patch(assignment={"policy": "first"})
    pool.ready(2)
    primary = pool.entry()
    other = next(pod for name, pod in pool.pods().items() if name != primary)
    with pool.pbx(), pool.call(calls=200, rate=10, hold_seconds=2) as load:
        some_answered(load)
        kill(other)
        result = load.wait(120)
    assert result.failed == 0, f"{result}\n{load.errors()}"
    pool.ready(2)


def test_calls_go_on_without_an_operator(pool: Pool) -> None:
    """No operator for two minutes: calls are answered all the time, and one that returns takes over again."""
    with pool.pbx(), pool.call(calls=1300, rate=10, hold_seconds=2) as load:
        some_answered(load)
        product.kubectl("scale", *CONTROL, "--replicas=0")
        until(lambda: load.statistics().answered >= 1250, "two minutes of calls without an operator", within=180)
        product.kubectl("scale", *CONTROL, "--replicas=2")
        all_completed(load, 1300)
    product.kubectl("rollout", "status", *CONTROL, "--timeout=60s")
    pool.ready(2)


def test_calls_go_on_without_an_api_server(pool: Pool) -> None:
    """The API server is away for a minute: calls are answered all the time, and later changes carried out."""
    with pool.pbx(), pool.call(calls=700, rate=10, hold_seconds=2) as load:
        some_answered(load)
        with nodes.no_api_server():
            until(lambda: load.statistics().answered >= 620, "a minute of calls without the API server", within=120)
        all_completed(load, 700)
    pool.patch(replicas=3)
    pool.ready(3)


@pytest.mark.smoke
@pytest.mark.parametrize("damage", ["deleted", "vandalised"])
def test_the_workload_record_is_repaired(pool: Pool, damage: str) -> None:
    """The load ConfigMap is deleted, or holds nonsense: calls go on, and it is soon what it was."""
    name = f"{pool.name}-load"
    record = pykube.ConfigMap.objects(pool.api, namespace=NAMESPACE)
    with pool.pbx(), pool.call(calls=150, rate=10, hold_seconds=1) as load:
        some_answered(load)
        found = record.get_by_name(name)
        if damage == "deleted":
            found.delete()
        else:
            found.patch({"data": {"load.json": "nonsense"}})

        def repaired() -> bool:
            now = record.get_or_none(name=name)
            return now is not None and now.obj["data"].get("load.json", "").startswith("{")

        until(repaired, "the record is as it was", within=30)
        all_completed(load, 150)
    assert json.loads(record.get_by_name(name).obj["data"]["load.json"])["pool"]


def test_a_drained_node_loses_no_call(pool: Pool) -> None:
    """`kubectl drain` of the primary's node waits for its calls: none fails, and the next proxy is on it again."""
    entry = pool.entry()
    assert entry is not None
    node = pool.pods()[entry].obj["spec"]["nodeName"]
    with pool.pbx(), pool.call(calls=900, rate=10, hold_seconds=4) as load:
        some_answered(load)
        try:
            product.kubectl(
                *("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=80s"),
                f"--pod-selector=switchboard.dev/pool={pool.name}",
            )
            assert load.running, "the calls were over before the node was drained: nothing was shown"
            all_completed(load, 900)
        finally:
            product.kubectl("uncordon", node)
    pool.ready(2)
    assert node not in pool.nodes()
    next(pod for name, pod in pool.pods().items() if name != pool.entry()).delete()
    until(lambda: node in pool.nodes(), "a proxy on the node again")
    pool.ready(2)


def test_a_stopped_node_is_replaced(pool: Pool) -> None:
    """A node goes dark: the pool is whole again elsewhere, calls that come after it are answered, and it may return."""
    entry = pool.entry()
    assert entry is not None
    node = pool.pods()[entry].obj["spec"]["nodeName"]
    with nodes.stopped(node):
        until(lambda: pool.entry() not in {None, entry}, "another primary", within=60)
        with pool.pbx(), pool.call(calls=50, rate=10, hold_seconds=1) as load:
            all_completed(load, 50)
    pool.ready(2, within=180)
