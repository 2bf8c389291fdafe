"""Card row 1: `kubectl apply` of a VoipProxyPool gives a working pool."""

from __future__ import annotations

import json

from tests.cluster.world import Pool
from tests.tools.wait import until


async def test_apply_gives_a_working_pool(pool: Pool) -> None:
    """A pool that is applied becomes ready, has a primary, and connects calls through its Service."""
    pool.apply(replicas=2)
    await pool.ready(2)
    status = await pool.status()
    assert status["primary"] == await pool.entry()
    assert (status["replicas"], status["capacity"], status["loadConfigMap"]) == (2, 50, "edge-load")
    with pool.pbx(), await pool.call(calls=20, rate=20, hold_seconds=1) as load:
        result = load.wait(30)
    assert (result.offered, result.completed) == (20, 20), load.errors()


async def test_nothing_of_kopf_is_left_on_any_object(pool: Pool) -> None:
    """Neither pool nor pods carry a kopf annotation or any finalizer: uninstalling never blocks a delete."""
    pool.apply(replicas=1)
    await pool.ready(1)
    for found in (await pool.get(), *(await pool.pods()).values()):
        assert "finalizers" not in found["metadata"]
        assert not [key for key in found["metadata"].get("annotations", {}) if "kopf" in key]


async def test_the_load_is_published(pool: Pool) -> None:
    """Card row 2: the load ConfigMap names every proxy with its state and calls, and the proxies mount it."""
    pool.apply(replicas=2)
    await pool.ready(2)
    with pool.pbx(), await pool.call(calls=10, rate=20, hold_seconds=10):

        async def published() -> bool:
            found = await pool.owned("v1", "ConfigMap", "edge-load")
            assert found is not None
            document = json.loads(found["data"]["load.json"])
            proxies = document["proxies"]
            calls: int = sum(one["calls"] for one in proxies)
            return bool(document["primary"] == await pool.entry()) and calls == 10

        await until(published, "10 calls in the load ConfigMap")
    mounted = next(iter((await pool.pods()).values()))["spec"]["volumes"]
    assert any(volume.get("configMap", {}).get("name") == "edge-load" for volume in mounted)


async def test_events_tell_what_happened(pool: Pool) -> None:
    """`kubectl describe vpp` tells when proxies joined and who was elected."""
    pool.apply(replicas=1)
    await pool.ready(1)
    expected = {"ProxyJoined", "PrimaryElected"}

    async def told() -> bool:
        return expected <= await pool.reasons()

    await until(told, f"Events {expected}")
