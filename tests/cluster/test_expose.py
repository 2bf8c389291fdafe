"""How clients reach a pool from outside: each Service type, with the client's own address and the advertised host."""

from __future__ import annotations

from typing import Any

from e2e import product
from e2e.embedded.network import NODE, add_host
from switchboard.control.kube import Object
from tests.cluster.world import Pool
from tests.tools.sipp import caller
from tests.tools.wait import until

LOAD_BALANCER = "198.18.254.7"


async def service(pool: Pool) -> Object:
    found = await pool.owned("v1", "Service", pool.name)
    assert found is not None
    return found


def outside(pool: Pool, name: str, ip: str, target: str, **options: Any) -> Any:
    """A client host that knows `target` alone."""
    prefix = add_host(name, ip)
    return caller(target, ip, pool.directory, calls=5, rate=10, hold_seconds=1, prefix=prefix, **options)


async def test_a_node_port_keeps_the_clients_address(pool: Pool) -> None:
    """Calls through a port of the node are answered to clients of clients.networks: their own addresses arrive."""
    pool.apply(replicas=1, expose={"type": "NodePort", "annotations": {"example.com/a": "b"}})
    await pool.ready(1)
    found = await service(pool)
    assert (found["spec"]["type"], found["spec"]["externalTrafficPolicy"]) == ("NodePort", "Local")
    assert found["metadata"]["annotations"]["example.com/a"] == "b"
    port = next(one["nodePort"] for one in found["spec"]["ports"] if one["protocol"] == "UDP")
    with pool.pbx(), outside(pool, "nodeport", "198.18.130.1", f"{NODE}:{port}") as load:
        result = load.wait(30)
    assert (result.offered, result.completed) == (5, 5), load.errors()


async def test_the_status_tells_the_load_balancers_address(pool: Pool) -> None:
    """It is empty until there is one; then calls to it are answered. Back to ClusterIP, the status follows."""
    pool.apply(replicas=1, expose={"type": "LoadBalancer"})
    await pool.ready(1)
    assert (await pool.status())["address"] == ""
    given = {"status": {"loadBalancer": {"ingress": [{"ip": LOAD_BALANCER}]}}}
    await pool.kube.merge(await service(pool), given, subresource="status")

    async def told() -> bool:
        return bool((await pool.status())["address"] == LOAD_BALANCER)

    await until(told, "the load balancer's address in the status")
    with pool.pbx(), outside(pool, "balanced", "198.18.130.2", f"{LOAD_BALANCER}:5060") as load:
        result = load.wait(30)
    assert (result.offered, result.completed) == (5, 5), load.errors()
    await pool.patch(expose={"type": "ClusterIP"})

    async def inside() -> bool:
        return bool((await pool.status())["address"] == (await service(pool))["spec"]["clusterIP"])

    await until(inside, "the Service's own address in the status")
    assert "externalTrafficPolicy" not in (await service(pool))["spec"]


async def test_a_host_name_is_advertised(pool: Pool) -> None:
    """Each proxy's own name is in the shared workload data, from which the primary's redirects are made."""
    pool.apply(replicas=1, expose={"advertise": "{pod}.sip.example.test"})
    await pool.ready(1)
    (pod,) = await pool.pods()

    async def published() -> bool:
        load = await pool.owned("v1", "ConfigMap", f"{pool.name}-load")
        return load is not None and f'"advertise":"{pod}.sip.example.test:5060"' in load["data"]["load.json"]

    await until(published, "the advertised name in the load ConfigMap")


async def test_what_this_cluster_cannot_do_is_told(pool: Pool) -> None:
    """Two families on a cluster of one: the API server's words are in the condition, and nothing is half done."""
    pool.apply(replicas=1, expose={"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"})

    async def refused() -> bool:
        return "ipFamil" in (await pool.condition("Reconciling")).get("message", "")

    await until(refused, "the reason in the condition Reconciling")
    assert not await pool.pods()
    product.kubectl("delete", "vpp", pool.name, "--namespace", pool.namespace)
    pool.apply(replicas=1, expose={"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"})
    await pool.ready(1)
    assert (await service(pool))["spec"]["ipFamilies"] == ["IPv4"]
