"""Strategic merge of a pod template, as the Kubernetes API does it for Pods.

Maps are merged key by key, `null` removes a key, lists of the kinds named in MERGE_KEYS are merged item by item, any
other list is replaced. `$patch: delete` removes an item (or empties a map), `$patch: replace` takes the patch as it is.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from switchboard.errors import SpecError

# From the `patchMergeKey` markers of the Pod API. Any other list is replaced as a whole, tolerations too.
MERGE_KEYS = {
    "containers": "name",
    "env": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ports": "containerPort",
    "resourceClaims": "name",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
DIRECTIVE = "$patch"


def merge(base: dict[str, Any], patch: dict[str, Any], path: str = "") -> dict[str, Any]:
    """`base` with `patch` merged into it; neither is changed. `path` names the place in error messages."""
    directive = _directive(patch, path)
    plain = {key: value for key, value in patch.items() if key != DIRECTIVE}
    if directive == "delete":
        return {}
    if directive == "replace":
        return plain
    merged = dict(base)
    for key, value in plain.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _value(key, merged.get(key), value, f"{path}.{key}")
    return merged


def _value(key: str, base: Any, patch: Any, path: str) -> Any:
    if isinstance(base, dict | list) and not isinstance(patch, type(base)):
        raise _error(path, f"must be {'a map' if isinstance(base, dict) else 'a list'}")
    if isinstance(patch, dict):
        return merge(base or {}, patch, path)
    if isinstance(patch, list) and key in MERGE_KEYS:
        return _items(base or [], patch, MERGE_KEYS[key], path)
    return patch


def _items(base: list[Any], patch: list[Any], merge_key: str, path: str) -> list[Any]:
    """Items with the same merge key are merged where they stand; new ones follow in the patch's order."""
    merged = {_key(item, merge_key): item for item in base}
    for at, item in enumerate(patch):
        where = f"{path}[{at}]"
        if not isinstance(item, dict) or not isinstance(item.get(merge_key), str | int):
            raise _error(where, f"needs '{merge_key}': it says which item to merge into")
        key = _key(item, merge_key)
        if _directive(item, where) == "delete":
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key, {}), item, where)
    return list(merged.values())


def _key(item: dict[str, Any], merge_key: str) -> Hashable:
    """Ports are told apart by protocol too, or SIP's UDP and TCP 5060 would be one."""
    return (item[merge_key], item.get("protocol", "TCP")) if merge_key == "containerPort" else item[merge_key]


def _directive(patch: dict[str, Any], path: str) -> str | None:
    for key in patch:
        if key.startswith("$") and key != DIRECTIVE:
            raise _error(path, f"has the directive '{key}'; only $patch is honoured")
    directive = patch.get(DIRECTIVE)
    if directive not in (None, "delete", "replace", "merge"):  # a tuple: a wrong one need not be hashable
        raise _error(path, f"has $patch: {directive}; allowed are delete, merge and replace")
    return directive


def _error(path: str, problem: str) -> SpecError:
    return SpecError("InvalidPodTemplate", f"spec.proxy.podTemplate{path} {problem}")
