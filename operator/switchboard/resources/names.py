"""Names, labels and owner references of everything a pool owns, in one place.

A name is `<pool>` or `<pool>-<what>`: a pool's own name has at most 40 characters, so none of these is ever too long.
Selections go by `switchboard.dev/*` labels alone; `app.kubernetes.io/*` is for people and their tools.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

Manifest = dict[str, Any]  # one Kubernetes object, or a part of one, as the API server takes it

GROUP = "switchboard.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "VoipProxyPool"
PLURAL = "voipproxypools"

FIELD_MANAGER = "switchboard-operator"  # of every server-side apply

POOL_LABEL = f"{GROUP}/pool"
PROXY_LABEL = f"{GROUP}/proxy"  # a pod's own name, so that a selector can leave single pods out
TEMPLATE_LABEL = f"{GROUP}/template"  # what a pod was made from; another value: it is due for replacement
ADVERTISE = f"{GROUP}/advertise"  # annotation of a pod: the host name that it gives instead of its address
MONITORING_LABEL = f"{GROUP}/monitoring"  # on a namespace: its Prometheus may scrape the agents

AGENT_PORT = 7443


class PoolRef(msgspec.Struct, frozen=True, kw_only=True):
    """A pool as its objects know it: by name, namespace and uid."""

    name: str
    namespace: str
    uid: str

    @classmethod
    def of(cls, resource: Any) -> PoolRef:
        """The reference to a VoipProxyPool as the API server returned it (any mapping)."""
        meta = resource["metadata"]
        return cls(name=meta["name"], namespace=meta["namespace"], uid=meta["uid"])


def proxy(pool: PoolRef, suffix: str) -> str:
    """A proxy's pod. The suffix (5 characters) is drawn by the caller, anew each time: a name is one incarnation."""
    return f"{pool.name}-{suffix}"


def service(pool: PoolRef) -> str:
    """The Service that clients call."""
    return pool.name


def endpoint_slice(pool: PoolRef, family: str) -> str:
    """The Service's EndpointSlice of one address family."""
    return service(pool) if family == "IPv4" else f"{pool.name}-{family.lower()}"


def proxies_service(pool: PoolRef) -> str:
    """The headless Service of all proxies."""
    return f"{pool.name}-proxies"


def load(pool: PoolRef) -> str:
    """The ConfigMap of shared workload data."""
    return f"{pool.name}-load"


def settings(pool: PoolRef) -> str:
    """The ConfigMap of run-time settings."""
    return f"{pool.name}-settings"


def authority(pool: PoolRef) -> str:
    """The Secret of the pool's certificate authority; mounted nowhere."""
    return f"{pool.name}-ca"


def agent_tls(pool: PoolRef) -> str:
    return f"{pool.name}-agent-tls"


def operator_tls(pool: PoolRef) -> str:
    return f"{pool.name}-operator-tls"


def token(pool: PoolRef) -> str:
    """The Secret of the pool key, with which assignment tokens are signed."""
    return f"{pool.name}-token"


def account(pool: PoolRef) -> str:
    """The ServiceAccount and, by the same name, the NetworkPolicy and PodDisruptionBudget of the pool's proxies."""
    return f"{pool.name}-proxy"


def agent_dns(pool: PoolRef) -> str:
    """The one SAN of an agent's certificate."""
    return f"agent.{pool.name}.{pool.namespace}.switchboard"


def operator_dns(pool: PoolRef) -> str:
    """The one SAN of the operator's certificate for this pool."""
    return f"operator.{pool.name}.{pool.namespace}.switchboard"


def aliases(pool: PoolRef) -> tuple[str, ...]:
    """Host names under which the cluster's DNS knows the pool's Service."""
    short = f"{pool.name}.{pool.namespace}"
    return (pool.name, short, f"{short}.svc", f"{short}.svc.cluster.local")


def labels(pool: PoolRef, component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "switchboard",
        "app.kubernetes.io/instance": pool.name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        POOL_LABEL: pool.name,
    }


def selector(pool: PoolRef, without: Iterable[str] = ()) -> Manifest:
    """A label selector for the pool's proxies, `without` those named."""
    chosen: Manifest = {"matchLabels": {POOL_LABEL: pool.name}}
    if names := sorted(without):
        chosen["matchExpressions"] = [{"key": PROXY_LABEL, "operator": "NotIn", "values": names}]
    return chosen


def selector_text(pool: PoolRef, without: Iterable[str] = ()) -> str:
    """The same as text, for `status.selector` (the scale subresource counts these pods)."""
    text = f"{POOL_LABEL}={pool.name}"
    names = ",".join(sorted(without))
    return f"{text},{PROXY_LABEL} notin ({names})" if names else text


def owner_reference(pool: PoolRef) -> Manifest:
    """Deleting the pool deletes the object, in the background: nothing waits for it (no blockOwnerDeletion)."""
    return {"apiVersion": API_VERSION, "kind": KIND, "name": pool.name, "uid": pool.uid, "controller": True}


def metadata(pool: PoolRef, name: str, component: str) -> Manifest:
    return {
        "name": name,
        "namespace": pool.namespace,
        "labels": labels(pool, component),
        "ownerReferences": [owner_reference(pool)],
    }
