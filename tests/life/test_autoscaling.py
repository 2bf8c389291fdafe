"""Proxies come and go with the load: by the pool's own autoscaler, and by a HorizontalPodAutoscaler."""

from __future__ import annotations

import asyncio

from e2e import product
from switchboard.resources import names
from tests.cluster.world import Pool
from tests.tools.wait import until

CALLS = 26


async def test_a_pool_grows_and_shrinks_with_its_calls(pool: Pool) -> None:
    """Calls make it grow; after them it shrinks by drain; none is lost, and nobody has written the spec."""
    pool.apply(
        replicas=7,
        capacity={"calls": 10},
        autoscaling={"min": 1, "max": 3, "headroom": "50%", "scaleDownAfter": "10s"},
    )

    async def at(desired: int) -> bool:
        status = await pool.status()
        return bool((status.get("desiredReplicas"), status.get("readyReplicas")) == (desired, desired))

    async def grown() -> bool:
        return await at(3)

    async def shrunk() -> bool:
        return await at(1)

    await until(shrunk, "one proxy, as min says")
    before = await pool.get()
    # Slow enough that a proxy starts, on a machine that is busy, before the ones there are have no place left.
    with pool.pbx(), await pool.call(calls=CALLS, rate=0.5, hold_seconds=16) as load:
        await until(grown, "three proxies, as max allows", within=60)
        result = load.wait(120)
    assert (result.offered, result.completed) == (CALLS, CALLS), load.errors()
    await until(shrunk, "one proxy again", within=60)
    after = await pool.get()
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    managers = {entry["manager"] for entry in after["metadata"]["managedFields"] if "f:spec" in entry["fieldsV1"]}
    assert names.FIELD_MANAGER not in managers
    assert "Autoscaled" in await pool.reasons()


async def test_a_horizontal_pod_autoscaler_scales_a_pool(pool: Pool) -> None:
    """Kubernetes' own HPA reads and writes the scale subresource, and its selector finds the pods that serve."""
    pool.apply(replicas=1)
    await pool.ready(1)
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": pool.name},
        "spec": {
            "scaleTargetRef": {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": pool.name},
            "minReplicas": 2,
            "maxReplicas": 3,
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": "switchboard_proxy_workload_ratio"},
                        "target": {"type": "AverageValue", "averageValue": "600m"},
                    },
                }
            ],
        },
    }
    product.apply(scaler, namespace=pool.namespace)
    await pool.ready(2, within=90)
    scale = await pool.kube.get(names.API_VERSION, names.KIND, pool.namespace, f"{pool.name}/scale")
    assert scale is not None
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (2, 2)
    found = await pool.kube.list("v1", "Pod", pool.namespace, scale["status"]["selector"])
    assert {pod["metadata"]["name"] for pod in found} == set(await pool.pods())
    await asyncio.to_thread(product.kubectl, "delete", "hpa", pool.name, "--namespace", pool.namespace)
