"""How clients reach a pool, and how its proxies are found.

Service `<pool>` has no selector: the operator writes its EndpointSlice, so a new primary is one atomic write, whatever
the pods' readiness. `<pool>-proxies` is headless and selects all proxies; also those not ready or terminating, because
calls in progress need them until the last has ended.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import msgspec

from switchboard.pool.spec import Expose, Family, Listener
from switchboard.resources import names
from switchboard.resources.names import Manifest, PoolRef


class Primary(msgspec.Struct, frozen=True, kw_only=True):
    """The pod that clients reach through the Service."""

    name: str
    uid: str
    addresses: tuple[str, ...]  # one of each family that the pod has
    node: str


def port_name(listener: Listener) -> str:
    return f"{listener.transport.lower()}-{listener.port}"


def build_service(pool: PoolRef, listen: tuple[Listener, ...], expose: Expose) -> Manifest:
    """What clients call. From outside through the primary's own node alone, or it would see the node for the client."""
    metadata = names.metadata(pool, names.service(pool), "entry")
    if expose.annotations:
        metadata["annotations"] = expose.annotations
    outside = {} if expose.type == "ClusterIP" else {"externalTrafficPolicy": "Local"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "type": expose.type,
            **_families(expose),
            **outside,
            "ports": [_service_port(listener, listener.entry_port) for listener in listen],
        },
    }


def entry_addresses(service: Manifest) -> tuple[str, ...]:
    """Where the API server or a load balancer says that clients reach the Service; none while one is awaited."""
    if service["spec"].get("type") == "LoadBalancer":
        return tuple(_ingress(service))
    return tuple(service["spec"].get("clusterIPs") or ())


def known_as(service: Manifest) -> tuple[str, ...]:
    """Every address and host name under which a client may call the Service."""
    return (*(service["spec"].get("clusterIPs") or ()), *_ingress(service))


def build_endpoint_slice(
    pool: PoolRef, listen: tuple[Listener, ...], primary: Primary | None, family: Family = "IPv4"
) -> Manifest:
    """The Service's only endpoint: the primary; none while there is no primary, or none with such an address."""
    metadata = names.metadata(pool, names.endpoint_slice(pool, family), "entry")
    metadata["labels"] |= {
        "kubernetes.io/service-name": names.service(pool),
        "endpointslice.kubernetes.io/managed-by": names.GROUP,
    }
    addresses = [one for one in primary.addresses if _family(one) == family] if primary is not None else []
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": family,
        "ports": [
            {"name": port_name(listener), "protocol": listener.protocol, "port": listener.entry_port}
            for listener in listen
        ],
        "endpoints": [_endpoint(pool, primary, addresses[0])] if primary is not None and addresses else [],
    }


def build_proxies_service(pool: PoolRef, listen: tuple[Listener, ...], expose: Expose) -> Manifest:
    agent = {"name": "agent", "protocol": "TCP", "port": names.AGENT_PORT, "targetPort": names.AGENT_PORT}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": names.metadata(pool, names.proxies_service(pool), "proxy"),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            **_families(expose),
            "selector": {names.POOL_LABEL: pool.name},
            "ports": [*(_service_port(listener, listener.port) for listener in listen), agent],
        },
    }


def _families(expose: Expose) -> Manifest:
    """Preferred is the second family alone: named, a cluster without it would refuse the Service; it adds it itself."""
    named = expose.families[:1] if expose.family_policy == "PreferDualStack" else expose.families
    return {"ipFamilyPolicy": expose.family_policy, "ipFamilies": list(named)}


def _family(address: str) -> Family:
    return "IPv6" if ipaddress.ip_address(address).version == 6 else "IPv4"


def _ingress(service: Manifest) -> Iterator[str]:
    for one in service.get("status", {}).get("loadBalancer", {}).get("ingress") or ():
        yield one.get("ip") or one.get("hostname") or ""


def _service_port(listener: Listener, target: int) -> Manifest:
    return {
        "name": port_name(listener),
        "protocol": listener.protocol,
        "port": listener.port,
        "targetPort": target,
    }


def _endpoint(pool: PoolRef, primary: Primary, address: str) -> Manifest:
    return {
        "addresses": [address],
        # The operator elected it: kube-proxy has nothing further to judge.
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": primary.node,
        "targetRef": {"kind": "Pod", "namespace": pool.namespace, "name": primary.name, "uid": primary.uid},
    }
