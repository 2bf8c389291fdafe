"""Programs of the host in a pod's network: SIPp there has the pod's address, and its files here.

A pod's processes are processes of this machine. `nsenter` into one's network needs neither the API server nor the
kubelet, so a client goes on measuring while those are stopped.
"""

from __future__ import annotations

import os
from pathlib import Path

from e2e.kind.errors import KindError


def processes(uid: str) -> list[int]:
    """A pod's processes, oldest first, by its uid in their cgroup's name."""
    return sorted(int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cgroup") if _mentions(path, uid))


def _mentions(path: Path, uid: str) -> bool:
    try:
        return uid in path.read_text()
    except OSError:  # it has ended
        return False


def network(uid: str) -> tuple[str, ...]:
    """The words before a command that is to run in the pod's network."""
    if os.geteuid() != 0:
        raise KindError("only root can enter a pod's network")
    found = processes(uid)
    if not found:
        raise KindError(f"no process of pod {uid} on this machine")
    return ("nsenter", f"--net=/proc/{found[0]}/ns/net", "--")
