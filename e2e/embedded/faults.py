"""Ways to hurt the cluster that this process runs in, for tests and demonstrations."""

import subprocess
import sys

from e2e.embedded import components
from e2e.embedded.errors import ComponentError, EmbeddedError
from e2e.embedded.node.process import kill_container
from e2e.embedded.state import State


def kill_pod(namespace: str, name: str, container: str | None = None) -> None:
    """SIGKILL to every process of a Pod, or of one of its containers, at once.

    Nothing else is told: the node program finds out and starts the containers again in place, as a kubelet would.
    """
    marks = State.current().pod(namespace, name).glob(f"{container or '*'}.pid")
    processes = [int(mark.read_text()) for mark in marks]
    if not processes:
        raise EmbeddedError(f"no container of pod {namespace}/{name} runs")
    for process in processes:
        kill_container(process)


def stop(component: str) -> None:
    """Kills a component of the control plane, such as kube-apiserver; or ends `node` with all Pods' processes."""
    components.stop(component, State.current())


def start(component: str) -> None:
    """Starts it again and waits until it is ready.

    That is done by a process that ends then, which leaves the component to the cluster's first process: that tells when
    the component ends by itself.
    """
    command = [*components.python("e2e.embedded.faults"), component]
    started = subprocess.run(command, capture_output=True, text=True, check=False)
    if started.returncode:
        raise ComponentError(started.stderr.strip())


def main() -> int:
    """What `start` runs: with the component's name."""
    try:
        components.restart(sys.argv[1], State.current())
    except EmbeddedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
