"""The CPU that this pod's Kamailio and rtpengine use, from /proc (the pod shares its process namespace).

Where several pods' processes are in sight (tests without a process namespace), the environment tells whose they are.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from switchboard.agent.rates import Rate

PROGRAMS: Final = (b"kamailio", b"rtpengine")
SCAN_SECONDS: Final = 1.0  # how often new processes are looked for; both fork at their start only
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


class Processes:
    """CPU of the processes of one pod."""

    def __init__(self, proxy: str, proc: Path = Path("/proc")) -> None:
        self._mark = f"POD_NAME={proxy}".encode()
        self._proc = proc
        self._seconds: dict[str, float] = {}  # pid → CPU seconds, of those that live
        self._others: set[str] = set()
        self._ended = 0.0  # CPU seconds of those that ended
        self._scanned = float("-inf")
        self._rate = Rate()

    @property
    def cpu_cores(self) -> float:
        """What they used over the last second."""
        return self._rate.per_second

    def sample(self, now: float) -> None:
        if now >= self._scanned + SCAN_SECONDS:
            self._scanned = now
            self._scan()
        for pid in list(self._seconds):
            try:
                self._seconds[pid] = _cpu_seconds(self._proc / pid)
            except OSError:
                self._ended += self._seconds.pop(pid)
        self._rate.add(now, self._ended + sum(self._seconds.values()))

    def _scan(self) -> None:
        pids = {entry.name for entry in self._proc.iterdir() if entry.name.isdigit()}
        self._others &= pids
        for pid in pids - self._seconds.keys() - self._others:
            if self._is_ours(pid):
                self._seconds[pid] = 0.0
            else:
                self._others.add(pid)

    def _is_ours(self, pid: str) -> bool:
        try:
            name = (self._proc / pid / "comm").read_bytes().strip()
            return name in PROGRAMS and self._mark in (self._proc / pid / "environ").read_bytes().split(b"\0")
        except OSError:  # it ended, or is another user's
            return False


def _cpu_seconds(process: Path) -> float:
    """User and system time of all its threads."""
    fields = (process / "stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
