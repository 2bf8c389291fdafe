"""Operators come and go; pools and their calls do not notice."""

from __future__ import annotations

import time
from collections.abc import Callable

from e2e import product
from e2e.embedded import faults
from tests.cluster.world import Pool, holder, no_operator
from tests.tools.wait import until


async def test_a_second_operator_waits_and_takes_over(pool: Pool) -> None:
    """Of two operators one acts; when its pod goes the other takes over with a higher term, and no call is lost."""
    pool.apply(replicas=2)
    await pool.ready(2)
    lease = await pool.kube.get("coordination.k8s.io/v1", "Lease", product.NAMESPACE, "switchboard-operator")
    assert lease is not None
    before, term = lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]
    entry, pods = await pool.entry(), set(await pool.pods())
    with pool.pbx(), await pool.call(calls=100, rate=10, hold_seconds=1) as load:
        product.kubectl("delete", "pod", before, "--namespace", product.NAMESPACE, "--wait=false")

        async def taken_over() -> bool:
            return await holder(pool.kube) not in {"", before}

        await until(taken_over, "the other operator acts", within=5)
        result = load.wait(60)
    assert (result.offered, result.completed) == (100, 100), load.errors()
    lease = await pool.kube.get("coordination.k8s.io/v1", "Lease", product.NAMESPACE, "switchboard-operator")
    assert lease is not None
    assert lease["spec"]["leaseTransitions"] > term
    assert await pool.entry() == entry
    await pool.patch(replicas=3)
    await pool.ready(3)
    assert pods < set(await pool.pods())


async def test_a_killed_operator_is_back_and_changes_nothing(pool: Pool) -> None:
    """An operator that is killed leaves primary and pods as they are, and so does the one that comes after it."""
    pool.apply(replicas=2)
    await pool.ready(2)
    entry, pods = await pool.entry(), set(await pool.pods())
    with pool.pbx(), await pool.call(calls=300, rate=10, hold_seconds=1) as load:
        faults.kill_pod(product.NAMESPACE, await holder(pool.kube), "operator")
        await pool.patch(replicas=3)
        await pool.ready(3)
        result = load.wait(60)
    assert (result.offered, result.completed) == (300, 300), load.errors()
    assert await pool.entry() == entry
    assert pods < set(await pool.pods())


async def test_a_killed_operator_is_followed_within_five_seconds(pool: Pool) -> None:
    """An operator that dies without a word is followed by the other one within 5 s: by then that holds a newer term."""
    pool.apply(replicas=1)
    await pool.ready(1)

    async def term() -> int:
        lease = await pool.kube.get("coordination.k8s.io/v1", "Lease", product.NAMESPACE, "switchboard-operator")
        return int((lease or {"spec": {}})["spec"].get("leaseTransitions", 0))

    before = await term()
    faults.kill_pod(product.NAMESPACE, await holder(pool.kube), "operator")
    began = time.monotonic()

    async def taken_over() -> bool:
        return await term() > before

    await until(taken_over, "a new term", within=10)
    assert time.monotonic() - began < 5
    await pool.patch(replicas=2)
    await pool.ready(2)


async def test_without_any_operator_calls_go_on(pool: Pool) -> None:
    """With no operator at all the pool goes on to share its load: no call fails, none is over the threshold."""
    pool.apply(replicas=2, capacity={"calls": 10})
    await pool.ready(2)
    with pool.pbx(), no_operator():
        with await pool.call(calls=60, rate=10, hold_seconds=1) as load:
            result = load.wait(60)
        assert (result.offered, result.completed) == (60, 60), load.errors()
        with await pool.call(calls=24, rate=12, hold_seconds=8) as burst:
            result = burst.wait(60)
        assert (result.completed, result.refused, result.failed) == (16, 8, 0), burst.errors()
    await pool.ready(2)


async def test_deleting_a_pool_needs_no_operator(pool: Pool) -> None:
    """With the operator uninstalled, `kubectl delete vpp` returns at once: nothing holds the pool back."""
    pool.apply(replicas=1)
    await pool.ready(1)
    with no_operator():
        product.kubectl("delete", "vpp", "edge", "--namespace", pool.namespace, "--timeout=30s")


