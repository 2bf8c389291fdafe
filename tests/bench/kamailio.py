"""Bare Kamailios: what Switchboard is measured against, from the .cfg files beside this."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence

from e2e.embedded.waiting import wait_for
from tests.bench import procs
from tests.tools.control import Control, ControlError

HERE = pathlib.Path(__file__).parent
START_SECONDS = 15.0
# The allocators and sizes of proxy/bin/kamailio: an allocator is worth more than any routing logic.
MEMORY = ("-x", "tlsf", "-X", "tlsf", "-m", "256", "-M", "16")


class Kamailio:
    """One Kamailio in bubblewrap on the proxies' root file system; `run` holds its socket and its log."""

    def __init__(self, root: pathlib.Path, run: pathlib.Path, cfg: str, address: str, defines: Sequence[str]) -> None:
        run.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / cfg, run / cfg)
        # A process namespace of its own: its workers do not outlive it, however it ends.
        sandbox = ["bwrap", "--die-with-parent", "--unshare-pid"]
        sandbox += ["--ro-bind", str(root), "/", "--dev", "/dev", "--proc", "/proc"]
        sandbox += ["--tmpfs", "/tmp", "--tmpfs", "/run", "--bind", str(run), str(run)]  # noqa: S108 - the sandbox's own
        sandbox += ["--clearenv", "--setenv", "PATH", "/usr/sbin:/usr/bin"]
        command = ["kamailio", "-DD", "-E", *MEMORY, "-f", str(run / cfg), "-Y", str(run)]
        command += [f"--substdef=!@IP@!{address}!g", f"--substdef=!@RUN@!{run}!g"]
        for define in (f"IP={address}", *defines):
            command += ["-A", define]
        self.run = run
        self.address = address
        self._log = run / "kamailio.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([*sandbox, *command], stdout=log, stderr=log)
        self.control = self._connect()

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_seconds(self) -> float:
        return procs.cpu_seconds(self.pid)

    def stop(self) -> None:
        self.control.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _connect(self) -> Control:
        """Kamailio is up once its control socket answers."""

        def answer() -> Control | None:
            if self._process.poll() is not None:
                raise RuntimeError(f"Kamailio ended at once; its log:\n{self._log.read_text()[-2000:]}")
            try:
                control = Control(self.run)
                control("core.version")
            except (OSError, ControlError):
                return None
            return control

        control = wait_for(answer, START_SECONDS, f"Kamailio at {self.address} to answer")
        assert control is not None
        return control


@contextlib.contextmanager
def bare(root: pathlib.Path, run: pathlib.Path, cfg: str, address: str, defines: Sequence[str]) -> Iterator[Kamailio]:
    kamailio = Kamailio(root, run, cfg, address, defines)
    try:
        yield kamailio
    finally:
        kamailio.stop()
