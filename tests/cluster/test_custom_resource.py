"""The VoipProxyPool as the API server sees it: what it takes, what it fills in, what it refuses and in which words.

Needs a cluster (KUBECONFIG) and kubectl; an operator that runs there is stopped meanwhile.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from switchboard.pool.parse import parse
from switchboard.pool.spec import PoolSpec
from switchboard.resources import (
    accounts,
    certificates,
    configmaps,
    disruption,
    names,
    networkpolicies,
    pods,
    secrets,
    services,
)
from switchboard.resources.names import PoolRef
from switchboard.resources.settings import settings
from tests.cluster.kubectl import Kubectl, must, runner, without_operator

ROOT = Path(__file__).parents[2]
CRD = ROOT / "crds" / "voipproxypools.switchboard.dev.yaml"
SAMPLES = sorted((ROOT / "manifests" / "samples").glob("*.yaml"))

SMALLEST: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "edge"},
    "spec": {
        "capacity": {"calls": 100},
        "clients": {"networks": ["198.51.100.0/24"]},
        "proxy": {"image": "switchboard-proxy:dev"},
        "suspend": True,  # should an operator see it in the end, it starts nothing
    },
}


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """Runs kubectl in a namespace of this module's own, which takes pods of the strictest security standard alone."""
    namespace = f"custom-resource-{os.getpid()}"
    run = runner(namespace, tmp_path_factory.mktemp("kubectl"))
    must(run, "apply", "--filename", str(CRD))
    must(run, "wait", "--for", "condition=Established", "--timeout=30s", "--filename", str(CRD))
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    must(run, "create", "--filename=-", stdin=body)
    with without_operator(run):
        yield run
    must(run, "delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def pool(kubectl: Kubectl) -> Iterator[dict[str, Any]]:
    """A stored pool, as the API server returned it."""
    created = kubectl("create", "--output=json", "--filename=-", stdin=SMALLEST)
    assert created.returncode == 0, created.stderr
    yield json.loads(created.stdout)
    kubectl("delete", "vpp", "edge")


def changed(place: str, value: object) -> dict[str, Any]:
    """SMALLEST with the value at `place` (dotted) set, or taken away when it is None."""
    resource = copy.deepcopy(SMALLEST)
    *parents, last = place.split(".")
    node = resource
    for key in parents:
        node = node.setdefault(key, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return resource


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_samples_are_accepted_and_understood(kubectl: Kubectl, sample: Path) -> None:
    """Every sample pool is taken by the API server as it is, and the operator can read what comes back."""
    result = kubectl("create", "--dry-run=server", "--output=json", "--filename", str(sample))
    assert result.returncode == 0, result.stderr
    stored = json.loads(result.stdout)
    spec = parse(stored)
    assert spec.capacity.calls == stored["spec"]["capacity"]["calls"]


def test_smallest_pool_gets_the_documented_defaults(pool: dict[str, Any]) -> None:
    """Whoever names capacity, clients and image alone sees everything else filled in."""
    assert pool["spec"] == SMALLEST["spec"] | {
        "replicas": 2,
        "threshold": "80%",
        "sharing": {"period": "500ms", "change": "2%", "staleAfter": "3s"},
        "assignment": {
            "policy": "first",
            "mode": "forward",
            "maxHops": 5,
            "saturated": {"status": 503, "retryAfter": "2s"},
        },
        "listen": [{"transport": "UDP", "port": 5060}, {"transport": "TCP", "port": 5060}],
        "expose": {
            "type": "ClusterIP",
            "advertise": "PodIP",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
        },
        "media": {"enabled": True, "ports": "20000-24999", "timeout": "60s"},
        "registrar": {"enabled": False, "maxExpires": "1h"},
        "protection": {
            "userAgents": [
                "friendly-scanner",
                "sipvicious",
                "sip-scan",
                "sipcli",
                "sundayddr",
                "sipptk",
                "vaxsipuseragent",
            ]
        },
        "drain": {"timeout": "1h"},
        "healthChecks": {"period": "10s", "threshold": 2},
    }


def test_the_operator_reads_the_same_defaults(pool: dict[str, Any]) -> None:
    """What the API server fills in is what the operator takes a missing field for."""
    assert parse(pool) == parse(SMALLEST)


def test_defaults_fill_in_what_a_part_leaves_out(kubectl: Kubectl) -> None:
    """Naming one field of a group leaves the others of the group at their defaults."""
    resource = changed("spec.sharing", {"period": "1s"})
    result = kubectl("create", "--dry-run=server", "--output=json", "--filename=-", stdin=resource)
    assert json.loads(result.stdout)["spec"]["sharing"] == {"period": "1s", "change": "2%", "staleAfter": "3s"}


UDP = {"transport": "UDP", "port": 5060}
TLS = {"transport": "TLS", "port": 5061, "secretName": "edge-tls"}
GATEWAY = {"name": "g", "kind": "pstn", "networks": ["203.0.113.0/28"]}
AUTH = {"secretName": "edge-users", "realm": "voice.example.com"}
ROUTE = {"name": "pbx", "targets": ["sip:pbx.voice.svc:5060"]}

WRONG: list[tuple[str, object, str, str]] = [
    # place, value, field that the message names, what it says is allowed
    ("metadata.name", "a" * 41, "metadata.name", "at most 40 characters"),
    ("metadata.name", "edge.west", "metadata.name", "DNS label"),
    ("metadata.name", "1edge", "metadata.name", "beginning with a letter"),
    ("spec.replicas", -1, "spec.replicas", "greater than or equal to 0"),
    ("spec.replicas", 1001, "spec.replicas", "less than or equal to 1000"),
    ("spec.replicas", "three", "spec.replicas", "of type integer"),
    ("spec.autoscaling", {"min": 2}, "spec.autoscaling.max", "Required value"),
    ("spec.autoscaling", {"min": 0, "max": 2}, "spec.autoscaling.min", "greater than or equal to 1"),
    ("spec.autoscaling", {"min": 3, "max": 2}, "spec.autoscaling.min", "must not be above max"),
    ("spec.autoscaling", {"min": 1, "max": 2, "headroom": "0%"}, "spec.autoscaling.headroom", "from 1% to 90%"),
    ("spec.autoscaling", {"min": 1, "max": 2, "scaleDownAfter": "2d"}, "scaleDownAfter", "from 0s to 24h"),
    ("spec.threshold", "0%", "spec.threshold", "from 1% to 100%"),
    ("spec.threshold", "101%", "spec.threshold", "from 1% to 100%"),
    ("spec.threshold", "0.8", "spec.threshold", "from 1% to 100%"),
    ("spec.threshold", 80, "spec.threshold", "of type string"),
    ("spec.capacity", None, "spec.capacity", "Required value"),
    ("spec.capacity.calls", 0, "spec.capacity.calls", "greater than or equal to 1"),
    ("spec.capacity.cpu", "much", "spec.capacity.cpu", "a quantity of cores from 10m to 1024"),
    ("spec.capacity.cpu", 0, "spec.capacity.cpu", "a quantity of cores from 10m to 1024"),
    ("spec.capacity.bandwidth", "200", "spec.capacity.bandwidth", "a quantity in bit/s from 1k to 1T"),
    ("spec.capacity.bandwidth", "200Mbit", "spec.capacity.bandwidth", "a quantity in bit/s from 1k to 1T"),
    ("spec.sharing.period", "10ms", "spec.sharing.period", "from 100ms to 10s"),
    ("spec.sharing.period", "500", "spec.sharing.period", "from 100ms to 10s"),
    ("spec.sharing.change", "2", "spec.sharing.change", "from 1% to 100%"),
    ("spec.sharing.staleAfter", "2h", "spec.sharing.staleAfter", "from 200ms to 60s"),
    ("spec.sharing", {"period": "2s"}, "spec.sharing.staleAfter", "at least twice the period"),
    ("spec.assignment.policy", "random", "spec.assignment.policy", '"first", "least", "weighted"'),
    ("spec.assignment.mode", "proxy", "spec.assignment.mode", '"forward", "redirect"'),
    ("spec.assignment.maxHops", 0, "spec.assignment.maxHops", "greater than or equal to 1"),
    ("spec.assignment.maxHops", 17, "spec.assignment.maxHops", "less than or equal to 16"),
    ("spec.assignment.saturated.status", 200, "spec.assignment.saturated.status", '"480", "486", "500", "503"'),
    ("spec.assignment.saturated.retryAfter", "0s", "spec.assignment.saturated.retryAfter", "from 1s to 10m"),
    ("spec.listen", [], "spec.listen", "at least 1 item"),
    (
        "spec.listen",
        [{"transport": "SCTP", "port": 5060}],
        "spec.listen[0].transport",
        '"UDP", "TCP", "TLS", "WS", "WSS"',
    ),
    (
        "spec.listen",
        [UDP, {"transport": "TLS", "port": 5061}],
        "spec.listen[1].secretName",
        "must be set with transport",
    ),
    ("spec.listen", [UDP | {"secretName": "edge-tls"}], "spec.listen[0].secretName", "must be set with transport"),
    ("spec.listen", [UDP, TLS | {"secretName": "Edge_TLS"}], "spec.listen[1].secretName", "the name of a Secret"),
    ("spec.listen", [UDP, TLS | {"clientCertificates": "some"}], "listen[1].clientCertificates", '"none", "optional"'),
    ("spec.listen", [UDP | {"clientCertificates": "none"}], "spec.listen[0].clientCertificates", "with transport TLS"),
    ("spec.listen", [TLS], "spec.listen", "must have a transport UDP or TCP"),
    ("spec.listen", [UDP | {"advertise": "{pod}.a"}], "spec.listen", "UDP or TCP without advertise"),
    ("spec.listen", [UDP, TLS | {"advertise": "{host}.a"}], "spec.listen[1].advertise", "an IP address or a host name"),
    ("spec.listen", [UDP, TLS, {"transport": "WS", "port": 5061}], "spec.listen", "at most one of the transports"),
    ("spec.listen", [{"transport": "UDP", "port": 506}], "spec.listen[0].port", "greater than or equal to 1024"),
    ("spec.listen", [{"transport": "TCP", "port": 7443}], "spec.listen[0].port", "must not be 7443"),
    ("spec.listen", [{"transport": "UDP", "port": 21000}], "spec.listen", "outside that range"),
    ("spec.listen", [{"transport": "UDP", "port": 5060}] * 2, "spec.listen[1]", "Duplicate value"),
    ("spec.expose.type", "ExternalName", "spec.expose.type", '"ClusterIP", "NodePort", "LoadBalancer"'),
    ("spec.expose.advertise", "sip.example.com", "spec.expose.advertise", "a host name with {pod} in its first label"),
    ("spec.expose.advertise", "{pod}.a b", "spec.expose.advertise", "a host name with {pod} in its first label"),
    ("spec.expose.ipFamilies", ["IPv4", "IPv4"], "spec.expose.ipFamilies[1]", "Duplicate value"),
    ("spec.expose.ipFamilies", ["IPv4", "IPv6"], "spec.expose.ipFamilyPolicy", "must be SingleStack with one"),
    ("spec.expose.ipFamilyPolicy", "RequireDualStack", "spec.expose.ipFamilyPolicy", "must be SingleStack with one"),
    ("spec.urgent", {"numbers": ["1 1 2"]}, "spec.urgent.numbers[0]", "such as 112"),
    ("spec.urgent", {"priorities": ["a.b.c"]}, "spec.urgent.priorities[0]", "such as esnet or wps.0"),
    ("spec.protection", {"requestsPerSecond": 0}, "spec.protection.requestsPerSecond", "greater than or equal to 1"),
    ("spec.protection", {"userAgents": ["a|b"]}, "spec.protection.userAgents[0]", "such as friendly-scanner"),
    ("spec.hep", {"collector": "heplify"}, "spec.hep.collector", "must be host:port"),
    ("spec.hep", {"collector": "heplify:70000"}, "spec.hep.collector", "must be host:port"),
    ("spec.media.ports", "20000", "spec.media.ports", "first-last within 1024-65535"),
    ("spec.media.ports", "30000-20000", "spec.media.ports", "first-last within 1024-65535"),
    ("spec.media.ports", "20000-70000", "spec.media.ports", "first-last within 1024-65535"),
    ("spec.registrar", {"maxExpires": "59s"}, "spec.registrar.maxExpires", "from 1m to 24h"),
    ("spec.registrar", {"enabled": "yes"}, "spec.registrar.enabled", "must be of type boolean"),
    ("spec.media.timeout", "1s", "spec.media.timeout", "from 5s to 24h"),
    ("spec.clients", None, "spec.clients", "Required value"),
    ("spec.clients", {}, "spec.clients.networks", "Required value"),
    ("spec.clients.networks", [], "spec.clients.networks", "at least 1 item"),
    ("spec.clients.networks", ["198.51.100.0"], "spec.clients.networks[0]", "CIDR notation without host bits"),
    ("spec.clients.networks", ["198.51.100.1/24"], "spec.clients.networks[0]", "CIDR notation without host bits"),
    ("spec.clients.origins", ["https://a.example/"], "spec.clients.origins[0]", "such as https://phone.example.com"),
    ("spec.clients.auth", {"realm": "a.example"}, "spec.clients.auth.secretName", "Required value"),
    ("spec.clients.auth", {"secretName": "users"}, "spec.clients.auth.realm", "Required value"),
    ("spec.clients.auth", AUTH | {"secretName": "Users"}, "spec.clients.auth.secretName", "the name of a Secret"),
    ("spec.clients.auth", AUTH | {"realm": 'a"b'}, "spec.clients.auth.realm", "a host name in lower case"),
    ("spec.clients.auth", AUTH | {"algorithms": ["SHA-1"]}, "spec.clients.auth.algorithms[0]", '"SHA-256", "MD5"'),
    ("spec.clients.networks", ["198.51.100.0/33"], "spec.clients.networks[0]", "CIDR notation without host bits"),
    (
        "spec.gateways",
        [GATEWAY | {"kind": "sbc"}],
        "spec.gateways[0].kind",
        '"voip", "pstn", "media", "router", "h323"',
    ),
    ("spec.gateways", [GATEWAY | {"name": "Carrier A"}], "spec.gateways[0].name", "DNS label"),
    ("spec.gateways", [GATEWAY | {"networks": ["any"]}], "spec.gateways[0].networks[0]", "CIDR notation"),
    ("spec.gateways", [{"name": "g", "kind": "pstn"}], "spec.gateways[0]", "must have networks or certificateNames"),
    (
        "spec.gateways",
        [GATEWAY | {"certificateNames": ["A b"]}],
        "certificateNames[0]",
        "must be host names in lower case",
    ),
    ("spec.targetTLS", {"secretName": "Out"}, "spec.targetTLS.secretName", "must be the name of a Secret"),
    ("spec.gateways", [GATEWAY | {"networks": []}], "spec.gateways[0].networks", "at least 1 item"),
    ("spec.gateways", [GATEWAY | {"mode": "302"}], "spec.gateways[0].mode", '"forward", "redirect"'),
    ("spec.gateways", [GATEWAY, GATEWAY], "spec.gateways[1]", "Duplicate value"),
    ("spec.routes", [ROUTE | {"targets": []}], "spec.routes[0].targets", "at least 1 item"),
    ("spec.routes", [ROUTE | {"targets": ["pbx:5060"]}], "spec.routes[0].targets[0]", "sip:[user@]host[:port]"),
    ("spec.routes", [ROUTE | {"targets": ["sip:a b"]}], "spec.routes[0].targets[0]", "sip:[user@]host[:port]"),
    ("spec.routes", [ROUTE | {"targets": ["sip:pbx:65536"]}], "spec.routes[0].targets[0]", "a port from 1 to 65535"),
    ("spec.routes", [ROUTE | {"prefix": "+49 30"}], "spec.routes[0].prefix", "letters, digits and the characters"),
    ("spec.routes", [ROUTE, ROUTE], "spec.routes[1]", "Duplicate value"),
    ("spec.routes", [ROUTE | {"domain": "Voice.example.com"}], "spec.routes[0].domain", "a host name in lower case"),
    ("spec.routes", [ROUTE | {"priority": -1}], "spec.routes[0].priority", "greater than or equal to 0"),
    ("spec.routes", [ROUTE | {"weight": 70000}], "spec.routes[0].weight", "less than or equal to 65535"),
    ("spec.routes", [{"name": "pbx"}], "spec.routes[0].targets", "or a gateway instead of them"),
    ("spec.routes", [ROUTE | {"gateway": "g"}], "spec.routes[0].targets", "or a gateway instead of them"),
    ("spec.routes", [{"name": "pbx", "gateway": "g"}], "spec.routes", "a gateway that gateways has, with targets"),
    ("spec.gateways", [GATEWAY | {"targets": ["tel:1"]}], "spec.gateways[0].targets[0]", "sip:[user@]host[:port]"),
    ("spec.gateways", [GATEWAY | {"rights": {"prefixes": []}}], "rights.prefixes", "at least 1 item"),
    ("spec.gateways", [GATEWAY | {"rights": {"prefixes": ["0 1"]}}], "rights.prefixes[0]", "letters, digits and the"),
    ("spec.gateways", [GATEWAY | {"rights": {"register": "no"}}], "rights.register", "of type boolean"),
    (
        "spec.gateways",
        [GATEWAY | {"rights": {"maxCallsPerSecond": 0}}],
        "maxCallsPerSecond",
        "greater than or equal to 1",
    ),
    ("spec.gateways", [GATEWAY | {"rights": {"video": True, "fax": True}}], "rights.fax", "unknown field"),
    ("spec.gateways", [GATEWAY | {"rights": {"maxCalls": 0}}], "rights.maxCalls", "greater than or equal to 1"),
    ("spec.gateways", [GATEWAY | {"numbers": {"incoming": {"plus": "+"}}}], "incoming.plus", '"keep", "add", "remove"'),
    (
        "spec.gateways",
        [GATEWAY | {"numbers": {"incoming": {"strip": 32}}}],
        "incoming.strip",
        "less than or equal to 31",
    ),
    ("spec.gateways", [GATEWAY | {"numbers": {"outgoing": {"prefix": "+"}}}], "outgoing.prefix", "digits, * and #"),
    ("spec.gateways", [GATEWAY | {"codecs": ["G 711"]}], "spec.gateways[0].codecs[0]", "names as in SDP"),
    (
        "spec",
        SMALLEST["spec"] | {"media": {"enabled": False}, "gateways": [GATEWAY | {"codecs": ["PCMA"]}]},
        "spec.gateways",
        "only relayed media can be restricted",
    ),
    ("spec.healthChecks", {"period": "1h"}, "spec.healthChecks.period", "from 0s to 10m"),
    ("spec.healthChecks", {"threshold": 0}, "spec.healthChecks.threshold", "greater than or equal to 1"),
    ("spec.drain.timeout", "2d", "spec.drain.timeout", "from 0s to 24h"),
    ("spec.drain.timeout", "25h", "spec.drain.timeout", "from 0s to 24h"),
    ("spec.proxy", {}, "spec.proxy.image", "Required value"),
    ("spec.proxy.image", "", "spec.proxy.image", "container image reference"),
    ("spec.proxy.resources", {"limits": {"cpu": "lots"}}, "spec.proxy.resources.limits", "500m or 256Mi"),
    ("spec.suspend", "yes", "spec.suspend", "of type boolean"),
    ("spec.treshold", "80%", 'unknown field "spec.treshold"', "strict decoding error"),
]


@pytest.mark.parametrize(("place", "value", "field", "allowed"), WRONG)
def test_wrong_pools_are_refused_in_words_that_help(
    kubectl: Kubectl, place: str, value: object, field: str, allowed: str
) -> None:
    """A wrong pool is refused at the door, by a message that names the field and what it may be."""
    result = kubectl("create", "--dry-run=server", "--filename=-", stdin=changed(place, value))
    assert result.returncode != 0, result.stdout
    assert field in result.stderr
    assert allowed in result.stderr
    assert "rule evaluation error" not in result.stderr


def test_a_wrong_update_leaves_the_stored_pool_as_it_was(kubectl: Kubectl, pool: dict[str, Any]) -> None:
    """Whoever breaks a rule with a change keeps the pool that runs."""
    patch = json.dumps({"spec": {"threshold": "120%", "replicas": 7}})
    refused = kubectl("patch", "vpp", "edge", "--type=merge", "--patch", patch)
    assert refused.returncode != 0
    assert "threshold must be a whole percentage from 1% to 100%" in refused.stderr
    assert json.loads(kubectl("get", "vpp", "edge", "--output=json").stdout) == pool


def test_a_pool_scales_like_a_deployment(kubectl: Kubectl, pool: dict[str, Any]) -> None:
    """`kubectl scale` changes spec.replicas; an autoscaler reads replicas and selector from the scale subresource."""
    ref = PoolRef.of(pool)
    status = {"status": {"replicas": 2, "selector": names.selector_text(ref, without=["edge-aaaaa"])}}
    written = kubectl("patch", "vpp", "edge", "--subresource=status", "--type=merge", "--patch", json.dumps(status))
    assert written.returncode == 0, written.stderr
    scaled = kubectl("scale", "vpp", "edge", "--replicas=5")
    assert scaled.returncode == 0, scaled.stderr
    path = f"/apis/{names.API_VERSION}/namespaces/{ref.namespace}/{names.PLURAL}/edge/scale"
    scale = json.loads(kubectl("get", "--raw", path).stdout)
    assert scale["spec"] == {"replicas": 5}
    assert scale["status"] == status["status"]
    # The selector is one that the API server can list pods by.
    assert kubectl("get", "pods", "--selector", scale["status"]["selector"]).returncode == 0


def test_one_line_tells_health_primary_and_workload(kubectl: Kubectl, pool: dict[str, Any]) -> None:
    """`kubectl get vpp` answers: is it healthy, who is primary, how full; `-o wide` and `get all` know it too."""
    condition = {
        "type": "Ready",
        "status": "True",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "reason": "PoolReady",
        "message": "2 of 2 proxies are ready",
    }
    status = {
        "conditions": [condition],
        "desiredReplicas": 2,
        "readyReplicas": 2,
        "drainingReplicas": 1,
        "saturatedReplicas": 0,
        "primary": "edge-abcde",
        "calls": 84,
        "capacity": 200,
        "workload": 42,
        "loadConfigMap": names.load(PoolRef.of(pool)),
    }
    body = json.dumps({"status": status})
    written = kubectl("patch", "vpp", "edge", "--subresource=status", "--type=merge", "--patch", body)
    assert written.returncode == 0, written.stderr
    header, line = kubectl("get", "vpp").stdout.splitlines()
    assert header.split() == ["NAME", "READY", "PRIMARY", "PROXIES", "CALLS", "CAPACITY", "WORKLOAD%", "AGE"]
    assert line.split()[:-1] == ["edge", "True", "edge-abcde", "2", "84", "200", "42"]
    wide = kubectl("get", "vpp", "--output=wide").stdout.splitlines()[1]
    assert wide.split()[8:15] == ["2", "1", "0", "80%", "first", "forward", "edge-load"]
    assert wide.rstrip().endswith("2 of 2 proxies are ready")
    assert "voipproxypool.switchboard.dev/edge" in kubectl("get", "all", "--output=name").stdout


def test_status_and_spec_are_written_apart(kubectl: Kubectl, pool: dict[str, Any]) -> None:
    """A change to the spec cannot forge a status, and one to the status leaves the generation alone."""
    kubectl("patch", "vpp", "edge", "--type=merge", "--patch", json.dumps({"status": {"primary": "forged"}}))
    kubectl("patch", "vpp", "edge", "--subresource=status", "--type=merge", "--patch", '{"status": {"calls": 1}}')
    stored = json.loads(kubectl("get", "vpp", "edge", "--output=json").stdout)
    assert stored["status"] == {"calls": 1}
    assert stored["metadata"]["generation"] == pool["metadata"]["generation"]


def test_every_field_is_explained(kubectl: Kubectl) -> None:
    """`kubectl explain` says what a field is for."""
    text = kubectl("explain", "vpp.spec.sharing.staleAfter").stdout
    assert "silent for longer" in text


def everything_of(pool: PoolRef, spec: PoolSpec) -> list[names.Manifest]:
    """One of each object a pool owns."""
    now = datetime.now(UTC)
    term = certificates.Term(serial=1, since=now, lifetime=timedelta(days=1))
    key = certificates.generate_key()
    authorities = certificates.Authorities(
        signing=certificates.issue_authority(key, term),
        following=certificates.issue_authority(key, term),
    )
    agent = certificates.issue_agent(pool, authorities.signing, key, term)
    operator = certificates.issue_operator(pool, authorities.signing, key, term)
    primary = services.Primary(name="full-abcde", uid="1", addresses=("198.18.1.4", "2001:db8::4"), node="local")
    return [
        accounts.build_service_account(pool),
        configmaps.build_load(pool, {"pool": pool.name, "proxies": []}),
        configmaps.build_settings(pool, settings(pool, spec)),
        disruption.build_disruption_budget(pool, ["full-abcde"]),
        networkpolicies.build_network_policy(pool, spec, "switchboard"),
        pods.build_pod(pool, spec, "full-abcde"),
        secrets.build_agent_tls(pool, agent, authorities),
        secrets.build_authority(pool, authorities),
        secrets.build_operator_tls(pool, operator, authorities),
        secrets.build_token(pool, "0" * 64),
        services.build_endpoint_slice(pool, spec.listen, primary),
        services.build_endpoint_slice(pool, spec.listen, None),
        services.build_endpoint_slice(pool, spec.listen, primary, "IPv6"),
        services.build_proxies_service(pool, spec.listen, spec.expose),
        services.build_service(pool, spec.listen, spec.expose),
    ]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_what_a_pool_owns_is_accepted(kubectl: Kubectl, sample: Path) -> None:
    """The API server takes every object of every sample pool by server-side apply, with no field it does not know.

    The namespace enforces the strictest pod security standard (restricted), so proxies are admitted there too.
    """
    result = kubectl("create", "--dry-run=server", "--output=json", "--filename", str(sample))
    resource = json.loads(result.stdout)
    pool = PoolRef.of(resource)
    account = accounts.build_service_account(pool)
    # Pods need it. It has no owner here: the garbage collector would not find one.
    del account["metadata"]["ownerReferences"]
    must(kubectl, "apply", "--server-side", "--filename=-", stdin=account)
    owned = {"apiVersion": "v1", "kind": "List", "items": everything_of(pool, parse(resource))}
    applied = kubectl(
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        f"--field-manager={names.FIELD_MANAGER}",
        "--filename=-",
        stdin=owned,
    )
    assert applied.returncode == 0, applied.stderr
    assert len(applied.stdout.splitlines()) == len(owned["items"])


def test_sample_names_say_what_they_show() -> None:
    """Each sample's pool is called as its file."""
    assert SAMPLES
    for sample in SAMPLES:
        assert yaml.safe_load(sample.read_text())["metadata"]["name"] == sample.stem
