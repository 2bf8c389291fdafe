"""Helm as the tests use it: the release `switchboard`, in the namespace where manifests/ put the operator."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from e2e import helm, product

CHART = product.ROOT / "helm/switchboard"
RELEASE = "switchboard"
WAIT_SECONDS = 90


def run_helm(*words: str) -> str:
    """What `helm` printed, warnings included; it must succeed."""
    command = [str(helm.program()), "--namespace", product.NAMESPACE, *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * WAIT_SECONDS)
    assert ran.returncode == 0, f"{' '.join(words)}: {ran.stdout}{ran.stderr}"
    return ran.stdout + ran.stderr


def install(chart: Path, *words: str) -> str:
    """`helm upgrade --install`, until the operators run. What was installed by kubectl is taken over."""
    wait = ("--wait", f"--timeout={WAIT_SECONDS}s")
    return run_helm("upgrade", "--install", RELEASE, str(chart), "--take-ownership", *wait, *words)


def package(directory: Path, version: str, application: str) -> Path:
    """The chart as a release would be made of it, whose operator's image is tagged `application`."""
    made = ("--version", version, "--app-version", application, "--destination", str(directory))
    run_helm("package", str(CHART), *made)
    return directory / f"{RELEASE}-{version}.tgz"


def add_image(name: str, like: str) -> None:
    """Gives the cluster another image, the same as one that it has."""
    file = Path(os.environ["SWITCHBOARD_CLUSTER"]) / "images.json"
    known = json.loads(file.read_text())
    known[name] = known[like]
    file.write_text(json.dumps(known))
