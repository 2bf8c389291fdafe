"""What is right field by field and yet cannot be, and what only looks so."""

from __future__ import annotations

from typing import Any

import pytest

from switchboard.errors import SpecError
from switchboard.pool.parse import parse
from tests.unit.pool.build import OUTSIDE, TLS, UDP, a_spec, resource

CERTIFIED = {"name": "a", "kind": "pstn", "certificateNames": ["sbc.carrier.test"]}
ASKING = {"transport": "TLS", "port": 5061, "secretName": "edge-tls", "clientCertificates": "optional"}
TRUNK = {"name": "a", "kind": "pstn", "username": "trunk-1"}
ASKED: dict[str, Any] = {
    "networks": ["198.51.100.0/24"],
    "auth": {"secretName": "edge-users", "realm": "voice.example.com"},
}
DELEGATED = {"networks": ["198.51.100.0/24"], "auth": {"delegated": True}}
OVER_TLS = {"name": "a", "targets": ["sip:a;transport=tls"]}


def gateway(name: str, *networks: str) -> dict[str, Any]:
    return {"name": name, "kind": "pstn", "networks": list(networks)}


def route(name: str) -> dict[str, Any]:
    return {"name": name, "targets": ["sip:pbx"]}


def clients(*modes: dict[str, Any]) -> dict[str, Any]:
    return {"networks": ["198.51.100.0/24"], "modes": list(modes)}


