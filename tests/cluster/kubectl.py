"""kubectl, as the tests of the API server's own behaviour use it: one call, its exit status and what it printed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]


def runner(namespace: str, cache: Path) -> Kubectl:
    """Runs kubectl in a namespace: words, and `stdin` for an object to send; needs KUBECONFIG.

    `cache` is a directory of its own: another cluster may have had the same address, and what kubectl remembers of that
    one's resources must not be used here.
    """
    program = os.environ.get("KUBECTL") or shutil.which("kubectl")
    if not program or "KUBECONFIG" not in os.environ:
        raise AssertionError("needs kubectl (KUBECTL or PATH) and a cluster (KUBECONFIG)")

    def run(*words: str, stdin: object = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, f"--cache-dir={cache}", "--namespace", namespace, *words],
            input=None if stdin is None else json.dumps(stdin),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def must(run: Kubectl, *words: str, stdin: object = None) -> None:
    """For what a test only prepares: it fails at once, with kubectl's own words."""
    result = run(*words, stdin=stdin)
    assert result.returncode == 0, result.stderr


@contextmanager
def without_operator(run: Kubectl) -> Iterator[None]:
    """Meanwhile no operator acts on pools, should one be installed: its writes would race with the test's own."""
    operator = ("--namespace=switchboard", "deployment/switchboard-operator")
    found = run("get", *operator, "--ignore-not-found", "--output=jsonpath={.spec.replicas}").stdout
    if not found:
        yield
        return
    must(run, "scale", *operator, "--replicas=0")
    pods = ("pods", "--namespace=switchboard", "--selector=app.kubernetes.io/component=operator")
    must(run, "wait", "--for=delete", *pods, "--timeout=60s")
    yield
    must(run, "scale", *operator, f"--replicas={found}")
    must(run, "rollout", "status", *operator, "--timeout=60s")
