"""Nodes that are being emptied (`kubectl cordon`, `kubectl drain`, an autoscaler): proxies there drain and leave.

A watch of our own: of a node only its name is kept, and only while it is being emptied; and an operator that may not
read nodes (one installed for some namespaces alone) goes on without, which kopf's watches would not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from switchboard.control.kube import Kube, KubeError, Object

logger = logging.getLogger(__name__)

TAINTS = frozenset(
    {
        "ToBeDeletedByClusterAutoscaler",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",  # Karpenter's before its version 1
    }
)
UNNOTICED = "Cordoned nodes go unnoticed, so `kubectl drain` waits for proxies; grant get, list and watch on nodes"
RETRY_SECONDS, FORBIDDEN_RETRY_SECONDS = 2.0, 300.0


class Nodes:
    """`cordoned` as far as is known; `run` until cancelled."""

    def __init__(self, kube: Kube, changed: Callable[[], None]) -> None:
        self.cordoned: frozenset[str] = frozenset()
        self._kube, self._changed = kube, changed

    async def run(self) -> None:
        said = False
        while True:
            pause = RETRY_SECONDS
            try:
                async for names in self._kube.watch_names("v1", "Node", cordoned):
                    self._see(names)
            except KubeError as error:
                if error.status in {401, 403}:
                    pause = FORBIDDEN_RETRY_SECONDS
                    if not said:
                        said = True
                        logger.warning("%s: %s", UNNOTICED, error)
                else:
                    logger.info("cordoned nodes cannot be watched at the moment: %s", error)
            await asyncio.sleep(pause)

    def _see(self, cordoned: frozenset[str]) -> None:
        if cordoned == self.cordoned:
            return
        logger.info("cordoned nodes: %s", ", ".join(sorted(cordoned)) or "none")
        self.cordoned = cordoned
        self._changed()


def cordoned(node: Object) -> bool:
    """By hand, or by an autoscaler, which sets a taint of its own instead before it evicts the node's pods."""
    spec = node.get("spec") or {}
    return bool(spec.get("unschedulable")) or any(taint["key"] in TAINTS for taint in spec.get("taints") or ())
