"""The chart as Helm renders it, and the kustomize base as kubectl does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from e2e import helm
from e2e.embedded.binaries import CONTROL_PLANE

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm/switchboard"
NAMESPACE = "switchboard"

Manifest = dict[str, Any]


def run_helm(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm.program(), *words], capture_output=True, text=True, check=False, timeout=60)


def render(**values: object) -> list[Manifest]:
    """The objects of `helm install`, tests left out; values by their first level's names."""
    sets = [word for name, value in values.items() for word in ("--set-json", f"{name}={json.dumps(value)}")]
    ran = run_helm("template", "switchboard", str(CHART), "--namespace", NAMESPACE, "--skip-tests", *sets)
    assert ran.returncode == 0, ran.stderr
    return documents(ran.stdout)


def kustomized() -> list[Manifest]:
    """The objects of `kubectl apply -k manifests`."""
    kubectl = CONTROL_PLANE.ensure() / "kubectl"
    ran = subprocess.run(
        [kubectl, "kustomize", "--load-restrictor=LoadRestrictionsNone", str(ROOT / "manifests")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return documents(ran.stdout)


def documents(text: str) -> list[Manifest]:
    return [one for one in yaml.safe_load_all(text) if one]


def named(manifests: list[Manifest]) -> dict[str, Manifest]:
    """By kind, namespace and name; an object that is there twice is an error."""
    found: dict[str, Manifest] = {}
    for one in manifests:
        metadata = one["metadata"]
        key = "/".join([one["kind"], metadata.get("namespace", ""), metadata["name"]])
        assert key not in found, f"{key} is there twice"
        found[key] = one
    return found
