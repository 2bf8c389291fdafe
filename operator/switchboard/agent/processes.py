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
LOOKS: Final = 5  # at a process that is none of ours: its entry point may be about to become one
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


class Processes:
    """CPU of the processes of one pod. Their `stat` files stay open: a reading is one system call for each."""

    def __init__(self, proxy: str, proc: Path = Path("/proc")) -> None:
        self._mark = f"POD_NAME={proxy}".encode()
        self._proc = proc
        self._stats: dict[str, int] = {}  # pid → descriptor of its stat
        self._seconds: dict[str, float] = {}  # pid → CPU seconds
        self._others: dict[str, int] = {}  # pid → how often it was looked at
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
        for pid, descriptor in list(self._stats.items()):
            try:
                self._seconds[pid] = _cpu_seconds(os.pread(descriptor, 1024, 0))
            except OSError:
                self._ended += self._seconds.pop(pid, 0.0)
                os.close(self._stats.pop(pid))
        self._rate.add(now, self._ended + sum(self._seconds.values()))

    def _scan(self) -> None:
        with os.scandir(self._proc) as entries:
            pids = {entry.name for entry in entries if entry.name.isdigit()}
        self._others = {pid: looks for pid, looks in self._others.items() if pid in pids}
        for pid in pids - self._stats.keys():
            if self._others.get(pid, 0) < LOOKS:
                self._look(pid)

    def _look(self, pid: str) -> None:
        try:
            if self._is_ours(pid):
                self._stats[pid] = os.open(self._proc / pid / "stat", os.O_RDONLY | os.O_CLOEXEC)
                return
        except OSError:  # it ended, or is another user's
            pass
        self._others[pid] = self._others.get(pid, 0) + 1

    def _is_ours(self, pid: str) -> bool:
        name = (self._proc / pid / "comm").read_bytes().strip()
        return name in PROGRAMS and self._mark in (self._proc / pid / "environ").read_bytes().split(b"\0")


def _cpu_seconds(stat: bytes) -> float:
    """User and system time of all its threads."""
    fields = stat.rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
