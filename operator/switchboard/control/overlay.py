"""Read your own writes: what we have written counts until the watch has shown it, or something newer.

Without it, a reconcile that follows a write at once would not see it, and start the same pod twice.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

UNSEEN_SECONDS = 30.0  # an object that the watch has not shown for so long has been deleted before it could


class Overlay(Generic[K, V]):
    """`version` reads a value's resourceVersion, a number that grows with every change of any object."""

    def __init__(self, version: Callable[[V], int], clock: Callable[[], float]) -> None:
        self._version = version
        self._clock = clock
        self._written: dict[K, tuple[V, float]] = {}
        self._seen: set[K] = set()

    def wrote(self, key: K, value: V) -> None:
        self._written[key] = (value, self._clock())
        self._seen.discard(key)

    def forget(self, key: K) -> None:
        self._written.pop(key, None)
        self._seen.discard(key)

    def over(self, observed: Mapping[K, V]) -> dict[K, V]:
        """What is known to exist: the watch's objects, and ours where they are newer."""
        latest = dict(observed)
        for key, (value, at) in list(self._written.items()):
            shown = observed.get(key)
            if shown is not None:
                if self._version(shown) >= self._version(value):
                    self.forget(key)
                    continue
                self._seen.add(key)
            elif key in self._seen or self._clock() - at > UNSEEN_SECONDS:
                self.forget(key)  # it was there and is not any more
                continue
            latest[key] = value
        return latest
