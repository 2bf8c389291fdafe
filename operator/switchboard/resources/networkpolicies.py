"""Who may reach a pool's proxies, port by port.

| port  | from |
|-------|------|
| agent | the operator, the pool's proxies, Prometheus in a namespace labelled `switchboard.dev/monitoring: "true"` |
| SIP   | client networks, gateways, targets of both routes and gateways, the pool's proxies |
| RTP   | anybody: media comes from where the SDP says, which no list knows beforehand |

It is the outer of two fences: Kamailio checks the same client networks and gateways itself, because not every cluster
enforces policies, and addresses inside a cluster are not always matched by CIDR.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from switchboard.pool.spec import Media, PoolSpec
from switchboard.resources import names
from switchboard.resources.names import Manifest, PoolRef

NAMESPACE_NAME = "kubernetes.io/metadata.name"
OPERATOR_LABELS = {"app.kubernetes.io/name": "switchboard", "app.kubernetes.io/component": "operator"}
PROMETHEUS_LABELS = {"app.kubernetes.io/name": "prometheus"}

_TARGET_HOST = re.compile(r"^sips?:(?:[^@]*@)?(\[[^\]]+\]|[^:;?]+).*$")
_SERVICE_HOST = re.compile(r"^[^.]+\.([^.]+)\.svc(?:\.|$)")


def build_network_policy(pool: PoolRef, spec: PoolSpec, operator_namespace: str) -> Manifest:
    peers = {"podSelector": names.selector(pool)}
    rules = [
        {"from": [_operator(operator_namespace), peers, _prometheus()], "ports": [_port("TCP", names.AGENT_PORT)]},
        _sip(spec, peers),
    ]
    if spec.media.enabled:
        rules.append({"ports": [_media(spec.media)]})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": names.metadata(pool, names.account(pool), "proxy"),
        "spec": {"podSelector": names.selector(pool), "policyTypes": ["Ingress"], "ingress": rules},
    }


def _operator(namespace: str) -> Manifest:
    return {
        "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: namespace}},
        "podSelector": {"matchLabels": OPERATOR_LABELS},
    }


def _prometheus() -> Manifest:
    return {
        "namespaceSelector": {"matchLabels": {names.MONITORING_LABEL: "true"}},
        "podSelector": {"matchLabels": PROMETHEUS_LABELS},
    }


def _sip(spec: PoolSpec, peers: Manifest) -> Manifest:
    """A target named by a host outside the cluster may have any address, and so may a gateway that is known by its
    certificate: then Kamailio alone decides. One that is known by its password alone is where clients are.
    """
    rule: Manifest = {"ports": [_port(listener.protocol, port) for listener in spec.listen for port in listener.ports]}
    uris = [uri for route in spec.routes for uri in route.targets]
    uris += [uri for gateway in spec.gateways for uri in gateway.targets]
    targets = [_target(uri) for uri in uris]
    if None not in targets and all(one.networks or not one.certificate_names for one in spec.gateways):
        blocks = [{"ipBlock": {"cidr": cidr}} for cidr in _networks(spec)]
        rule["from"] = _unique([peers, *blocks, *(target for target in targets if target)])
    return rule


def _networks(spec: PoolSpec) -> Iterator[str]:
    yield from spec.client_networks
    for gateway in spec.gateways:
        yield from gateway.networks


def _target(uri: str) -> Manifest | None:
    """Who sends in-dialog requests for a target: its address, or its Service's namespace; None: it can be anybody."""
    host = _TARGET_HOST.sub(r"\1", uri).strip("[]")
    try:
        return {"ipBlock": {"cidr": str(ipaddress.ip_network(host))}}
    except ValueError:
        pass
    if "." not in host:
        return {"podSelector": {}}  # a Service of the pool's own namespace
    if service := _SERVICE_HOST.match(host):
        return {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: service[1]}}}
    return None


def _unique(sources: list[Manifest]) -> list[Manifest]:
    return [source for at, source in enumerate(sources) if source not in sources[:at]]


def _media(media: Media) -> Manifest:
    return {"protocol": "UDP", "port": media.port_min, "endPort": media.port_max}


def _port(protocol: str, port: int) -> Manifest:
    return {"protocol": protocol, "port": port}
