"""Which htable entries this agent has written into a run of Kamailio, for the agent that comes after it in the pod.

An agent that starts beside a Kamailio that runs must know them: what has been taken away meanwhile, such as a user or a
gateway's certificate, has to go. Kamailio cannot be asked (a table of users is larger than a datagram), so the keys
are kept in a file of the pod, and noted there before they are written. Values are not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec

from switchboard.agent.kamailio import Key
from switchboard.link.codec import MALFORMED


class _Keys(msgspec.Struct, frozen=True):
    boot: str
    keys: frozenset[Key] = frozenset()


class Memory:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._noted = _Keys("")

    def of(self, boot: str) -> frozenset[Key]:
        """What an agent has written into that run; nothing, when it is another one."""
        with contextlib.suppress(FileNotFoundError, *MALFORMED):
            self._noted = msgspec.json.decode(self._path.read_bytes(), type=_Keys)
        return self._noted.keys if self._noted.boot == boot else frozenset()

    def note(self, boot: str, keys: AbstractSet[Key]) -> None:
        """These may be in that run from now on, and no others."""
        fresh = _Keys(boot, frozenset(keys))
        if fresh != self._noted:
            written = self._path.with_suffix(".new")
            written.touch(mode=0o600)
            written.write_bytes(msgspec.json.encode(fresh))
            written.replace(self._path)
            self._noted = fresh
