"""A VoipProxyPool object becomes a spec, or an error that names the field, the value and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from switchboard.errors import SpecError
from switchboard.pool import spec as s
from switchboard.pool.parse import parse
from tests.unit.pool.build import OUTSIDE, TLS, UDP, a_spec


def test_the_least_that_can_be_said() -> None:
    """Everything else has a default: those of the schema."""
    spec = a_spec(replicas=None)
    assert spec == s.PoolSpec(
        replicas=2,
        threshold=0.8,
        capacity=s.Capacity(calls=100),
        client_networks=("198.51.100.0/24",),
        proxy=s.ProxyTemplate(image="switchboard-proxy:1.0"),
        listen=(s.Listener(transport="UDP", port=5060), s.Listener(transport="TCP", port=5060)),
    )


def test_every_field_is_read() -> None:
    """Each in its unit."""
    spec = a_spec(
        replicas=7,
        autoscaling={"min": 2, "max": 9, "headroom": "30%", "scaleDownAfter": "10m"},
        threshold="55%",
        capacity={"calls": 500, "cpu": "1500m", "bandwidth": "200M"},
        sharing={"period": "250ms", "change": "5%", "staleAfter": "2s"},
        assignment={
            "policy": "weighted",
            "mode": "redirect",
            "maxHops": 3,
            "saturated": {"status": 480, "retryAfter": "1m"},
        },
        listen=[
            {"transport": "UDP", "port": 5080},
            {"transport": "WS", "port": 8080},
            {"transport": "WSS", "port": 8443, "secretName": "edge-tls", "clientCertificates": "required"},
            {"transport": "UDP", "port": 5070, "advertise": "edge.{node}.example.com"},
        ],
        media={"enabled": False, "ports": "30000-30999", "timeout": "90s"},
        registrar={"enabled": True, "maxExpires": "10m", "database": {"secretName": "edge-database"}},
        expose={
            "type": "LoadBalancer",
            "annotations": {"a": "b"},
            "advertise": "{pod}.sip.example.com",
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack",
        },
        routes=[
            {"name": "pbx", "prefix": "+49", "targets": ["sip:pbx.voice.svc:5060", "sip:[2001:db8::1]"]},
            {"name": "in", "prefix": "", "domain": "", "targets": ["sip:192.0.2.1"]},
            {"name": "out", "domain": "voice.example.com", "priority": 2, "weight": 0, "gateway": "pstn-1"},
        ],
        clients={
            "networks": ["198.51.100.0/24", "2001:db8::/32"],
            "origins": ["https://phone.example.com:8443"],
            "modes": [
                {"networks": ["198.51.100.0/28"], "userAgents": ["SIP.js/", "Desk 3"], "mode": "forward"},
                {"userAgents": ["soft"], "mode": "redirect"},
            ],
            "auth": {"secretName": "edge-users", "realm": "voice.example.com", "algorithms": ["MD5"]},
        },
        gateways=[
            {
                "name": "pstn-1",
                "kind": "pstn",
                "networks": ["203.0.113.0/28"],
                "mode": "forward",
                "targets": ["sip:203.0.113.1"],
                "rights": {
                    "prefixes": ["+49"],
                    "register": False,
                    "video": False,
                    "maxCalls": 30,
                    "maxCallsPerSecond": 5,
                },
                "numbers": {"incoming": {"plus": "add", "strip": 1, "prefix": "49"}, "outgoing": {"prefix": "0"}},
            }
        ],
        healthChecks={"period": "1m", "threshold": 3},
        urgent={"numbers": ["112"], "priorities": ["ESNet", "wps.0"]},
        protection={"requestsPerSecond": 50, "userAgents": ["sipsak"]},
        hep={"collector": "heplify.voice.svc:9060"},
        drain={"timeout": "2h"},
        proxy={"image": "i", "resources": {"limits": {"cpu": "1"}}, "podTemplate": {"spec": {}}},
        suspend=True,
    )
    assert spec == s.PoolSpec(
        replicas=7,
        autoscaling=s.Autoscaling(min=2, max=9, headroom=0.3, scale_down_after_seconds=600),
        threshold=0.55,
        capacity=s.Capacity(calls=500, cpu_cores=1.5, bandwidth_bits_per_second=200_000_000),
        sharing=s.Sharing(period_seconds=0.25, change=0.05, stale_after_seconds=2.0),
        assignment=s.Assignment(
            policy="weighted",
            mode="redirect",
            max_hops=3,
            saturated_status=480,
            saturated_retry_after_seconds=60,
        ),
        listen=(
            s.Listener(transport="UDP", port=5080),
            s.Listener(transport="WS", port=8080),
            s.Listener(transport="WSS", port=8443, secret_name="edge-tls", client_certificates="required"),
            s.Listener(transport="UDP", port=5070, advertise="edge.{node}.example.com"),
        ),
        expose=s.Expose(
            type="LoadBalancer",
            annotations={"a": "b"},
            advertise="{pod}.sip.example.com",
            families=("IPv4", "IPv6"),
            family_policy="PreferDualStack",
        ),
        media=s.Media(enabled=False, port_min=30000, port_max=30999, timeout_seconds=90),
        registrar=s.Registrar(enabled=True, max_expires_seconds=600, database_secret="edge-database"),
        routes=(
            s.Route(name="pbx", prefix="+49", targets=("sip:pbx.voice.svc:5060", "sip:[2001:db8::1]")),
            s.Route(name="in", targets=("sip:192.0.2.1",)),
            s.Route(name="out", domain="voice.example.com", priority=2, weight=0, gateway="pstn-1"),
        ),
        client_networks=("198.51.100.0/24", "2001:db8::/32"),
        client_origins=("https://phone.example.com:8443",),
        client_modes=(
            s.ClientMode(mode="forward", networks=("198.51.100.0/28",), user_agents=("SIP.js/", "Desk 3")),
            s.ClientMode(mode="redirect", user_agents=("soft",)),
        ),
        authentication=s.Authentication(secret_name="edge-users", realm="voice.example.com", algorithms=("MD5",)),
        gateways=(
            s.Gateway(
                name="pstn-1",
                kind="pstn",
                networks=("203.0.113.0/28",),
                mode="forward",
                targets=("sip:203.0.113.1",),
                rights=s.Rights(prefixes=("+49",), register=False, video=False, max_calls=30, max_calls_per_second=5),
                incoming=s.Rewriting(plus="add", strip=1, prefix="49"),
                outgoing=s.Rewriting(prefix="0"),
            ),
        ),
        health_checks=s.HealthChecks(period_seconds=60, threshold=3),
        urgent=s.Urgent(numbers=("112",), priorities=("esnet", "wps.0")),
        protection=s.Protection(requests_per_second=50, user_agents=("sipsak",)),
        hep_collector="heplify.voice.svc:9060",
        drain_timeout_seconds=7200,
        proxy=s.ProxyTemplate(image="i", resources={"limits": {"cpu": "1"}}, pod_template={"spec": {}}),
        suspend=True,
    )


@pytest.mark.parametrize(
    ("given", "cores"),
    [(2, 2.0), ("2", 2.0), ("0.5", 0.5), (".5", 0.5), ("500m", 0.5), ("1k", 1000.0), ("1Ki", 1024.0), ("2e1", 20.0)],
)
def test_kubernetes_quantities(given: object, cores: float) -> None:
    """As the API server accepts them, number or text."""
    assert a_spec(capacity={"calls": 1000, "cpu": given}).capacity.cpu_cores == cores


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"threshold": "0%"}, "InvalidField", "spec.threshold is '0%'"),
    ({"threshold": 0.8}, "InvalidField", "spec.threshold is 0.8"),
    ({"replicas": -1}, "InvalidField", "spec.replicas is -1"),
    ({"replicas": True}, "InvalidField", "spec.replicas is True"),
    ({"autoscaling": {"min": 2}}, "MissingField", "spec.autoscaling.max is missing"),
    ({"autoscaling": {"min": 0, "max": 2}}, "InvalidField", "spec.autoscaling.min is 0"),
    ({"autoscaling": {"min": 3, "max": 2}}, "InvalidField", "spec.autoscaling.min is 3, above max, 2"),
    ({"autoscaling": {"min": 1, "max": 2, "headroom": "100%"}}, "InvalidField", "no number of proxies is enough"),
    ({"capacity": None}, "MissingField", "spec.capacity.calls is missing"),
    ({"capacity": {"calls": 0}}, "InvalidField", "spec.capacity.calls is 0: must be above zero"),
    ({"capacity": {"calls": 9, "cpu": "two"}}, "InvalidField", "spec.capacity.cpu is 'two'"),
    ({"capacity": {"calls": 9, "bandwidth": "0"}}, "InvalidField", "spec.capacity.bandwidth is '0'"),
    ({"sharing": {"period": "0s"}}, "InvalidField", "spec.sharing.period is '0s'"),
    ({"sharing": {"period": "1d"}}, "InvalidField", "spec.sharing.period is '1d'"),
    ({"assignment": {"policy": "random"}}, "InvalidField", "must be one of first, least, weighted"),
    ({"assignment": {"saturated": {"status": 200}}}, "InvalidField", "spec.assignment.saturated.status is 200"),
    ({"assignment": {"saturated": {"retryAfter": "1500ms"}}}, "InvalidField", "whole seconds"),
    ({"listen": "udp"}, "InvalidField", "spec.listen is 'udp': must be a list"),
    ({"listen": [{"transport": "SCTP", "port": 5060}]}, "InvalidField", "spec.listen[0].transport is 'SCTP'"),
    ({"listen": [UDP | {"clientCertificates": "some"}]}, "InvalidField", "clientCertificates is 'some'"),
    ({"listen": [{"transport": "UDP", "port": 53}]}, "InvalidField", "spec.listen[0].port is 53"),
    (
        {"listen": [UDP, OUTSIDE | {"advertise": "{host}.example.com"}]},
        "InvalidField",
        "must be an IP address or a host",
    ),
    ({"expose": {"advertise": "sip.example.com"}}, "InvalidField", "spec.expose.advertise is 'sip.example.com'"),
    ({"expose": {"ipFamilies": ["IPv5"]}}, "InvalidField", "must be one of IPv4, IPv6"),
    ({"urgent": {"priorities": ["a.b.c"]}}, "InvalidField", "must be a namespace of RFC 4412"),
    ({"protection": {"requestsPerSecond": 0}}, "InvalidField", "requestsPerSecond is 0: must be above zero"),
    ({"protection": {"userAgents": "sipsak"}}, "InvalidField", "userAgents is 'sipsak': must be a list"),
    ({"protection": {"userAgents": ["a|b"]}}, "InvalidField", "must be part of a User-Agent"),
    ({"hep": {"collector": "heplify"}}, "InvalidField", "spec.hep.collector is 'heplify': must be host:port"),
    ({"hep": {"collector": "heplify:99999"}}, "InvalidField", "must be host:port"),
    ({"media": {"enabled": "yes"}}, "InvalidField", "spec.media.enabled is 'yes': must be true or false"),
    ({"media": {"ports": "20000"}}, "InvalidField", "spec.media.ports is '20000'"),
    ({"media": {"ports": "30000-20000"}}, "InvalidField", "spec.media.ports is '30000-20000'"),
    ({"routes": [{"targets": ["sip:a"]}]}, "MissingField", "spec.routes[0].name is missing"),
    ({"routes": [{"name": "", "targets": ["sip:a"]}]}, "InvalidField", "spec.routes[0].name is ''"),
    ({"routes": [{"name": "a", "targets": ["tel:1"]}]}, "InvalidField", "spec.routes[0].targets[0] is 'tel:1'"),
    ({"routes": [{"name": "a", "targets": ["sip:a:70000"]}]}, "InvalidField", "'sip:a:70000'"),
    ({"routes": [{"name": "a", "domain": "A b"}]}, "InvalidField", "spec.routes[0].domain is 'A b'"),
    ({"gateways": [{"rights": {"prefixes": ["+49 30"]}}]}, "MissingField", "rights.prefixes[0] is '+49 30'"),
    ({"gateways": [{"rights": {"video": "no"}}]}, "MissingField", "rights.video is 'no': must be true or false"),
    ({"gateways": [{"rights": {"maxCallsPerSecond": 0}}]}, "MissingField", "maxCallsPerSecond is 0: must be above"),
    ({"gateways": [{"numbers": {"incoming": {"plus": "no"}}}]}, "MissingField", "must be one of keep, add, remove"),
    ({"gateways": [{"numbers": {"outgoing": {"prefix": "+"}}}]}, "MissingField", "must be digits, * and #"),
    ({"gateways": [{"codecs": ["G 711"]}]}, "MissingField", "codecs[0] is 'G 711': must be a codec's name in SDP"),
    ({"healthChecks": {"threshold": 0}}, "InvalidField", "spec.healthChecks.threshold is 0"),
    ({"clients": None}, "MissingField", "spec.clients.networks is missing"),
    ({"clients": {"networks": []}}, "MissingField", "spec.clients.networks is empty: add at least one"),
    (
        {"clients": {"networks": ["198.51.100.0/24"], "origins": ["phone.example.com"]}},
        "InvalidField",
        "spec.clients.origins[0] is 'phone.example.com': must be the origin of a web page",
    ),
    (
        {"clients": {"networks": ["198.51.100.0/24"], "modes": [{"networks": ["198.51.100.0/24"]}]}},
        "MissingField",
        "spec.clients.modes[0].mode is missing",
    ),
    (
        {"clients": {"networks": ["198.51.100.0/24"], "modes": [{"userAgents": ["a|b"], "mode": "forward"}]}},
        "InvalidField",
        "spec.clients.modes[0].userAgents is ['a|b']: must be part of a User-Agent",
    ),
    (
        {"clients": {"networks": ["198.51.100.0/24"], "auth": {"realm": "voice.example.com"}}},
        "MissingField",
        "spec.clients.auth.secretName is missing",
    ),
    (
        {"clients": {"networks": ["198.51.100.0/24"], "auth": {"secretName": "u", "delegated": True}}},
        "InvalidField",
        "either the pool has the passwords, or a registrar",
    ),
    (
        {"clients": {"networks": ["198.51.100.0/24"], "auth": {"secretName": "u", "realm": 'a"b'}}},
        "InvalidField",
        "spec.clients.auth.realm is 'a\"b': must be a host name",
    ),
    ({"clients": {"networks": ["198.51.100.1/24"]}}, "InvalidField", "spec.clients.networks[0] is '198.51.100.1/24'"),
    ({"proxy": {"image": "i", "podTemplate": "x"}}, "InvalidField", "spec.proxy.podTemplate is 'x': must be an object"),
    ({"drain": {"timeout": "forever"}}, "InvalidField", "spec.drain.timeout is 'forever'"),
]


@pytest.mark.parametrize(("fields", "reason", "message"), WRONG)
def test_a_wrong_field_is_named(fields: dict[str, Any], reason: str, message: str) -> None:
    """With its value and what is allowed."""
    with pytest.raises(SpecError) as caught:
        a_spec(**fields)
    assert caught.value.reason == reason
    assert message in str(caught.value)


def test_everything_wrong_is_told_at_once() -> None:
    """Nobody has to apply five times to find five mistakes."""
    with pytest.raises(SpecError) as caught:
        parse({"spec": {"threshold": "x", "clients": {"networks": ["y"]}}})
    told = str(caught.value)
    assert [part.split()[0] for part in told.split("; ")] == [
        "spec.threshold",
        "spec.capacity.calls",
        "spec.clients.networks[0]",
        "spec.proxy.image",
    ]


@pytest.mark.parametrize(
    ("listener", "entry_port"), [(("UDP", 5060), 15060), (("UDP", 55536), 45536), (("TCP", 5060), 5060)]
)
def test_the_service_has_a_udp_port_of_its_own(listener: tuple[s.Transport, int], entry_port: int) -> None:
    """Over UDP what comes through the Service is told apart by the port; above the range it is below."""
    assert s.Listener(transport=listener[0], port=listener[1]).entry_port == entry_port


def test_an_object_without_a_spec_is_refused() -> None:
    """It names what is missing rather than failing somewhere inside."""
    with pytest.raises(SpecError, match=r"spec\.capacity\.calls is missing"):
        parse({"metadata": {"name": "edge"}})


def test_the_secrets_of_the_listeners() -> None:
    """Each once, and by which of them clients are verified."""
    wss = {"transport": "WSS", "port": 8443, "secretName": "web-tls", "clientCertificates": "required"}
    spec = a_spec(listen=[UDP, wss, TLS, TLS | {"port": 5071, "clientCertificates": "none"}])
    assert spec.secret_names == ("edge-tls", "web-tls")
    assert [spec.verifies(name) for name in spec.secret_names] == [False, True]
    assert [one.protocol for one in spec.listen] == ["UDP", "TCP", "TCP", "TCP"]


@pytest.mark.parametrize(
    ("listen", "port"),
    [([OUTSIDE | {"advertise": "{pod}.a"}, UDP], 5060), ([TLS, {"transport": "TCP", "port": 5080}], 5080)],
)
def test_where_proxies_speak_to_each_other(listen: list[dict[str, object]], port: int) -> None:
    """In their own network, over UDP where they can."""
    assert a_spec(listen=listen).peer_port == port