CONTRADICTIONS: list[tuple[dict[str, Any], str, str]] = [
    (
        {"threshold": "1%", "capacity": {"calls": 99}},
        "NoRoomForCalls",
        "spec.capacity.calls is 99: that is less than one",
    ),
    ({"capacity": {"calls": 9, "cpu": "20m"}}, "NoRoomForCalls", "spec.capacity.cpu is 0.02"),
    ({"capacity": {"calls": 9, "bandwidth": "200k"}}, "NoRoomForCalls", "spec.capacity.bandwidth is 200000"),
    ({"expose": {"ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": "PreferDualStack"}}, "Duplicate", "a family twice"),
    ({"expose": {"ipFamilies": ["IPv4", "IPv6"]}}, "InvalidField", "SingleStack goes with one family"),
    (
        {
            "expose": {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"},
            "gateways": [{"name": "a", "kind": "pstn", "networks": ["203.0.113.0/28"], "mode": "redirect"}],
        },
        "RedirectAcrossFamilies",
        "set spec.expose.advertise to a host name",
    ),
    (
        {
            "expose": {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"},
            "clients": clients({"userAgents": ["desk"], "mode": "redirect"}),
        },
        "RedirectAcrossFamilies",
        "or the mode to forward",
    ),
    (
        {"clients": clients({"userAgents": ["a"], "mode": "forward"}, {"mode": "redirect"})},
        "MissingField",
        "spec.clients.modes[1] has neither networks nor userAgents",
    ),
    (
        {"clients": clients({"networks": ["198.51.100.0/28", "2001:db8::/32"], "mode": "forward"})},
        "NotClients",
        "spec.clients.modes[0].networks has 2001:db8::/32, in which spec.clients.networks has no clients",
    ),
    ({"media": {"ports": "20000-20318"}}, "TooFewMediaPorts", "need 320 ports"),
    ({"listen": [{"transport": "UDP", "port": 20000}]}, "PortConflict", "UDP port 20000"),
    ({"listen": [{"transport": "UDP", "port": 10000}]}, "PortConflict", "whose 20000 for the Service is"),
    ({"listen": [{"transport": "TCP", "port": 5060}] * 2}, "Duplicate", "'TCP/5060' twice"),
    ({"listen": [{"transport": "UDP", "port": port} for port in (5060, 15060)]}, "Duplicate", "'UDP/15060' twice"),
    ({"listen": [UDP, {"transport": "TLS", "port": 5061}]}, "MissingField", "spec.listen[1].secretName is missing"),
    ({"listen": [UDP | {"secretName": "edge-tls"}]}, "InvalidField", "spec.listen[0] has a certificate"),
    ({"listen": [UDP | {"clientCertificates": "required"}]}, "InvalidField", "only TLS and WSS have one"),
    ({"listen": [TLS]}, "MissingField", "spec.listen has neither UDP nor TCP"),
    ({"listen": [UDP | {"advertise": "{pod}.a"}]}, "MissingField", "neither UDP nor TCP without advertise"),
    (
        {"listen": [UDP, OUTSIDE | {"advertise": "192.0.2.1"}]},
        "SharedAddress",
        "listen[1].advertise is 192.0.2.1 for 3",
    ),
    (
        {"listen": [UDP, OUTSIDE | {"advertise": "sip.example.com"}], "autoscaling": {"min": 1, "max": 9}},
        "SharedAddress",
        "for 9 proxies",
    ),
    (
        {"listen": [UDP, TLS, {"transport": "WS", "port": 5061}]},
        "PortConflict",
        "spec.listen has 2 transports on TCP port 5061",
    ),
    ({"routes": [route("a"), route("b"), route("a")]}, "Duplicate", "spec.routes has the name 'a' twice"),
    (
        {"gateways": [gateway("a", "203.0.113.0/28"), gateway("a", "203.0.113.16/28")]},
        "Duplicate",
        "spec.gateways has the name 'a' twice",
    ),
    (
        {"gateways": [gateway("a", "203.0.113.0/28"), gateway("b", "2001:db8::/64", "203.0.113.8/29")]},
        "OverlappingGateways",
        "'a' (203.0.113.0/28) and 'b' (203.0.113.8/29) overlap",
    ),
    ({"routes": [{"name": "a"}]}, "NoDestination", "'a' must have either targets or a gateway"),
    (
        {"routes": [{"name": "a", "targets": ["sip:pbx"], "gateway": "g"}]},
        "NoDestination",
        "'a' must have either targets or a gateway",
    ),
    ({"routes": [{"name": "a", "gateway": "g"}]}, "UnknownGateway", "gateway 'g', which spec.gateways has not"),
    (
        {"routes": [{"name": "a", "gateway": "g"}], "gateways": [gateway("g", "203.0.113.0/28")]},
        "NoDestination",
        "gateway 'g', which has no targets",
    ),
    (
        {"media": {"enabled": False}, "gateways": [{**gateway("g", "203.0.113.0/28"), "codecs": ["PCMA"]}]},
        "CodecsWithoutMedia",
        "'g' has codecs and spec.media.enabled is false",
    ),
    ({"gateways": [gateway("a", "198.51.100.0/24")]}, "ClientsInsideGateway", "inside 198.51.100.0/24 of gateway 'a'"),
    ({"gateways": [gateway("a", "198.51.0.0/16")]}, "ClientsInsideGateway", "inside 198.51.0.0/16 of gateway 'a'"),
    ({"gateways": [{"name": "a", "kind": "pstn"}]}, "MissingField", "'a' has no networks, certificateNames or us"),
    ({"gateways": [TRUNK]}, "NoPasswords", "'a' has a username, and spec.clients.auth has no Secret"),
    ({"gateways": [TRUNK], "clients": DELEGATED}, "NoPasswords", "'a' has a username, and spec.clients.auth has no"),
    (
        {"clients": ASKED | {"auth": ASKED["auth"] | {"certificates": True}}},
        "NoClientCertificates",
        "spec.clients.auth.certificates is true, and no listener asks",
    ),
    ({"registrar": {"enabled": True}, "clients": DELEGATED}, "NoUpstreamRegistrar", "disable the pool's own"),
    (
        {"gateways": [TRUNK, TRUNK | {"name": "b"}], "clients": ASKED},
        "OverlappingGateways",
        "the username 'trunk-1' 2 times",
    ),
    ({"gateways": [TRUNK | {"username": "a b"}], "clients": ASKED}, "InvalidField", "username is 'a b': must be let"),
    ({"gateways": [CERTIFIED], "listen": [UDP, TLS]}, "NoClientCertificates", "no TLS listener asks for certificates"),
    (
        {"gateways": [CERTIFIED, CERTIFIED | {"name": "b"}], "listen": [UDP, ASKING]},
        "OverlappingGateways",
        "the certificate name 'sbc.carrier.test' 2 times",
    ),
    ({"routes": [OVER_TLS], "listen": [UDP, TLS]}, "MissingField", "spec.targetTLS.secretName is missing: sip:a;tr"),
    ({"targetTLS": {"secretName": "edge-tls"}}, "MissingField", "spec.targetTLS needs a listener with transport TLS"),
]


@pytest.mark.parametrize(("fields", "reason", "message"), CONTRADICTIONS)
def test_what_cannot_be_is_refused(fields: dict[str, Any], reason: str, message: str) -> None:
    """Right field by field and yet contradictory: what the schema cannot see."""
    with pytest.raises(SpecError) as caught:
        a_spec(**fields)
    assert caught.value.reason == reason
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"threshold": "1%", "capacity": {"calls": 100}},
        {"media": {"ports": "20000-20319"}},
        {"media": {"enabled": False, "ports": "20000-20001"}, "listen": [{"transport": "UDP", "port": 20000}]},
        {"listen": [{"transport": "UDP", "port": 5060}, {"transport": "TCP", "port": 20000}]},
        {"listen": [{"transport": "UDP", "port": 5061}, TLS]},
        {"gateways": [gateway("a", "198.51.100.0/28"), gateway("b", "198.51.100.16/28")]},
        {"gateways": [gateway("a", "203.0.113.0/28", "203.0.113.0/29")]},
        {"gateways": [{**gateway("a", "203.0.113.0/28"), "codecs": ["PCMA"]}]},
        {"media": {"enabled": False}, "gateways": [gateway("a", "203.0.113.0/28")]},
        {"gateways": [TRUNK, TRUNK | {"name": "b", "username": "trunk-2@example.com"}], "clients": ASKED},
        {"clients": clients({"networks": ["198.51.0.0/16"], "mode": "redirect"})},
    ],
)
def test_what_can_be_is_accepted(fields: dict[str, Any]) -> None:
    """The edges of the same rules: a gateway inside a client network has its own rights; no media, no ports."""
    assert parse(resource(**fields)).replicas == 3


def test_one_proxy_has_one_address() -> None:
    """A fixed host for another network is right for a single proxy, and for a pool that relays no media."""
    listen = [UDP, OUTSIDE | {"advertise": "2001:db8::1"}]
    assert a_spec(listen=listen, replicas=1).listen[1].advertise == "2001:db8::1"
    assert a_spec(listen=listen, media={"enabled": False}).listen[1].advertise == "2001:db8::1"


def test_certificates_in_both_directions() -> None:
    """A gateway that is known by its own, and targets over TLS: the Secrets' CAs verify them."""
    spec = a_spec(
        listen=[UDP, ASKING, TLS | {"port": 5071, "secretName": "web-tls"}],
        gateways=[CERTIFIED],
        routes=[OVER_TLS],
        targetTLS={"secretName": "out-tls"},
    )
    assert (spec.gateways[0].networks, spec.gateways[0].certificate_names) == ((), ("sbc.carrier.test",))
    assert spec.secret_names == ("edge-tls", "out-tls", "web-tls")
    assert [name for name in spec.secret_names if spec.verifies(name)] == ["edge-tls", "out-tls"]
