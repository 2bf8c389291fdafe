"""Kubernetes Events of a pool: what `kubectl describe vpp` tells about its past.

Events are best effort: written by a task of their own so that nothing waits for them, at most `BURST` at once and one
every `REFILL_SECONDS` per pool after that; a repetition raises the count of the Event before it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

import msgspec

from switchboard.control.kube import Kube, KubeError, Object

logger = logging.getLogger(__name__)

BURST = 25
REFILL_SECONDS = 2.0
QUEUE_SIZE = 200
COMPONENT = "switchboard-operator"


class Note(msgspec.Struct, frozen=True):
    """Something that happened to a pool; `reason` is CamelCase."""

    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"


class Bucket:
    """A token bucket: BURST at once, then one every REFILL_SECONDS."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tokens = float(BURST)
        self._at = clock()

    def take(self) -> bool:
        now = self._clock()
        self._tokens = min(float(BURST), self._tokens + (now - self._at) / REFILL_SECONDS)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Recorder:
    """Writes Notes about one pool as Events; `run` is its task."""

    def __init__(self, kube: Kube, identity: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._identity = identity
        self._bucket = Bucket(clock)
        self._queue: asyncio.Queue[tuple[Object, Note]] = asyncio.Queue(QUEUE_SIZE)
        self._counts: dict[str, tuple[int, str]] = {}

    def note(self, pool: Object, note: Note) -> None:
        """`pool`: the object the Event is about; of it only the identity is read."""
        level = logging.WARNING if note.type == "Warning" else logging.INFO
        metadata = pool["metadata"]
        logger.log(level, "%s/%s: %s: %s", metadata["namespace"], metadata["name"], note.reason, note.message)
        if not self._queue.full() and self._bucket.take():
            self._queue.put_nowait((pool, note))

    async def run(self) -> None:
        while True:
            pool, note = await self._queue.get()
            try:
                await self._write(pool, note)
            except KubeError as error:
                logger.info("Event %s was not written: %s", note.reason, error)

    async def _write(self, pool: Object, note: Note) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        name = event_name(pool, note)
        count, first = self._counts.get(name, (0, now))
        self._counts[name] = (count + 1, first)
        event = build_event(pool, note, name, self._identity)
        await self._kube.apply(event | {"firstTimestamp": first, "lastTimestamp": now, "count": count + 1})


def event_name(pool: Object, note: Note) -> str:
    """The same for a repetition, so that it raises the count instead of adding an Event."""
    text = f"{pool['metadata'].get('uid')}/{note.reason}/{note.message}"
    return f"{pool['metadata']['name']}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def build_event(pool: Object, note: Note, name: str, identity: str) -> Object:
    metadata = pool["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": metadata["namespace"], "name": name},
        "involvedObject": {
            "apiVersion": pool["apiVersion"],
            "kind": pool["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "type": note.type,
        "reason": note.reason,
        "message": note.message[:1024],
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": identity,
    }
