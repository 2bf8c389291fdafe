"""The routing table in Kamailio: text blobs in htable `rt`, switched by one atomic write (docs/contracts.md).

Members (who) change rarely, levels (how much room) with every report: they are separate blobs with versions of their
own, so that a report costs a thousand-row table one 20 KB write. SIP workers that still hold the version before are not
disturbed: one old version of each blob is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from switchboard.agent.kamailio import Kamailio, Key
from switchboard.pool.table import Row

CHUNK_BYTES = 40_000  # with JSON's escapes it stays well below a datagram's 64 KB


class Blobs:
    """Writes tables into one run of Kamailio. `version` is the one it has: numbers never repeat within a run."""

    def __init__(self, kamailio: Kamailio, version: int) -> None:
        self._kamailio = kamailio
        self.version = version
        self._members: list[str] = []
        self._members_at = (0, 0)  # version and number of chunks
        self._kept: list[set[Key]] = []  # keys of each version in Kamailio, the newest last

    async def write(self, rows: Sequence[Row]) -> None:
        """Bring `rows` into effect; KamailioError leaves the version before in effect."""
        self.version += 1
        version = self.version
        members = [_member(row) for row in rows]
        if members != self._members or not self._kept:
            count = await self._put(f"m{version}", members)
            self._members, self._members_at = members, (version, count)
        members_version, members_count = self._members_at
        levels_count = await self._put(f"l{version}", [_level(row) for row in rows])
        index = f"{members_version}:{members_count}:{version}:{levels_count}"
        await self._kamailio.set({("rt", f"i{version}"): index})
        await self._kamailio.set({("rt", "ver"): version})  # the switch
        blobs = _keys(f"m{members_version}", members_count) + _keys(f"l{version}", levels_count)
        await self._forget({("rt", f"i{version}"), *blobs})

    async def _put(self, name: str, lines: Iterable[str]) -> int:
        chunks = list(_chunks(lines))
        for key, chunk in zip(_keys(name, len(chunks)), chunks, strict=True):
            await self._kamailio.set({key: chunk})
        return len(chunks)

    async def _forget(self, keys: set[Key]) -> None:
        """Delete what only versions before the last one used."""
        self._kept.append(keys)
        if len(self._kept) > 2:
            old = self._kept.pop(0)
            await self._kamailio.delete(sorted(old.difference(*self._kept)))


def _keys(name: str, count: int) -> list[Key]:
    return [("rt", f"{name}.{number}") for number in range(count)]


def _member(row: Row) -> str:
    return f"{row.id}|{row.uri}|{row.advertise}|{row.weight}\n"


def _level(row: Row) -> str:
    return f"{row.room}|{row.received}|{row.closed}|{row.spare}\n"


def _chunks(lines: Iterable[str]) -> Iterator[str]:
    """Whole lines together, as many as fit; a table without rows is one empty chunk."""
    chunk: list[str] = []
    size = 0
    for line in lines:
        if size + len(line) > CHUNK_BYTES:
            yield "".join(chunk)
            chunk, size = [], 0
        chunk.append(line)
        size += len(line)
    yield "".join(chunk)
