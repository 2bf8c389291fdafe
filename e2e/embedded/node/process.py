"""A container's processes: started with bubblewrap, found, entered, and ended to the last one.

A container without cgroups still has one mark that all its processes share and nobody else has: its mount namespace.
The kernel gives the number of one that is gone to the next that is made, so it is held while the container runs.
"""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from e2e.embedded.errors import PodSetupError
from e2e.embedded.requirements import program

START_SECONDS = 10.0


class Process:
    """One run of a container. `pid` is its main process, as the node numbers it."""

    def __init__(self, wrapper: asyncio.subprocess.Process, pid: int, status: asyncio.BaseTransport) -> None:
        self._wrapper = wrapper
        self._status = status  # open until the end: bwrap, which writes to it then, would die of a closed pipe
        self.pid = pid
        self._mounts = _held_mounts(pid)
        self.exited: asyncio.Task[int] = asyncio.create_task(self._wait())

    @classmethod
    async def start(cls, command: list[str], environment: Mapping[str, str], log: Path, depth: int) -> "Process":
        """`command` ends in bwrap's; `depth`: how many processes below it the container's main process is.

        bwrap reports on a file descriptor when the main process exists: `{status}` in the command is its number.
        """
        ours, theirs = os.pipe()
        with log.open("ab") as output:
            wrapper = await asyncio.create_subprocess_exec(
                *(word.format(status=theirs) if word == "{status}" else word for word in command),
                env=dict(environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs],
                start_new_session=True,
            )
        os.close(theirs)
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb"))
        line = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                line = await reader.readline()
        pid: int | None = wrapper.pid
        for _ in range(depth):
            pid = child(pid) if pid else None
        if not line or "child-pid" not in json.loads(line):
            transport.close()
            with contextlib.suppress(ProcessLookupError):
                wrapper.kill()
            code = await wrapper.wait()
            raise PodSetupError("Failed", f"the container could not be started (status {code}): {_last_line(log)}")
        return cls(wrapper, pid or wrapper.pid, transport)  # one that is not found has ended already

    async def _wait(self) -> int:
        code = await self._wrapper.wait()
        self._status.close()
        self.kill()  # what it has left behind
        if self._mounts is not None:
            os.close(self._mounts)
            self._mounts = None
        return code if code >= 0 else 128 - code

    def signal(self, number: signal.Signals) -> None:
        """To the main process alone, as a kubelet does it."""
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL to every process of the container, whoever started it; to nobody once it has ended."""
        if self._mounts is not None:
            _kill_all(os.fstat(self._mounts).st_ino)
        with contextlib.suppress(ProcessLookupError):
            self._wrapper.kill()  # whatever else holds the container up

    async def run_beside(self, command: list[str], environment: Mapping[str, str]) -> int:
        """Runs a command inside the container, as `kubectl exec` would; its exit status. Cancelled, it is killed."""
        enter = [program("nsenter"), "--target", str(self.pid), "--user", "--mount", "--net", "--pid", "--uts"]
        helper = await asyncio.create_subprocess_exec(
            *[*enter, "--preserve-credentials", "--wd", "--", *command],
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return await helper.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(helper.pid, signal.SIGKILL)


def kill_container(pid: int) -> None:
    """SIGKILL to a container's main process and all its others."""
    if (held := _held_mounts(pid)) is not None:
        _kill_all(os.fstat(held).st_ino)
        os.close(held)


def processes() -> list[int]:
    """Every process there is."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]


def child(parent: int) -> int | None:
    """The first child of a process."""
    for pid in processes():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(stat.rpartition(")")[2].split()[1]) == parent:
            return pid
    return None


def _held_mounts(pid: int) -> int | None:
    """A file descriptor that holds the process's mount namespace; None when the process is gone, or about to be."""
    with contextlib.suppress(OSError):
        return os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    return None


def _mounts(pid: int) -> int:
    """The number of the process's mount namespace; 0 when it is gone."""
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino  # noqa: PTH116 - of the namespace that the link leads to
    return 0


def _kill_all(mounts: int) -> None:
    if mounts == _mounts(os.getpid()):  # the process's number is another's by now, who is no container
        return
    killed: set[int] = set()  # a killed process may take a moment to go, but it starts no other
    while victims := {pid for pid in processes() if _mounts(pid) == mounts} - killed:
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= victims


def _last_line(log: Path) -> str:
    return "".join(log.read_text(errors="replace").strip().splitlines()[-1:])
