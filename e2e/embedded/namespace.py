"""The way into a cluster's namespaces, from outside: making them, entering them, ending them."""

import os
import signal
import subprocess
from pathlib import Path
from types import FrameType

from e2e.embedded import components, network
from e2e.embedded.errors import EmbeddedError
from e2e.embedded.requirements import program
from e2e.embedded.state import VARIABLE, State
from e2e.embedded.waiting import wait_for
from e2e.errors import RequirementError

START_SECONDS = 120.0
END_SECONDS = 30.0


def run(state: State, binaries: Path, command: list[str]) -> int:
    """A cluster for as long as COMMAND runs; returns COMMAND's exit status. A signal ends both."""
    ours, theirs = os.pipe()
    lifeline = ["--lifeline", str(ours)]
    cluster = subprocess.Popen(_command(state, binaries, [*lifeline, "--", *command]), pass_fds=[ours])
    os.close(ours)
    ended_by = 0

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal ended_by
        if number == signal.SIGINT and os.isatty(0):
            return  # the terminal has sent it to COMMAND too, whose decision it is
        if not ended_by:
            os.close(theirs)
        ended_by = number

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, end)
    status = cluster.wait()
    if ended_by:
        return 128 + ended_by
    return status if status >= 0 else 128 - status


def start(state: State, binaries: Path) -> None:
    """A cluster that goes on until `stop`."""
    state.ready.unlink(missing_ok=True)
    with state.log("cluster").open("ab") as log:
        cluster = subprocess.Popen(
            _command(state, binaries, []), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    def up() -> bool:
        if cluster.poll() is not None:
            raise EmbeddedError(state.log("cluster").read_text().strip() or "the cluster ended while starting")
        return state.ready.exists()

    state.init.write_text(str(wait_for(lambda: _child(cluster.pid), 10.0, "the cluster's first process")))
    wait_for(up, START_SECONDS, f"the cluster to be up; see {state.root / 'logs'}")


def running(state: State) -> int | None:
    """The first process of a cluster that `start` left running, as this host numbers it."""
    try:
        pid = int(state.init.read_text())
        mine = str(state.root).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()  # ids are used again
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if mine else None


def stop(state: State) -> bool:
    """Ends a cluster that `start` left running; False when there is none."""
    pid = running(state)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    # Not `running`: the first process loses its command line before the others have ended, and is gone only after them.
    wait_for(lambda: not components.running(pid), END_SECONDS, f"the cluster (process {pid}) to end")
    state.init.unlink()
    return True


def enter(state: State, binaries: Path) -> list[str]:
    """What to put before a command so that it runs inside a cluster that `start` left running."""
    pid = running(state)
    if pid is None:
        raise EmbeddedError(f"no cluster is running in {state.root}: start one with `python -m e2e.embedded up`")
    return [
        *[
            program("nsenter"),
            "--target",
            str(pid),
            "--user",
            "--net",
            "--mount",
            "--pid",
            "--preserve-credentials",
            "--",
        ],
        *["env", f"--chdir={Path.cwd()}", f"{VARIABLE}={state.root}", f"KUBECONFIG={state.kubeconfig}"],
        f"PATH={binaries}:{os.environ['PATH']}",
    ]


def _command(state: State, binaries: Path, more: list[str]) -> list[str]:
    if not network.NAMESPACES.is_dir() and state.root.is_relative_to("/run"):
        raise RequirementError(f"the cluster's directory {state.root} is under /run, which it covers: choose another")
    kinds = ["--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    inside = [*components.python("e2e.embedded.inside"), "--state", str(state.root), "--binaries", str(binaries)]
    return [program("unshare"), *kinds, "--", *inside, *more]


def _child(pid: int) -> int | None:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            return int(stat.parent.name)
    return None
