"""Sees each table that takes effect in a primary's Kamailio, and when.

    python -m tests.bench.observer VOLUME > tables.json        VOLUME: the pod's `run` volume, as the node has it

It looks at the version number, the atomic switch, every few milliseconds, and reads the levels when that moved. At
SIGTERM it prints every change of a proxy's room: proxy, room, when first seen in effect.

It has to run in the pod's network namespace, to which abstract socket names, such as the one it is answered at, belong.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from tests.tools.control import Control

LOOK_SECONDS = 0.004


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """`at`: seconds of the machine's monotonic clock."""

    proxy: str
    room: int
    at: float


class Observer:
    def __init__(self, control: Control) -> None:
        self._control = control
        self._version = -1
        self._members_version = -1
        self._members: list[str] = []
        self._rooms: dict[str, int] = {}
        self.tables = 0
        self.seen: list[Seen] = []

    def look(self) -> None:
        version = self._control.number("rt", "ver")
        if version == self._version:
            return
        now = time.monotonic()
        index = self._control.get("rt", f"i{version}")
        if not index:
            return  # switched again meanwhile; the next look finds the newer one
        members, member_chunks, levels, level_chunks = (int(part) for part in index.split(":"))
        if members != self._members_version:
            self._members = [line.split("~")[0] for line in self._lines(f"m{members}", member_chunks)]
            self._members_version = members
        lines = self._lines(f"l{levels}", level_chunks)
        if len(lines) != len(self._members):
            return
        self._version = version
        self.tables += 1
        for proxy, line in zip(self._members, lines, strict=True):
            room = int(line.split("|", 1)[0])
            if self._rooms.get(proxy) != room:
                self._rooms[proxy] = room
                self.seen.append(Seen(proxy, room, now))

    def _lines(self, blob: str, chunks: int) -> list[str]:
        return [line for chunk in range(chunks) for line in self._control.get("rt", f"{blob}.{chunk}").splitlines()]


def main() -> int:
    observer = Observer(Control(Path(sys.argv[1])))
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: ended.append(number))
    os.write(2, b"observing\n")
    while not ended:
        observer.look()
        time.sleep(LOOK_SECONDS)  # the resolution of what is measured
    sys.stdout.buffer.write(msgspec.json.encode(observer.seen))
    return 0


if __name__ == "__main__":
    sys.exit(main())
