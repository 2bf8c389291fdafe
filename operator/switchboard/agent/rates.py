"""From a counter that only grows (until its process restarts) to what it grew by per second."""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 1.0  # long enough for /proc's 10 ms steps to mean 1 % of a core


class Rate:
    """The growth of a counter over the last second. A counter that falls began anew."""

    def __init__(self, window_seconds: float = WINDOW_SECONDS) -> None:
        self._window = window_seconds
        self._samples: deque[tuple[float, float]] = deque()
        self._last_total = 0.0
        self.per_second = 0.0

    def add(self, now: float, total: float) -> None:
        grown = total - self._last_total if total >= self._last_total else total
        self._last_total = total
        if not self._samples:
            self._samples.append((now, 0.0))
            return
        if now <= self._samples[-1][0]:
            return
        self._samples.append((now, self._samples[-1][1] + grown))
        while len(self._samples) > 2 and self._samples[1][0] <= now - self._window:
            self._samples.popleft()
        begun, before = self._samples[0]
        self.per_second = (self._samples[-1][1] - before) / (now - begun)
