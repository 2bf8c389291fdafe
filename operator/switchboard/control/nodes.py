"""Nodes that are being emptied (`kubectl cordon`, `kubectl drain`): proxies there are to leave, without losing a call.

A watch of our own: only cordoned nodes come through it, so the size of the cluster costs nothing; and an operator that
may not read nodes (one installed for some namespaces alone) goes on without, which kopf's watches would not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from switchboard.control.kube import Kube, KubeError

logger = logging.getLogger(__name__)

CORDONED = {"fieldSelector": "spec.unschedulable=true"}
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
                async for names in self._kube.watch_names("v1", "Node", CORDONED):
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
