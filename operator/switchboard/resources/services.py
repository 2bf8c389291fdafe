"""How clients reach a pool, and how its proxies are found.

Service `<pool>` has no selector: the operator writes its EndpointSlice, so a new primary is one atomic write, whatever
the pods' readiness. `<pool>-proxies` is headless and selects all proxies; also those not ready or terminating, because
calls in progress need them until the last has ended.
"""

from __future__ import annotations

import msgspec

from switchboard.pool.spec import Listener
from switchboard.resources import names
from switchboard.resources.names import Manifest, PoolRef


class Primary(msgspec.Struct, frozen=True, kw_only=True):
    """The pod that clients reach through the Service."""

    name: str
    uid: str
    address: str
    node: str


def port_name(listener: Listener) -> str:
    return f"{listener.transport.lower()}-{listener.port}"


def build_service(pool: PoolRef, listen: tuple[Listener, ...]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": names.metadata(pool, names.service(pool), "entry"),
        "spec": {
            "type": "ClusterIP",
            "ipFamilyPolicy": "SingleStack",
            "ipFamilies": ["IPv4"],
            "ports": [_service_port(listener) for listener in listen],
        },
    }


def build_endpoint_slice(pool: PoolRef, listen: tuple[Listener, ...], primary: Primary | None) -> Manifest:
    """The Service's only endpoint: the primary; none while there is no primary."""
    metadata = names.metadata(pool, names.service(pool), "entry")
    metadata["labels"] |= {
        "kubernetes.io/service-name": names.service(pool),
        "endpointslice.kubernetes.io/managed-by": names.GROUP,
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv4",
        "ports": [
            {"name": port_name(listener), "protocol": listener.transport, "port": listener.port} for listener in listen
        ],
        "endpoints": [] if primary is None else [_endpoint(pool, primary)],
    }


def build_proxies_service(pool: PoolRef, listen: tuple[Listener, ...]) -> Manifest:
    agent = {"name": "agent", "protocol": "TCP", "port": names.AGENT_PORT, "targetPort": names.AGENT_PORT}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": names.metadata(pool, names.proxies_service(pool), "proxy"),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "ipFamilyPolicy": "SingleStack",
            "ipFamilies": ["IPv4"],
            "selector": {names.POOL_LABEL: pool.name},
            "ports": [*(_service_port(listener) for listener in listen), agent],
        },
    }


def _service_port(listener: Listener) -> Manifest:
    return {
        "name": port_name(listener),
        "protocol": listener.transport,
        "port": listener.port,
        "targetPort": listener.port,
    }


def _endpoint(pool: PoolRef, primary: Primary) -> Manifest:
    return {
        "addresses": [primary.address],
        # The operator elected it: kube-proxy has nothing further to judge.
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": primary.node,
        "targetRef": {"kind": "Pod", "namespace": pool.namespace, "name": primary.name, "uid": primary.uid},
    }
