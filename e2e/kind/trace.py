"""SIP between the nodes, kept while tests run: the last of it, for when one fails."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.kind import settings

FILE_MEGABYTES, FILES = 20, 10  # written round and round
SIP_PORTS = (5060, 15060)  # proxies' own, and the one that the Service sends to


def files() -> list[Path]:
    """What was recorded last, in no order."""
    return sorted(settings.STATE.glob(f"{settings.TRACES}*"))


@contextmanager
def recorded() -> Iterator[None]:
    """Records for as long as the block runs; what an earlier block recorded is removed."""
    for old in files():
        old.unlink()
    rotation = ("-C", str(FILE_MEGABYTES), "-W", str(FILES), "-w", str(settings.STATE / settings.TRACES))
    filtered = " or ".join(f"port {port}" for port in SIP_PORTS)
    # As root throughout (-Z): it would give that up, and could then write no second file.
    command = ["tcpdump", "-Z", "root", "-i", settings.INTERFACE, "-s", "0", *rotation, filtered]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()
