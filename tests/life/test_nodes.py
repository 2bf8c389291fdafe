"""Nodes are emptied, and die."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable

import pytest

from e2e import product
from e2e.embedded.cluster import Cluster
from e2e.embedded.components import NODE_NAME
from switchboard.resources import names
from tests.cluster.world import Pool, two_nodes
from tests.tools.wait import until


async def nodes_of(pool: Pool) -> dict[str, str]:
    """Where each proxy's pod runs."""
    return {name: pod["spec"].get("nodeName", "") for name, pod in (await pool.pods()).items()}


async def test_a_drained_node_loses_no_call(make_pool: Callable[[str], Pool]) -> None:
    """`kubectl drain` of the primary's node completes by itself under calls: hand-over, replacements, no call lost."""
    pool = make_pool("drained")  # a name of its own: kubectl waits for all that the selector finds, in every namespace
    with two_nodes():
        pool.apply(replicas=3, assignment={"policy": "least"})
        await pool.ready(3)
        where, entry = await nodes_of(pool), await pool.entry()
        assert entry is not None
        assert len(set(where.values())) == 2, "spread over both nodes by default"
        node = where[entry]
        try:
            with pool.pbx(), await pool.call(calls=300, rate=15, hold_seconds=2) as load:
                drain = ("drain", node, f"--pod-selector={names.POOL_LABEL}={pool.name}", "--delete-emptydir-data")
                seconds = 150  # 20 s on an idle machine: two proxies start, and their containers end
                await asyncio.to_thread(product.kubectl, *drain, f"--timeout={seconds}s", timeout_seconds=seconds + 10)
                result = load.wait(60)
            assert (result.offered, result.completed) == (300, 300), load.errors()
            assert node not in (await nodes_of(pool)).values()
            await pool.ready(3)
        finally:
            product.kubectl("uncordon", node)


async def test_an_autoscaler_that_empties_a_node_loses_no_call(pool: Pool) -> None:
    """An eviction is refused, and changes nothing; once its node is tainted for removal, a proxy drains and leaves."""
    with two_nodes():
        pool.apply(replicas=2, assignment={"policy": "least"})
        await pool.ready(2)
        where, entry = await nodes_of(pool), await pool.entry()
        assert len(set(where.values())) == 2, "spread over both nodes by default"
        victim, node = next((name, on) for name, on in where.items() if name != entry)
        with pool.pbx(), await pool.call(calls=150, rate=15, hold_seconds=2) as load:
            assert "disruption budget" in refusal_to_evict(pool, victim)
            assert await nodes_of(pool) == where
            product.kubectl("taint", "node", node, "karpenter.sh/disrupted:NoSchedule")
            try:

                async def emptied() -> bool:
                    return victim not in await pool.pods() and await pool.owned("v1", "Pod", victim) is None

                await until(emptied, f"no proxy on {node}")
                result = load.wait(60)
                assert (result.offered, result.completed) == (150, 150), load.errors()
                await pool.ready(2)
                assert node not in (await nodes_of(pool)).values()
            finally:
                product.kubectl("taint", "node", node, "karpenter.sh/disrupted-")


def refusal_to_evict(pool: Pool, name: str) -> str:
    """What the API server says to that."""
    metadata = {"name": name, "namespace": pool.namespace}
    eviction = json.dumps({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata})
    path = f"/api/v1/namespaces/{pool.namespace}/pods/{name}/eviction"
    with pytest.raises(subprocess.CalledProcessError) as refused:
        product.kubectl("create", "--raw", path, "--filename", "-", stdin=eviction)
    return str(refused.value.stderr)


async def test_a_dead_nodes_proxy_is_replaced_and_its_calls_are_told(pool: Pool) -> None:
    """A node dies without a word: its proxy is replaced, and exactly the calls that were on it are told to be lost."""
    with two_nodes() as node:
        pool.apply(replicas=2, assignment={"policy": "least"}, media={"enabled": False})
        await pool.ready(2)
        where = await nodes_of(pool)
        assert len(set(where.values())) == 2, "spread over both nodes by default"
        victim = next(name for name, on in where.items() if on == node)
        with pool.pbx(), await pool.call(calls=10, rate=20, hold_seconds=150):
            await pool.carries(10)
            carried = await pool.carried(victim)
            assert 0 < carried < 10
            Cluster().choose(nodes=1)

            async def replaced() -> bool:
                pods = await pool.pods()
                return victim not in pods and len(pods) == 2

            await until(replaced, "another proxy", within=120)

            async def told() -> list[str]:
                return await pool.messages("CallsLost")

            assert await until(told, "the Event") == [f"{carried} calls ended with proxy {victim} on node {node}."]
            await pool.ready(2)
            assert (await pool.status())["calls"] == 10 - carried


async def test_a_pod_deleted_by_hand_drains(pool: Pool) -> None:
    """It takes no new calls and is replaced at once; it goes when its calls have ended, or spec.drain.timeout has."""
    pool.apply(replicas=2, assignment={"policy": "least"}, drain={"timeout": "15s"})
    await pool.ready(2)
    entry, before = await pool.entry(), await pool.pods()
    victim = next(name for name in before if name != entry)
    with pool.pbx(), await pool.call(calls=10, rate=20, hold_seconds=60):
        await pool.carries(10)
        carried = await pool.carried(victim)
        product.kubectl("delete", "pod", victim, "--namespace", pool.namespace, "--wait=false")

        async def replaced() -> bool:
            return len(await pool.pods()) == 2 and (await pool.status())["drainingReplicas"] == 1

        await until(replaced, "its replacement, and a proxy that drains", within=10)
        with await pool.call(calls=10, rate=20, hold_seconds=1) as more:
            assert more.wait(30).completed == 10, more.errors()
        assert await pool.carried(victim) == carried, "no new calls"

        async def gone() -> bool:
            return await pool.owned("v1", "Pod", victim) is None

        await until(gone, "the time-out holds: 15 s, and 30 s for the end", within=60)
        assert await pool.messages("CallsLost") == [f"{carried} calls ended with proxy {victim} on node {NODE_NAME}."]
    await pool.ready(2)
