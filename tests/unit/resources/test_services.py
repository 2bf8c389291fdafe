from __future__ import annotations

from switchboard.pool.spec import PoolSpec
from switchboard.resources import services
from switchboard.resources.names import PoolRef
from switchboard.resources.services import Primary


def test_the_entry_selects_nothing(pool: PoolRef, spec: PoolSpec) -> None:
    """The operator alone says where clients go: a selector would let readiness decide."""
    service = services.build_service(pool, spec.listen)
    assert "selector" not in service["spec"]
    assert service["metadata"]["name"] == "edge"
    assert service["spec"]["ports"] == [
        {"name": "udp-5060", "protocol": "UDP", "port": 5060, "targetPort": 5060},
        {"name": "tcp-5080", "protocol": "TCP", "port": 5080, "targetPort": 5080},
    ]


def test_clients_reach_the_primary_and_nobody_else(pool: PoolRef, spec: PoolSpec) -> None:
    """The entry's one endpoint is the primary, by address and node, under the ports that the Service names."""
    primary = Primary(name="edge-abcde", uid="7", address="198.18.1.4", node="local")
    slice_ = services.build_endpoint_slice(pool, spec.listen, primary)
    assert slice_["metadata"]["labels"]["kubernetes.io/service-name"] == "edge"
    assert slice_["endpoints"] == [
        {
            "addresses": ["198.18.1.4"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "local",
            "targetRef": {"kind": "Pod", "namespace": "voice", "name": "edge-abcde", "uid": "7"},
        }
    ]
    named = {port["name"] for port in services.build_service(pool, spec.listen)["spec"]["ports"]}
    assert {port["name"] for port in slice_["ports"]} == named


def test_without_a_primary_there_is_no_endpoint(pool: PoolRef, spec: PoolSpec) -> None:
    """The slice stays, empty, so that applying it also takes a lost primary away."""
    assert services.build_endpoint_slice(pool, spec.listen, None)["endpoints"] == []


def test_all_proxies_are_found_ready_or_not(pool: PoolRef, spec: PoolSpec) -> None:
    """The headless Service lists every proxy, also those that finish their calls, and the agents' port."""
    service = services.build_proxies_service(pool, spec.listen)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"] == {"switchboard.dev/pool": "edge"}
    assert [port["port"] for port in service["spec"]["ports"]] == [5060, 5080, 7443]
