"""What the demo and the tests put into a cluster: the product, as its users install it.

python -m e2e.product images ROOTFS    # the embedded cluster's images, as JSON
python -m e2e.product install          # the CRD and the operator, into the cluster that KUBECONFIG names
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OPERATOR_IMAGE, PROXY_IMAGE = "switchboard-operator:dev", "switchboard-proxy:dev"
NAMESPACE = "switchboard"  # where manifests/ put the operator
ROLLOUT_SECONDS = 60


def images(rootfs: str) -> dict[str, Any]:
    """Both images are one root file system, with this tree's files laid over it."""
    binds = {str(ROOT / "operator"): "/opt/switchboard/operator", str(ROOT / "proxy"): "/opt/switchboard/proxy"}
    return {name: {"root": rootfs, "binds": binds} for name in (OPERATOR_IMAGE, PROXY_IMAGE)}


def kubectl(*arguments: str, stdin: str | None = None, timeout_seconds: float = 90) -> str:
    """Run kubectl and return what it printed; subprocess.CalledProcessError carries its error text."""
    ran = subprocess.run(
        ["kubectl", *arguments], input=stdin, capture_output=True, text=True, timeout=timeout_seconds, check=False
    )
    if ran.returncode != 0:
        raise subprocess.CalledProcessError(ran.returncode, ["kubectl", *arguments], ran.stdout, ran.stderr.strip())
    return ran.stdout


def apply(*objects: dict[str, Any], namespace: str = "default") -> str:
    """Apply objects as a user would, with `kubectl apply`."""
    document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    return kubectl("apply", "--namespace", namespace, "--filename", "-", stdin=json.dumps(document))


def install() -> None:
    """CRD, account, role and Deployment of the operator, and wait until it runs."""
    kubectl("apply", "--kustomize", str(ROOT / "manifests"))
    kubectl("wait", "--for=condition=Established", "crd/voipproxypools.switchboard.dev", "--timeout=30s")
    kubectl(
        *("rollout", "status", "--namespace", NAMESPACE, "deployment/switchboard-operator"),
        f"--timeout={ROLLOUT_SECONDS}s",
    )


def version() -> str:
    """The product's, which its images and its chart carry."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def pool(name: str = "edge", **spec: Any) -> dict[str, Any]:
    """A small pool whose clients and PBX are hosts of the embedded cluster; `spec` overrides or adds fields."""
    return {
        "apiVersion": "switchboard.dev/v1alpha1",
        "kind": "VoipProxyPool",
        "metadata": {"name": name},
        "spec": {
            "replicas": 3,
            "threshold": "80%",
            "capacity": {"calls": 25},
            "clients": {"networks": ["198.18.128.0/17"]},
            "routes": [{"name": "pbx", "prefix": "", "targets": ["sip:198.18.200.1:5060"]}],
            "proxy": {"image": PROXY_IMAGE},
            **spec,
        },
    }


def main() -> None:
    """The command line."""
    match sys.argv[1:]:
        case ["images", rootfs]:
            json.dump(images(rootfs), sys.stdout, indent=1)
        case ["install"]:
            install()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
