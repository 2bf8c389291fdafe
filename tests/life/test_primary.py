"""The primary dies, or hands over."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from e2e import product
from e2e.embedded.faults import kill_pod
from tests.cluster.world import Pool
from tests.tools.wait import until

REFUSED = {
    "": ["configmaps", "secrets", "services", "serviceaccounts", "pods"],
    "networking.k8s.io": ["networkpolicies"],
    "policy": ["poddisruptionbudgets"],
}


async def another_primary(pool: Pool, before: str | None, within: float = 15) -> None:
    """Until the Service points at another pod. How fast that is, the bench tells: here a busy machine is no failure."""

    async def replaced() -> bool:
        return await pool.entry() not in {None, before}

    await until(replaced, f"a primary after {before}", within)


async def test_a_killed_primary_is_replaced(pool: Pool) -> None:
    """When the primary is killed another takes over by itself; attempts without an answer are answered."""
    pool.apply(replicas=3, assignment={"policy": "least"})
    await pool.ready(3)
    before = await pool.entry()
    assert before is not None
    with pool.pbx(), await pool.call(calls=100, rate=10, hold_seconds=1, ring_limit_seconds=10) as load:

        async def some_answered() -> bool:
            return load.statistics().answered >= 20

        await until(some_answered, "calls are answered")
        kill_pod(pool.namespace, before)
        await another_primary(pool, before)
        result = load.wait(60)
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

        await until(some_answered, "calls are answered")
        await pool.patch(proxy={"podTemplate": {"metadata": {"annotations": {"example.com/roll": "1"}}}})
        await another_primary(pool, before, within=60)
        result = load.wait(60)
    assert (result.offered, result.completed) == (150, 150), load.errors()
    await pool.ready(2)


@asynccontextmanager
async def no_writes(namespace: str) -> AsyncIterator[None]:
    """Meanwhile the API server refuses whatever an operator writes there, but EndpointSlices and the pool's status."""
    rules = [
        {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": resources}
        for group, resources in REFUSED.items()
    ]
    name, api = f"no-writes-{namespace}", "admissionregistration.k8s.io/v1"
    match = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    policy = {"validations": [{"expression": "false"}], "matchConstraints": {**match, "resourceRules": rules}}
    binding = {"policyName": name, "validationActions": ["Deny"]}
    product.apply(
        {"apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": policy},
        {"apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": binding},
    )

    async def refused() -> bool:
        probe = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe", "namespace": namespace}}
        try:
            product.kubectl("create", "--dry-run=server", "--filename=-", stdin=json.dumps(probe))
        except subprocess.CalledProcessError:
            return True
        return False

    try:
        await until(refused, "the API server refuses writes")
        yield
    finally:
        product.kubectl("delete", f"validatingadmissionpolicies/{name}", f"validatingadmissionpolicybindings/{name}")


async def test_a_failover_waits_for_no_other_write(pool: Pool) -> None:
    """While the API server refuses the operator's other writes, a killed primary is followed all the same."""
    pool.apply(replicas=2)
    await pool.ready(2)
    before = await pool.entry()
    assert before is not None
    async with no_writes(pool.namespace):
        await pool.patch(threshold="40%")  # the settings' ConfigMap cannot be written

        async def failing() -> bool:
            return bool((await pool.condition("Reconciling"))["reason"] == "ReconcileFailed")

        await until(failing, "reconciles fail")
        kill_pod(pool.namespace, before)
        await another_primary(pool, before)
    await pool.ready(2)
