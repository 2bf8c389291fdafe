"""The primary dies, or hands over."""

from __future__ import annotations

import time

from tests.cluster.world import Pool, until


async def test_a_killed_primary_is_replaced(pool: Pool) -> None:
    """When the primary is killed another takes over within two seconds; attempts without an answer are answered."""
    pool.apply(replicas=3, assignment={"policy": "least"})
    await pool.ready(3)
    before = await pool.entry()
    assert before is not None
    with pool.pbx(), await pool.call(calls=100, rate=10, hold_seconds=1, ring_limit_seconds=10) as load:

        async def some_answered() -> bool:
            return load.statistics().answered >= 20

        await until(some_answered, "calls are answered", within=15)
        began = time.monotonic()
        for container in ("agent", "kamailio", "rtpengine"):
            pool.kill(before, container)

        async def replaced() -> bool:
            return await pool.entry() not in {None, before}

        await until(replaced, "another primary", within=5)
        took = time.monotonic() - began
        result = load.wait(60)
    assert took < 2
    assert result.failed == 0, load.errors()
    assert result.answered + result.ringing_lost == 100, result
    assert "ProxyLost" in await pool.reasons()


async def test_hand_over_loses_no_call(pool: Pool) -> None:
    """A pool that shrinks under its primary's feet hands over: ringing calls are answered, all others too."""
    pool.apply(replicas=2)
    await pool.ready(2)
    before = await pool.entry()
    with pool.pbx(ring_seconds=2), await pool.call(calls=150, rate=10, hold_seconds=1) as load:

        async def some_answered() -> bool:
            return load.statistics().answered >= 10

        await until(some_answered, "calls are answered", within=15)
        await pool.patch(proxy={"podTemplate": {"metadata": {"annotations": {"example.com/roll": "1"}}}})

        async def handed_over() -> bool:
            return await pool.entry() not in {None, before}

        await until(handed_over, "another primary", within=60)
        result = load.wait(60)
    assert (result.offered, result.completed) == (150, 150), load.errors()
    await pool.ready(2)