async def test_a_wrong_spec_keeps_the_pool_running(pool: Pool) -> None:
    """A spec that cannot be carried out is refused in words; the pool goes on as before, also with a new operator."""
    pool.apply(replicas=1)
    await pool.ready(1)
    gateways = [
        {"name": "a", "kind": "pstn", "networks": ["203.0.113.0/24"]},
        {"name": "b", "kind": "pstn", "networks": ["203.0.113.128/25"]},
    ]
    await pool.patch(gateways=gateways, threshold="40%")

    async def stalled() -> bool:
        condition = await pool.condition("Stalled")
        return (condition["status"], condition["reason"]) == ("True", "OverlappingGateways")

    await until(stalled, "Stalled")

    async def told() -> bool:
        return "SpecRejected" in await pool.reasons()

    await until(told, "the Event")
    faults.kill_pod(product.NAMESPACE, await holder(pool.kube), "operator")
    pods = set(await pool.pods())
    with pool.pbx(), await pool.call(calls=20, rate=20, hold_seconds=5) as load:
        result = load.wait(40)
    assert (result.completed, result.refused) == (20, 0), load.errors()
    assert set(await pool.pods()) == pods
    await pool.patch(gateways=gateways[:1], threshold="80%")
    await pool.ready(1)
    assert (await pool.condition("Stalled"))["status"] == "False"


async def test_a_pool_whose_first_spec_is_wrong_says_so(pool: Pool) -> None:
    """A pool that never had a good spec is Stalled with the reason, and starts once it is put right."""
    pool.apply(replicas=1, threshold="1%", capacity={"calls": 20})

    async def stalled() -> bool:
        return bool((await pool.condition("Stalled"))["reason"] == "NoRoomForCalls")

    await until(stalled, "Stalled")
    assert await pool.pods() == {}
    await pool.patch(threshold="80%")
    await pool.ready(1)


async def test_two_pools_side_by_side(make_pool: Callable[[str], Pool]) -> None:
    """Two pools of one namespace have their own primaries, proxies and thresholds, and do not touch each other."""
    first, second = make_pool("east"), make_pool("west")
    first.apply(replicas=1, capacity={"calls": 10})
    second.apply(replicas=2, capacity={"calls": 20})
    await first.ready(1)
    await second.ready(2)
    assert not set(await first.pods()) & set(await second.pods())
    with (
        first.pbx(),
        await first.call(calls=12, rate=12, hold_seconds=8) as east,
        await second.call(calls=12, rate=12, hold_seconds=8) as west,
    ):
        results = east.wait(40), west.wait(40)
    assert (results[0].completed, results[0].refused) == (8, 4), east.errors()
    assert (results[1].completed, results[1].refused) == (12, 0), west.errors()
    product.kubectl("delete", "vpp", "east", "--namespace", first.namespace)
    with second.pbx(), await second.call(calls=5, rate=10, hold_seconds=0.5) as load:
        assert load.wait(30).completed == 5, load.errors()


async def test_an_image_that_is_nowhere_is_told(pool: Pool) -> None:
    """A roll to an image that is nowhere says so and leaves the pool serving; put right, it is over."""
    pool.apply(replicas=1)
    await pool.ready(1)
    before = set(await pool.pods())
    await pool.patch(proxy={"image": "switchboard-proxy:nowhere"})

    async def told() -> bool:
        message: str = (await pool.condition("Reconciling")).get("message", "")
        return "image switchboard-proxy:nowhere of container" in message

    await until(told, "the condition names the image")
    assert (await pool.condition("Ready"))["status"] == "True"
    with pool.pbx(), await pool.call(calls=10, rate=10, hold_seconds=1) as load:
        result = load.wait(30)
    assert (result.offered, result.completed) == (10, 10), load.errors()
    await pool.patch(proxy={"image": product.PROXY_IMAGE})
    await pool.ready(1)
    assert set(await pool.pods()) == before
