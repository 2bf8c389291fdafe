"""The cluster's own parts going away for a while."""

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from e2e.embedded import faults
from e2e.embedded.errors import EmbeddedError
from e2e.embedded.waiting import wait_for
from tests.embedded.conftest import SECONDS, Namespace

Shell = Callable[..., dict[str, Any]]
FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


def test_pods_outlive_the_api_server(namespace: Namespace, shell: Shell) -> None:
    """Without an API server Pods go on and are restarted; what happened meanwhile is reported when it is back."""
    namespace.pod("steady", shell(FOREVER))
    namespace.pod("killed", shell(FOREVER))
    namespace.ready("steady")
    namespace.ready("killed")
    steady, before = (namespace.cluster.process(namespace.name, name, "main") for name in ("steady", "killed"))
    try:
        faults.stop("kube-apiserver")
        with pytest.raises(EmbeddedError, match="refused"):
            namespace.kubectl("get", "pods")
        faults.kill_pod(namespace.name, "killed")
        wait_for(lambda: not Path(f"/proc/{before}").exists(), SECONDS, "the killed Pod's process to end")
        wait_for(lambda: namespace.cluster.process(namespace.name, "killed", "main") != before, SECONDS, "a restart")
    finally:
        faults.start("kube-apiserver")
    assert namespace.cluster.process(namespace.name, "steady", "main") == steady
    wait_for(lambda: namespace.container("killed", "main")["restartCount"] == 1, SECONDS, "the restart in the status")
    assert namespace.container("steady", "main")["restartCount"] == 0
    namespace.kubectl("delete", "pod", "steady", "killed", "--timeout=30s")


@pytest.mark.parametrize("how", ["asked", "killed"])
def test_node_program_restarted(namespace: Namespace, shell: Shell, how: str) -> None:
    """When the node program ends its Pods' processes end; started again, it runs the Pods anew."""
    namespace.pod("again", shell(FOREVER), restartPolicy="Always")
    namespace.ready("again")
    before = namespace.cluster.process(namespace.name, "again", "main")
    try:
        if how == "killed":
            os.kill(json.loads(namespace.cluster.state.run("node").read_text())["pid"], signal.SIGKILL)
        else:
            faults.stop("node")
        wait_for(lambda: not Path(f"/proc/{before}").exists(), SECONDS, "the Pod's process to end")
    finally:
        faults.start("node")

    def runs_anew() -> bool:
        with suppress(EmbeddedError):
            return namespace.cluster.process(namespace.name, "again", "main") != before
        return False

    wait_for(runs_anew, SECONDS, "the Pod to run again")
    namespace.ready("again")
    namespace.kubectl("delete", "pod", "again", "--timeout=30s")


def test_node_is_kept_ready(namespace: Namespace) -> None:
    """The node is Ready, and its Lease is held by it."""
    node = json.loads(namespace.kubectl("get", "node", "local", "-o", "json"))
    assert [one["status"] for one in node["status"]["conditions"] if one["type"] == "Ready"] == ["True"]
    lease = json.loads(namespace.cluster.kubectl("-n", "kube-node-lease", "get", "lease", "local", "-o", "json"))
    assert lease["spec"]["holderIdentity"] == "local"


def test_services_change_while_pods_end(namespace: Namespace) -> None:
    """Pods that are being taken down while Services come and go take nothing else down with them: the node goes on."""
    pods = [f"short-{number}" for number in range(12)]
    for name in pods:
        namespace.pod(name, {"name": "main", "command": ["sleep", "1000"]}, terminationGracePeriodSeconds=0)
    for name in pods:
        namespace.ready(name)
    spec: dict[str, Any] = {"ports": [{"port": 5060, "protocol": "UDP"}]}
    services = [{"kind": "Service", "metadata": {"name": f"s{number}"}, "spec": spec} for number in range(150)]
    with ThreadPoolExecutor() as beside:
        changing = beside.submit(namespace.apply, *services)
        namespace.kubectl("delete", "pods", "--all", "--timeout=30s")
        changing.result()
    namespace.pod("after", {"name": "main", "command": ["sleep", "1000"]})
    namespace.ready("after")
