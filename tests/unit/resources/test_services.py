from __future__ import annotations

import msgspec
import pytest

from switchboard.pool.spec import Expose, Listener, PoolSpec
from switchboard.resources import services
from switchboard.resources.names import PoolRef
from switchboard.resources.services import Primary


def test_the_entry_selects_nothing(pool: PoolRef, spec: PoolSpec) -> None:
    """The operator alone says where clients go: a selector would let readiness decide."""
    service = services.build_service(pool, spec.listen, spec.expose)
    assert "selector" not in service["spec"]
    assert service["metadata"]["name"] == "edge"
    assert service["spec"]["ports"] == [
        {"name": "udp-5060", "protocol": "UDP", "port": 5060, "targetPort": 15060},
        {"name": "tcp-5080", "protocol": "TCP", "port": 5080, "targetPort": 5080},
    ]


def test_clients_reach_the_primary_and_nobody_else(pool: PoolRef, spec: PoolSpec) -> None:
    """The entry's one endpoint is the primary, by address and node, under the ports that the Service names."""
    primary = Primary(name="edge-abcde", uid="7", addresses=("198.18.1.4",), node="local")
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
    named = services.build_service(pool, spec.listen, spec.expose)["spec"]["ports"]
    assert [(port["name"], port["port"]) for port in slice_["ports"]] == [
        (port["name"], port["targetPort"]) for port in named
    ]


def test_what_runs_over_tcp_has_a_tcp_port(pool: PoolRef, spec: PoolSpec) -> None:
    """TLS and WebSockets: in both Services and the slice, each by the name of its transport."""
    wss = Listener(transport="WSS", port=8443, secret_name="edge-tls")
    listen = (*spec.listen, wss)
    for ports in (
        services.build_service(pool, listen, spec.expose)["spec"]["ports"],
        services.build_proxies_service(pool, listen, spec.expose)["spec"]["ports"],
        services.build_endpoint_slice(pool, listen, None)["ports"],
    ):
        assert (ports[2]["name"], ports[2]["protocol"], ports[2]["port"]) == ("wss-8443", "TCP", 8443)


def test_without_a_primary_there_is_no_endpoint(pool: PoolRef, spec: PoolSpec) -> None:
    """The slice stays, empty, so that applying it also takes a lost primary away."""
    assert services.build_endpoint_slice(pool, spec.listen, None)["endpoints"] == []


def test_all_proxies_are_found_ready_or_not(pool: PoolRef, spec: PoolSpec) -> None:
    """The headless Service lists every proxy, also those that finish their calls, and the agents' port."""
    service = services.build_proxies_service(pool, spec.listen, spec.expose)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"] == {"switchboard.dev/pool": "edge"}
    assert [port["port"] for port in service["spec"]["ports"]] == [5060, 5080, 7443]


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_from_outside_a_client_keeps_its_address(pool: PoolRef, spec: PoolSpec, kind: str) -> None:
    """With any other externalTrafficPolicy every client would come from a node, and client networks mean nothing."""
    expose = msgspec.convert({"type": kind, "annotations": {"example.com/pool": "a"}}, Expose)
    service = services.build_service(pool, spec.listen, expose)
    assert (service["spec"]["type"], service["spec"]["externalTrafficPolicy"]) == (kind, "Local")
    assert service["metadata"]["annotations"] == {"example.com/pool": "a"}
    inside = services.build_service(pool, spec.listen, spec.expose)
    assert "externalTrafficPolicy" not in inside["spec"]
    assert "annotations" not in inside["metadata"]


def test_two_families_have_a_slice_each(pool: PoolRef, spec: PoolSpec) -> None:
    """A dual-stack pool's Services ask for both; each slice has the primary's address of its family, or none."""
    expose = Expose(families=("IPv6", "IPv4"), family_policy="RequireDualStack")
    for service in (
        services.build_service(pool, spec.listen, expose),
        services.build_proxies_service(pool, spec.listen, expose),
    ):
        assert service["spec"]["ipFamilies"] == ["IPv6", "IPv4"]
        assert service["spec"]["ipFamilyPolicy"] == "RequireDualStack"
    preferred = services.build_service(
        pool, spec.listen, Expose(families=("IPv6", "IPv4"), family_policy="PreferDualStack")
    )
    assert preferred["spec"]["ipFamilies"] == ["IPv6"]
    both = Primary(name="edge-abcde", uid="7", addresses=("198.18.1.4", "2001:db8::4"), node="local")
    v4, v6 = (services.build_endpoint_slice(pool, spec.listen, both, family) for family in ("IPv4", "IPv6"))
    assert (v4["metadata"]["name"], v4["addressType"], v4["endpoints"][0]["addresses"]) == (
        "edge",
        "IPv4",
        ["198.18.1.4"],
    )
    assert (v6["metadata"]["name"], v6["addressType"], v6["endpoints"][0]["addresses"]) == (
        "edge-ipv6",
        "IPv6",
        ["2001:db8::4"],
    )
    single = msgspec.structs.replace(both, addresses=("198.18.1.4",))
    assert services.build_endpoint_slice(pool, spec.listen, single, "IPv6")["endpoints"] == []


def test_the_entry_is_known_by_every_address() -> None:
    """Clients are told the load balancer's address, once there is one; requests for the Service's own are its too."""
    waiting = {"spec": {"type": "LoadBalancer", "clusterIPs": ["198.19.0.7"]}, "status": {"loadBalancer": {}}}
    assert services.entry_addresses(waiting) == ()
    ingress = [{"ip": "203.0.113.9"}, {"hostname": "lb.example.com"}]
    served = waiting | {"status": {"loadBalancer": {"ingress": ingress}}}
    assert services.entry_addresses(served) == ("203.0.113.9", "lb.example.com")
    assert services.known_as(served) == ("198.19.0.7", "203.0.113.9", "lb.example.com")
    inside = {"spec": {"clusterIPs": ["198.19.0.7"]}}
    assert services.entry_addresses(inside) == services.known_as(inside) == ("198.19.0.7",)
