"""Claims on how workload data goes round."""

from __future__ import annotations

import json
import time

from tests.claims.exchange import Exchange
from tests.tools.wait import until


async def test_c07_periodically(exchange: Exchange) -> None:
    """C7: workload data goes round periodically, with nothing changing."""
    await exchange.open(replicas=2, sharing={"period": "200ms"})
    before = {pod: report.seq for pod, report in (await exchange.reports()).items()}

    async def ten_more() -> bool:
        return all(report.seq >= before[pod] + 10 for pod, report in (await exchange.reports()).items())

    await until(ten_more, "ten more reports of each proxy")


async def test_c08_spontaneously(exchange: Exchange) -> None:
    """C8: workload data goes round spontaneously: a change is in effect at the primary long before the next period."""
    await exchange.open(replicas=2, sharing={"period": "10s", "staleAfter": "60s"})
    primary = (await exchange.pool.status())["primary"]
    table = (await exchange.reports())[primary].table
    started = time.monotonic()
    await exchange.fill(1)

    async def in_effect() -> bool:
        return (await exchange.reports())[primary].table > table

    await until(in_effect, "a newer table at the primary", within=5)
    assert time.monotonic() - started < 5


async def test_card2_load_is_published(exchange: Exchange) -> None:
    """Card 2: the operator reads each pod's workload and publishes it as a ConfigMap that the proxy pods mount."""
    await exchange.open(replicas=2)
    await exchange.fill(2)

    async def published() -> bool:
        found = await exchange.pool.owned("v1", "ConfigMap", f"{exchange.pool.name}-load")
        return found is not None and sum(one["calls"] for one in json.loads(found["data"]["load.json"])["proxies"]) == 2

    await until(published, "both calls in the load ConfigMap")
    for pod in (await exchange.pool.pods()).values():
        mounted = [volume.get("configMap", {}).get("name") for volume in pod["spec"]["volumes"]]
        assert f"{exchange.pool.name}-load" in mounted
