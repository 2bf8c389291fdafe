"""Scaling and rolling changes under calls: a call is worth more than a pod."""

from __future__ import annotations

from tests.cluster.world import Pool
from tests.tools.wait import until


async def test_scale_up_and_down_loses_no_call(pool: Pool) -> None:
    """While calls go on, a pool grows from 2 to 3 and shrinks to 1: every call is answered and ends as it should."""
    pool.apply(replicas=2)
    await pool.ready(2)
    with pool.pbx(), await pool.call(calls=150, rate=10, hold_seconds=1) as load:
        await pool.patch(replicas=3)
        await pool.ready(3)
        await pool.patch(replicas=1)
        await pool.ready(1)
        result = load.wait(60)
    assert (result.offered, result.completed) == (150, 150), load.errors()
    assert len(await pool.pods()) == 1


async def test_scale_down_waits_for_calls(pool: Pool) -> None:
    """A proxy that has to go keeps its pod, takes no new call, and goes when its last call has ended."""
    pool.apply(replicas=2, assignment={"policy": "least"})
    await pool.ready(2)
    with pool.pbx(), await pool.call(calls=10, rate=20, hold_seconds=12) as load:
        await pool.carries(10)
        await pool.patch(replicas=1)

        async def draining() -> bool:
            status = await pool.status()
            return bool((status["replicas"], status["drainingReplicas"]) == (1, 1))

        await until(draining, "one proxy drains")
        assert len(await pool.pods()) == 2
        result = load.wait(40)
    assert (result.offered, result.completed) == (10, 10), load.errors()
    await pool.ready(1)


async def test_a_draining_proxy_is_taken_back(pool: Pool) -> None:
    """A pool that is to grow again takes its draining proxy back before it starts another."""
    pool.apply(replicas=2, assignment={"policy": "least"})
    await pool.ready(2)
    before = set(await pool.pods())
    with pool.pbx(), await pool.call(calls=10, rate=20, hold_seconds=15) as load:
        await pool.carries(10)
        await pool.patch(replicas=1)

        async def draining() -> bool:
            return bool((await pool.condition("Draining"))["status"] == "True")

        await until(draining, "one proxy drains")
        await pool.patch(replicas=2)
        await pool.ready(2)
        assert set(await pool.pods()) == before
        result = load.wait(40)
    assert result.completed == 10, load.errors()


async def test_a_changed_template_rolls_one_at_a_time(pool: Pool) -> None:
    """A changed pod template replaces every proxy under calls, the primary last, never more than one above."""
    pool.apply(replicas=2)
    await pool.ready(2)
    before, primary = set(await pool.pods()), await pool.entry()
    most = 0
    primary_left_last = True
    with pool.pbx(), await pool.call(calls=150, rate=10, hold_seconds=1) as load:
        await pool.patch(proxy={"podTemplate": {"metadata": {"annotations": {"example.com/roll": "1"}}}})

        async def rolled() -> bool:
            nonlocal most, primary_left_last
            pods = await pool.pods()
            most = max(most, len(pods))
            if primary not in pods and before & set(pods):
                primary_left_last = False
            return not before & set(pods)

        await until(rolled, "every proxy replaced", within=60)
        await pool.ready(2)
        result = load.wait(60)
    assert (result.offered, result.completed) == (150, 150), load.errors()
    assert most <= 3
    assert primary_left_last


async def test_a_changed_threshold_restarts_nothing(pool: Pool) -> None:
    """Threshold, policy and mode are run-time settings: the proxies take them over without a restart."""
    pool.apply(replicas=1, threshold="80%")
    await pool.ready(1)
    before = set(await pool.pods())
    await pool.patch(threshold="40%", assignment={"mode": "redirect"})
    await pool.ready(1)
    with pool.pbx(), await pool.call(calls=20, rate=40, hold_seconds=10) as load:
        result = load.wait(40)
    assert (result.completed, result.refused) == (10, 10), load.errors()
    assert result.redirected >= 0
    assert set(await pool.pods()) == before
