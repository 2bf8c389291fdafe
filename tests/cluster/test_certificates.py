"""A pool's certificates are renewed without a dropped link."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import aiohttp

from e2e import product
from switchboard.control.credentials import AUTHORITY_LIFE, CERTIFICATE_LIFE
from switchboard.resources.names import PoolRef
from tests.cluster.world import Pool, holder
from tests.tools.aging import aged, renewed
from tests.tools.wait import until


async def test_the_authority_is_replaced_step_by_step(pool: Pool, fast_volumes: None) -> None:
    """An old authority is followed by a new one, every proxy has each step before the next, and no link is lost."""
    pool.apply(replicas=2)
    await pool.ready(2)
    before = await pool.owned("v1", "Secret", "edge-ca")
    assert before is not None
    for secret in aged(PoolRef.of(await pool.get())):
        await pool.kube.apply(secret)
    seen: set[str] = set()

    async def replaced() -> bool:
        found = await pool.owned("v1", "Secret", "edge-ca")
        assert found is not None
        seen.update(found["data"])
        return renewed(found)

    await until(replaced, "a new authority alone", within=60)
    assert {"following.crt", "previous.crt"} <= seen
    assert "ProxyLost" not in await pool.reasons()
    await pool.patch(replicas=3)
    await pool.ready(3)


async def test_the_metric_tells_when_a_certificate_expires(pool: Pool) -> None:
    """An alert can see a certificate that is not renewed: the holder of the Lease tells when each one expires."""
    pool.apply(replicas=1)
    await pool.ready(1)
    now = datetime.now(UTC)
    for kind, life in (("agent", CERTIFICATE_LIFE), ("operator", CERTIFICATE_LIFE), ("authority", AUTHORITY_LIFE)):
        expires = datetime.fromtimestamp(await told(pool, kind), UTC)
        assert timedelta(0) <= now + life - expires < timedelta(minutes=5), kind


async def told(pool: Pool, kind: str) -> float:
    """What the acting operator's metrics say of one of the pool's certificates."""
    pod = await pool.kube.get("v1", "Pod", product.NAMESPACE, await holder(pool.kube))
    assert pod is not None
    async with aiohttp.ClientSession() as session:
        text = await (await session.get(f"http://{pod['status']['podIP']}:8080/metrics")).text()
    labels = f'certificate="{kind}",namespace="{pool.namespace}",pool="{pool.name}"'
    line = f"switchboard_certificate_expiry_timestamp_seconds{{{labels}}} "
    return next(float(one.removeprefix(line)) for one in text.splitlines() if one.startswith(line))


async def test_a_lost_authority_is_made_anew(pool: Pool, fast_volumes: None) -> None:
    """Deleting every certificate of a pool costs its calls nothing: new ones are made, and links come up with them."""
    pool.apply(replicas=2)
    await pool.ready(2)
    with pool.pbx(), await pool.call(calls=100, rate=10, hold_seconds=1) as load:
        for name in ("edge-ca", "edge-agent-tls", "edge-operator-tls"):
            product.kubectl("delete", "secret", name, "--namespace", pool.namespace)
        await pool.patch(replicas=3)
        await pool.ready(3)
        result = load.wait(60)
    assert (result.offered, result.completed) == (100, 100), load.errors()
