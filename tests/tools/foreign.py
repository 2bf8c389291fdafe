"""Programs of others, which tests run against ours: on root file systems of their own (rootfs.sh), under bubblewrap."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
RUN = "/run/test"  # inside, where the program reads and writes


@functools.cache
def rootfs(name: str) -> Path:
    """The root file system `asterisk` or `clients`; made where it is not there yet."""
    made = subprocess.run([str(HERE / "rootfs.sh"), name], check=True, stdout=subprocess.PIPE, text=True)
    return Path(made.stdout.split()[-1])


def sandbox(name: str, run: Path) -> list[str]:
    """What comes before a command that is to run on that root file system; `run` is its RUN."""
    return [
        *("bwrap", "--die-with-parent", "--unshare-pid", "--ro-bind", str(rootfs(name)), "/", "--proc", "/proc"),
        *("--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run", "--bind", str(run), RUN),  # noqa: S108  # its own
        *("--clearenv", "--setenv", "PATH", "/usr/sbin:/usr/bin:/sbin:/bin", "--setenv", "HOME", RUN),
    ]
