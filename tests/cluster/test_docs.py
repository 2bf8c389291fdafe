"""What the documentation tells people to type works, in the order of the page."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from e2e import helm, product
from tests.cluster.world import Pool

DOCS = product.ROOT / "docs"
FRAGMENTS = [
    DOCS / "scaling.md",
    DOCS / "exposure.md",
    DOCS / "clients.md",
    DOCS / "users.md",
    DOCS / "registrar.md",
    DOCS / "networks.md",
    *sorted((DOCS / "clients").glob("*.md")),
    *sorted((DOCS / "gateways").glob("*.md")),
]  # pages with parts of a VoipProxyPool, and other resources


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def first_pool() -> dict[str, object]:
    """The README's, with an image that this cluster has."""
    (text,) = blocks(product.ROOT / "README.md", "yaml")
    pool: dict[str, object] = yaml.safe_load(text.replace("switchboard-proxy:0.1.0", product.PROXY_IMAGE))
    return pool


def run(script: str, directory: Path, namespace: str) -> None:
    """In a shell whose kubectl works in that namespace."""
    config = directory / "kubeconfig"
    config.write_bytes(Path(os.environ["KUBECONFIG"]).read_bytes())
    path = f"{helm.program().parent}:{os.environ['PATH']}"
    environment = {**os.environ, "KUBECONFIG": str(config), "PATH": path}
    words = ["kubectl", "config", "set-context", "--current", f"--namespace={namespace}"]
    subprocess.run(words, env=environment, check=True, capture_output=True)
    command = ["bash", "-euo", "pipefail", "-c", script]
    ran = subprocess.run(
        command, env=environment, cwd=product.ROOT, capture_output=True, text=True, check=False, timeout=240
    )
    assert ran.returncode == 0, f"{script}\n{ran.stdout}{ran.stderr}"


async def test_operating(pool: Pool, tmp_path: Path) -> None:
    """Every command of docs/operating.md, on the pool of the README."""
    product.apply(first_pool(), namespace=pool.namespace)
    await pool.ready(3)
    for script in blocks(DOCS / "operating.md", "sh"):
        run(script, tmp_path, pool.namespace)


@pytest.mark.parametrize("page", FRAGMENTS, ids=lambda page: str(page.relative_to(DOCS)))
def test_samples(page: Path, make_pool: Callable[[str], Pool]) -> None:
    """What other pages show of a pool, put into the README's, is accepted; other resources are as they stand."""
    namespace = make_pool("edge").namespace
    for text in blocks(page, "yaml"):
        part = yaml.safe_load(text)
        if "spec" in part:
            base = first_pool()
            whole = part if "kind" in part else {**base, "spec": {**base["spec"], **part["spec"]}}  # type: ignore[dict-item]  # YAML
            dry_run = ("apply", "--namespace", namespace, "--dry-run=server", "--filename", "-")
            product.kubectl(*dry_run, stdin=yaml.safe_dump(whole))


def test_install(installed: None, tmp_path: Path) -> None:
    """The commands of docs/install.md, up to the last step: the API server accepts all that they would write."""
    for script in blocks(DOCS / "install.md", "sh"):
        wanted = [line for line in script.splitlines() if re.match(r"helm install|kubectl apply", line)]
        assert wanted, script
        for line in wanted:
            run(line.replace("--wait", "--take-ownership") + " --dry-run=server", tmp_path, product.NAMESPACE)
