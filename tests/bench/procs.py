"""What processes cost: CPU time and memory of a process and all its descendants, from /proc."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

NANOSECONDS = 1e9
KIBIBYTE = 1024


def tree(pid: int) -> Iterator[int]:
    """`pid` and its living descendants."""
    yield pid
    for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read(children).split():
            yield from tree(int(child))


def cpu_seconds(pid: int) -> float:
    """CPU time of the tree so far, user and system, in the scheduler's own nanoseconds: utime counts in 10 ms."""
    return sum(
        int(_read(schedstat).split(maxsplit=1)[0] or 0) / NANOSECONDS
        for process in tree(pid)
        for schedstat in pathlib.Path(f"/proc/{process}/task").glob("*/schedstat")
        if _read(schedstat)
    )


def resident_bytes(pid: int) -> int:
    """Memory of the tree; pages shared between its processes are split among them (Pss)."""
    total = 0
    for process in tree(pid):
        for line in _read(pathlib.Path(f"/proc/{process}/smaps_rollup")).splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * KIBIBYTE
    return total


def _read(path: pathlib.Path) -> str:
    """Empty for a process that has gone meanwhile."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
