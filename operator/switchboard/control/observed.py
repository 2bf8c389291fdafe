"""What the watches have shown so far: pools, their pods and what else they own, as live views of kopf's indices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from switchboard.control.kube import Object
from switchboard.resources import names

PoolKey = tuple[str, str]  # namespace, name
Store = Mapping[PoolKey, Iterable[Any]]

MAX_WORDS = 200  # of what Kubernetes says, in a condition's message
DRAINING_SINCE = f"{names.GROUP}/draining-since"  # annotation: a drain's time-out goes on after an operator's restart


class PodView(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy's pod, as far as decisions need it."""

    namespace: str
    name: str
    uid: str
    owner: str  # the pool's uid
    version: int
    address: str  # "" until it has one
    addresses: tuple[str, ...]  # of each family
    advertise: str  # the host that clients are given
    node: str
    phase: str
    ready: bool
    running: bool  # all containers have been started, so the agent can be dialled
    deleting_since: datetime | None
    grace_seconds: float  # what its deletion allows it
    template: str
    created: datetime
    draining_since: datetime | None
    evicted: bool = False  # its node is cordoned
    waiting: str = ""  # what keeps it from running; "": nothing, or just time

    @property
    def deleting(self) -> bool:
        return self.deleting_since is not None

    @property
    def failed(self) -> bool:
        return self.phase in {"Failed", "Succeeded"}

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> PodView:
        metadata, status = body["metadata"], body.get("status") or {}
        grace = metadata.get("deletionGracePeriodSeconds") or 0
        conditions = {item["type"]: item["status"] for item in status.get("conditions") or ()}
        annotations = metadata.get("annotations") or {}
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            owner=next((owner["uid"] for owner in metadata.get("ownerReferences") or ()), ""),
            version=int(metadata["resourceVersion"]),
            address=status.get("podIP") or "",
            addresses=tuple(one["ip"] for one in status.get("podIPs") or ()),
            advertise=annotations.get(names.ADVERTISE) or status.get("podIP") or "",
            node=(body.get("spec") or {}).get("nodeName") or "",
            phase=status.get("phase") or "Pending",
            ready=conditions.get("Ready") == "True",
            running=status.get("phase") == "Running",
            deleting_since=_earlier(metadata.get("deletionTimestamp"), grace),
            grace_seconds=grace,
            template=(metadata.get("labels") or {}).get(names.TEMPLATE_LABEL, ""),
            created=parse_time(metadata["creationTimestamp"]),
            draining_since=parse_time(annotations[DRAINING_SINCE]) if DRAINING_SINCE in annotations else None,
            waiting=waiting(body),
        )


def waiting(body: Mapping[str, Any]) -> str:
    """Why a pod does not run, in words that stay the same from one attempt to the next; "" while it starts or runs."""
    status = body.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return f"no node for it: {condition.get('message', '')[:MAX_WORDS]}"
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        held = (container.get("state") or {}).get("waiting") or {}
        reason = held.get("reason") or "ContainerCreating"
        if "Image" in reason:  # ErrImagePull and ImagePullBackOff take turns
            return f"image {container['image']} of container {container['name']} cannot be had"
        if reason == "CrashLoopBackOff":
            code = ((container.get("lastState") or {}).get("terminated") or {}).get("exitCode", "unknown")
            return f"container {container['name']} ends again and again, with exit code {code}"
        if reason not in {"ContainerCreating", "PodInitializing"}:
            return f"container {container['name']}: {reason}: {held.get('message', '')[:MAX_WORDS]}"
    return ""


class Observed(msgspec.Struct, frozen=True):
    """The indices; a pool's entries vanish with the objects."""

    _pools: Store
    _pods: Store
    _owned: Store

    def keys(self) -> list[PoolKey]:
        return list(self._pools)

    def pool(self, key: PoolKey) -> Object | None:
        found: list[Object] = list(_get(self._pools, key))
        return found[-1] if found else None

    def pods(self, key: PoolKey) -> list[PodView]:
        return list(_get(self._pods, key))

    def owned(self, key: PoolKey) -> dict[tuple[str, str], Object]:
        return {(item["kind"], item["metadata"]["name"]): item for item in _get(self._owned, key)}


def _earlier(text: str | None, seconds: float) -> datetime | None:
    """A deletionTimestamp tells when the grace period is over."""
    return parse_time(text) - timedelta(seconds=seconds) if text else None


def _get(store: Store, key: PoolKey) -> Iterable[Any]:
    return store[key] if key in store else ()  # noqa: SIM401 - kopf's index is no dict and has no `get`


def pool_key(body: Mapping[str, Any]) -> PoolKey:
    """Which pool an object belongs to, by its label."""
    metadata = body["metadata"]
    return metadata["namespace"], metadata["labels"][names.POOL_LABEL]


def parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def format_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
