"""A primary alone: a proxy's own Kamailio without an agent, whose run-time state the bench writes as an agent would.

The agent is left out where only Kamailio's work on a call is to be seen, not what reading its counters costs besides.
"""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Iterator, Sequence

from tests.bench import procs
from tests.tools.proxies import PROJECT, Proxy, Row

NETWORK = "127.91.0.0/16"
CHUNK_BYTES = 32_000  # a datagram to Kamailio stays below 64 KB
TICK = 5


class Primary:
    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def cpu_seconds(self) -> float:
        """Kamailio's own processes; the sandbox around them does nothing."""
        kamailio = self._proxy.kamailio
        return procs.cpu_seconds(kamailio._process.pid) if kamailio else 0.0

    def open(self, mode: str, rows: Sequence[Row]) -> None:
        """Primary, open for callers of NETWORK, with `rows` as its table."""
        proxy = self._proxy
        proxy.networks([NETWORK])
        proxy.admit(10**6)
        proxy.set(mode=mode, policy="first", tick=TICK, media=1, hops=5)
        members = self._chunks("m1", [f"{row.id}|{row.uri}|{row.advertise}|{row.weight}" for row in rows])
        levels = self._chunks("l1", [f"{row.room}|{row.received}|{row.closed}|{row.spare}" for row in rows])
        proxy.control.set("rt", "i1", f"1:{members}:1:{levels}")
        proxy.control.set("rt", "ver", 1)
        proxy.set(role="primary", ready=1)

    def _chunks(self, prefix: str, lines: Sequence[str]) -> int:
        chunks = [""]
        for line in lines:
            if len(chunks[-1]) + len(line) > CHUNK_BYTES:
                chunks.append("")
            chunks[-1] += line + "\n"
        for number, chunk in enumerate(chunks):
            self._proxy.control.set("rt", f"{prefix}.{number}", chunk)
        return len(chunks)


@contextlib.contextmanager
def alone(root: pathlib.Path, run: pathlib.Path, address: str) -> Iterator[Primary]:
    run.mkdir(parents=True)
    shutil.copytree(PROJECT / "proxy", run.parent / "proxy")  # what Proxy lays over the root file system
    proxy = Proxy("bench-00000", address, run, root, media=False, media_timeout_seconds=60)
    proxy.start()
    try:
        yield Primary(proxy)
    finally:
        proxy.kill()
