"""Which spec is in effect: the present one, or, when that cannot be carried out, the last good one.

The last good spec is kept in the pool's settings ConfigMap, beside the settings made from it, so that a pool with a
wrong spec goes on also when the operator starts anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from switchboard.control.kube import Object
from switchboard.errors import SpecError
from switchboard.link.messages import Settings
from switchboard.pool.conditions import Problem
from switchboard.pool.parse import parse
from switchboard.pool.spec import PoolSpec
from switchboard.resources.configmaps import build_settings
from switchboard.resources.names import Manifest, PoolRef
from switchboard.resources.pods import template_hash

SPEC_KEY = "spec.json"


class Accepted(msgspec.Struct, frozen=True):
    """`raw` is the spec as written, `template` the hash of the pods it makes."""

    spec: PoolSpec
    template: str
    raw: dict[str, Any]


def accept(
    resource: Object, pool: PoolRef, last: Accepted | None, kept: Object | None
) -> tuple[Accepted | None, Problem | None]:
    """What is in effect, and why the present spec is not; `kept`: the settings ConfigMap as it is."""
    try:
        return _parsed(resource, pool), None
    except SpecError as error:
        refused = Problem(error.reason, str(error))
    if last is not None:
        return last, refused
    try:
        raw = msgspec.json.decode(((kept or {}).get("data") or {})[SPEC_KEY], type=dict[str, Any])
        return _parsed({**resource, "spec": raw}, pool), refused
    except (KeyError, msgspec.DecodeError, SpecError):
        return None, refused


def build_kept(pool: PoolRef, settings: Settings, accepted: Accepted) -> Manifest:
    """The settings ConfigMap, with the spec that the settings come from."""
    manifest = build_settings(pool, settings)
    manifest["data"][SPEC_KEY] = msgspec.json.encode(accepted.raw, order="sorted").decode()
    return manifest


def _parsed(resource: Mapping[str, Any], pool: PoolRef) -> Accepted:
    spec = parse(resource)
    return Accepted(spec, template_hash(pool, spec), resource["spec"])
