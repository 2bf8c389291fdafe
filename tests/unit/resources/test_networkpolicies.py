from __future__ import annotations

from typing import Any

import msgspec
import pytest

from switchboard.pool.spec import Gateway, Listener, Media, PoolSpec, Route
from switchboard.resources.names import PoolRef
from switchboard.resources.networkpolicies import build_network_policy

PEERS = {"podSelector": {"matchLabels": {"switchboard.dev/pool": "edge"}}}


def rule_for(policy: dict[str, Any], protocol: str, port: int) -> dict[str, Any]:
    """The one rule with that port."""
    wanted = {"protocol": protocol, "port": port}
    (rule,) = [
        rule for rule in policy["spec"]["ingress"] if any(entry.items() >= wanted.items() for entry in rule["ports"])
    ]
    return dict(rule)


def sip_sources(pool: PoolRef, spec: PoolSpec, *targets: str) -> list[dict[str, Any]] | None:
    """Who may send SIP with these targets; None: anybody."""
    routed = msgspec.structs.replace(spec, routes=(Route(name="r", prefix="", targets=targets),))
    rule = rule_for(build_network_policy(pool, routed, "switchboard"), "UDP", 5060)
    return rule.get("from")


def test_sip_is_for_the_targets_of_gateways(pool: PoolRef, spec: PoolSpec) -> None:
    """A gateway may answer from other addresses than those that it calls from."""
    carrier = Gateway(name="g", kind="pstn", networks=("203.0.113.0/28",), targets=("sip:192.0.2.77",))
    policy = build_network_policy(pool, msgspec.structs.replace(spec, gateways=(carrier,)), "switchboard")
    assert {"ipBlock": {"cidr": "192.0.2.77/32"}} in rule_for(policy, "UDP", 5060)["from"]


def test_agents_are_reached_by_operator_peers_and_prometheus(pool: PoolRef, spec: PoolSpec) -> None:
    """Reports, tables and metrics are for the operator, the pool's own proxies and labelled monitoring alone."""
    policy = build_network_policy(pool, spec, "switchboard")
    operator, peers, prometheus = rule_for(policy, "TCP", 7443)["from"]
    assert operator["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "switchboard"}}
    assert operator["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "operator"
    assert peers == PEERS
    assert prometheus["namespaceSelector"] == {"matchLabels": {"switchboard.dev/monitoring": "true"}}
    assert prometheus["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}


def test_sip_is_for_clients_gateways_targets_and_peers(pool: PoolRef, spec: PoolSpec) -> None:
    """On every SIP port, exactly the pool's networks, its peers and where its calls go."""
    policy = build_network_policy(pool, spec, "switchboard")
    assert policy["spec"]["podSelector"] == PEERS["podSelector"]
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    udp, tcp = rule_for(policy, "UDP", 5060), rule_for(policy, "TCP", 5080)
    assert udp == tcp == rule_for(policy, "UDP", 15060)
    assert udp["from"] == [
        PEERS,
        {"ipBlock": {"cidr": "198.51.100.0/24"}},
        {"ipBlock": {"cidr": "203.0.113.0/28"}},
        {"ipBlock": {"cidr": "192.0.2.1/32"}},
    ]


def test_encrypted_sip_is_for_the_same(pool: PoolRef, spec: PoolSpec) -> None:
    """A listener of any transport is reached by whoever reaches the others."""
    tls = Listener(transport="TLS", port=5061, secret_name="edge-tls")
    policy = build_network_policy(pool, msgspec.structs.replace(spec, listen=(*spec.listen, tls)), "switchboard")
    assert rule_for(policy, "TCP", 5061) == rule_for(policy, "UDP", 5060)


@pytest.mark.parametrize(
    ("target", "source"),
    [
        ("sip:192.0.2.9", {"ipBlock": {"cidr": "192.0.2.9/32"}}),
        ("sip:[2001:db8::9]:5060", {"ipBlock": {"cidr": "2001:db8::9/128"}}),
        ("sip:trunk@192.0.2.9:5060;transport=tcp", {"ipBlock": {"cidr": "192.0.2.9/32"}}),
        ("sip:pbx:5060", {"podSelector": {}}),
        ("sip:pbx.core.svc", {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "core"}}}),
        (
            "sip:pbx.core.svc.cluster.local:5060",
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "core"}}},
        ),
    ],
)
def test_targets_may_send_requests_of_their_calls(
    pool: PoolRef, spec: PoolSpec, target: str, source: dict[str, Any]
) -> None:
    """A target's BYE comes in: from its address, or from the namespace of the Service it is."""
    sources = sip_sources(pool, spec, target)
    assert sources is not None
    assert sources[-1] == source


def test_a_target_outside_the_cluster_may_have_any_address(pool: PoolRef, spec: PoolSpec) -> None:
    """A host name that the cluster does not own cannot be fenced by CIDR: Kamailio's own list then decides alone."""
    assert sip_sources(pool, spec, "sip:192.0.2.9", "sip:sip.carrier.example") is None


def test_a_gateway_that_is_known_by_its_certificate_may_have_any_address(pool: PoolRef, spec: PoolSpec) -> None:
    """Kamailio alone decides, by the certificate."""
    certified = Gateway(name="sbc", kind="voip", certificate_names=("sbc.carrier.test",))
    policy = build_network_policy(pool, msgspec.structs.replace(spec, gateways=(certified,)), "switchboard")
    assert "from" not in rule_for(policy, "UDP", 5060)


def test_a_gateway_that_is_known_by_its_password_alone_is_among_the_clients(pool: PoolRef, spec: PoolSpec) -> None:
    """It opens nothing."""
    without = msgspec.structs.replace(spec, gateways=())
    user = msgspec.structs.replace(spec, gateways=(Gateway(name="trunk", kind="pstn", username="trunk-1"),))
    assert build_network_policy(pool, user, "switchboard") == build_network_policy(pool, without, "switchboard")


def test_nobody_is_listed_twice(pool: PoolRef, spec: PoolSpec) -> None:
    """Two targets of one namespace are one source."""
    sources = sip_sources(pool, spec, "sip:a.core.svc", "sip:b.core.svc", "sip:192.0.2.9", "sip:192.0.2.9:5080")
    assert sources is not None
    assert len(sources) == len(["peers", "clients", "gateway", "core", "192.0.2.9"])


def test_media_ports_are_open(pool: PoolRef, spec: PoolSpec) -> None:
    """Media may come from anywhere, to the media ports alone."""
    rule = rule_for(build_network_policy(pool, spec, "switchboard"), "UDP", 20000)
    assert rule == {"ports": [{"protocol": "UDP", "port": 20000, "endPort": 24999}]}


def test_without_media_no_port_is_open_to_all(pool: PoolRef, spec: PoolSpec) -> None:
    """A pool that relays no media has no rule without sources."""
    silent = msgspec.structs.replace(spec, media=Media(enabled=False))
    rules = build_network_policy(pool, silent, "switchboard")["spec"]["ingress"]
    assert all(rule["from"] for rule in rules)
