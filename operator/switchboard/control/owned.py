"""What a pool owns, brought to what it should be: applied when it is missing or differs, and not otherwise.

Drift is whatever makes an observed object lack something we want: a changed value, a missing key, another list. What
others add (annotations, fields that the API server fills in) is theirs, except in `data`. An object that was found
right is not compared again until it changes; one that still differs after an apply (the API server writes a value in
another way) is not applied again for the same reason. When what we want changes it is applied, so that what we no
longer want goes: only the API server knows which fields were ours.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from switchboard.control.kube import Kube, Object
from switchboard.control.overlay import Overlay
from switchboard.resources.names import Manifest

Id = tuple[str, str]  # kind, name

_BY_MEMBERSHIP = {"ownerReferences"}  # others may add some
_EXACT = {"data"}  # of Secrets and ConfigMaps: a key more is read by whoever mounts it


def identify(obj: Mapping[str, Any]) -> Id:
    return obj["kind"], obj["metadata"]["name"]


def version_of(obj: Mapping[str, Any]) -> int:
    return int(obj["metadata"]["resourceVersion"])


class Owned:
    """One pool's objects other than pods."""

    def __init__(self, kube: Kube, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._overlay: Overlay[Id, Object] = Overlay(version_of, clock)
        self._settled: dict[
            Id, tuple[bytes, int]
        ] = {}  # what was wanted, and the version found or left as it should be

    def latest(self, observed: Mapping[Id, Object]) -> dict[Id, Object]:
        return self._overlay.over(observed)

    async def ensure(self, wanted: Manifest, observed: Mapping[Id, Object]) -> Object:
        """The object as it is now, after an apply if it was not as wanted."""
        key = identify(wanted)
        current = self.latest(observed).get(key)
        digest = hashlib.sha256(msgspec.json.encode(wanted, order="sorted")).digest()
        if current is not None:
            before, version = self._settled.get(key, (digest, 0))
            if before == digest and (version == version_of(current) or covers(wanted, current)):
                self._settled[key] = (digest, version_of(current))
                return current
        applied = await self._kube.apply(wanted)
        self._overlay.wrote(key, applied)
        self._settled[key] = (digest, version_of(applied))
        return applied


def covers(wanted: Any, current: Any) -> bool:
    """Whether everything wanted is so. What is empty may be left out: the API server does not keep it."""
    if isinstance(wanted, dict):
        if not isinstance(current, dict):
            return not wanted and current is None
        return all(_covers_field(key, value, current.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        present = current or []
        return len(wanted) == len(present) and all(covers(*pair) for pair in zip(wanted, present, strict=True))
    return bool(wanted == current) or (not wanted and current is None)


def _covers_field(key: str, wanted: Any, current: Any) -> bool:
    if key in _BY_MEMBERSHIP:
        return _has_all(wanted, current)
    if key in _EXACT:
        return bool((wanted or {}) == (current or {}))
    return covers(wanted, current)


def _has_all(wanted: list[Any], current: Any) -> bool:
    return all(any(covers(one, other) for other in current or []) for one in wanted)
