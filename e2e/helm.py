"""Helm, built once from its Go module.

python -m e2e.helm ARGUMENTS...    runs it, as `helm ARGUMENTS...` does
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from e2e.errors import E2eError
from e2e.programs import Module, Toolset

CAPABILITIES = "helm.sh/helm/v3/pkg/chartutil"  # the Kubernetes that `helm template` renders for when it is not told
HELM = Module(
    Path(__file__).parent / "tools/helm",
    "helm.sh/helm/v3",
    (
        "helm.sh/helm/v3/internal/version.version={version}",
        f"{CAPABILITIES}.k8sVersionMajor=1",
        f"{CAPABILITIES}.k8sVersionMinor=34",
    ),
)
TOOLSET = Toolset("helm", {"helm": (HELM, "helm.sh/helm/v3/cmd/helm")})


def program() -> Path:
    """Where it is, built first where it is not there yet."""
    return TOOLSET.ensure() / "helm"


def main() -> None:
    """The command line."""
    try:
        helm = program()
    except E2eError as error:
        sys.exit(f"helm: {error}")
    os.execv(helm, [str(helm), *sys.argv[1:]])  # noqa: S606 - becoming it is the point


if __name__ == "__main__":
    main()
