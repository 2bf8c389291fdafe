"""What is worth keeping of a cluster on which a test failed: logs, events, objects and SIP, in one folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from e2e.kind import settings, trace
from e2e.kind.command import run
from e2e.kind.errors import KindError

LISTED = ("nodes", "pods", "events", "voipproxypools", "endpointslices", "configmaps", "leases", "services")


def collect(folder: Path) -> None:
    """Writes what can be had; what cannot says why in its file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, command in _commands():
        try:
            text = run(*command, timeout_seconds=30)
        except KindError as error:
            text = f"{error}\n"
        (folder / name).write_text(text)
    for recorded in (*trace.files(), *settings.STATE.glob("tests/*/*.errors")):
        shutil.copy(recorded, folder)
    print(f"kind: logs, events, objects and SIP are in {folder}", flush=True)


def _commands() -> Iterator[tuple[str, tuple[str, ...]]]:
    for kind in LISTED:
        yield f"{kind}.yaml", ("kubectl", "get", kind, "--all-namespaces", "--output=yaml")
    yield "pods.txt", ("kubectl", "get", "pods", "--all-namespaces", "--output=wide")
    for namespace, pod, containers in _pods():
        for container in containers:
            log = ("kubectl", "logs", "--namespace", namespace, pod, "--container", container)
            yield f"{namespace}_{pod}_{container}.log", log
            yield f"{namespace}_{pod}_{container}.previous.log", (*log, "--previous")
    for node in settings.NODES:
        yield f"{node}.kubelet.log", ("docker", "exec", node, "journalctl", "--no-pager", "--unit=kubelet")


def _pods() -> list[tuple[str, str, list[str]]]:
    """Namespace, name and containers of every pod that is not a part of the cluster itself."""
    try:
        found = json.loads(run("kubectl", "get", "pods", "--all-namespaces", "--output=json"))["items"]
    except KindError:
        return []
    return [
        (
            pod["metadata"]["namespace"],
            pod["metadata"]["name"],
            [one["name"] for one in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]],
        )
        for pod in found
        if pod["metadata"]["namespace"] != "kube-system"
    ]
