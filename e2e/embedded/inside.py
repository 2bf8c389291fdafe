"""The first process of a cluster's namespaces: starts everything, runs COMMAND, and takes everything along at its end.

As process 1 of its process namespace it collects the processes that others leave behind, and its end is the end of all
of them: the kernel sees to that, whatever state they are in. A line to the outside (`lifeline`) tells it when nobody is
left there who waits for it.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

from e2e.embedded import components, network, pki
from e2e.embedded.errors import EmbeddedError
from e2e.embedded.requirements import program
from e2e.embedded.settings import Settings
from e2e.embedded.state import VARIABLE, State
from e2e.errors import E2eError

COMMAND_GRACE_SECONDS = 15  # from asking COMMAND to end until it is made to


class Init:
    """What process 1 does for as long as it lives."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._command: subprocess.Popen[bytes] | None = None

    def start(self, binaries: Path) -> None:
        """The whole control plane, each part as early as it can be."""
        state = self._state
        every = components.control_plane(state, binaries, Settings.load(state))
        first, rest = every[:2], every[2:]  # the storage and the API server wait for each other; the rest for both
        for group in (first, rest):
            started = [(component, components.start(component, state)) for component in group]
            for component, pid in started:
                components.await_ready(component, pid, state)

    def run(self, command: list[str]) -> int:
        """COMMAND's exit status, when it has ended; without a command: runs until it is told to end."""
        environment = {**os.environ, VARIABLE: str(self._state.root), "KUBECONFIG": str(self._state.kubeconfig)}
        if command:
            try:
                self._command = subprocess.Popen(command, env=environment)
            except OSError as error:
                raise EmbeddedError(f"cannot run {command[0]}: {error.strerror}") from None
        while True:
            pid, status = os.waitpid(-1, 0)
            if self._command is not None and pid == self._command.pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            if name := components.running_as(pid, self._state):
                said = components.ended(name, os.waitstatus_to_exitcode(status), self._state)
                print(f"embedded: {said}", file=sys.stderr, flush=True)

    def end(self, number: int, _frame: FrameType | None) -> None:
        """A signal handler: COMMAND is asked to end; without one, this is the end."""
        if self._command is None:
            sys.exit(128 + number)
        with contextlib.suppress(ProcessLookupError):
            self._command.send_signal(signal.SIGKILL if number == signal.SIGALRM else signal.SIGTERM)
        signal.alarm(COMMAND_GRACE_SECONDS)


def main() -> int:
    """Arguments: see `namespace.py`, which writes them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--binaries", type=Path, required=True)
    parser.add_argument("--lifeline", type=int)
    parser.add_argument("command", nargs="*")
    arguments = parser.parse_args()
    state = State(arguments.state)
    init = Init(state)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, init.end)
    signal.signal(signal.SIGINT, lambda _number, _frame: None)  # COMMAND, on the same terminal, has got it as well
    if arguments.lifeline is not None:
        threading.Thread(target=_watch, args=(arguments.lifeline,), daemon=True).start()
    try:
        network.make_node()
        subprocess.run([program("mount"), "-t", "tmpfs", "tmpfs", str(state.layers)], check=True)
        addresses = ["127.0.0.1", str(network.NODE), str(network.API_SERVICE)]
        pki.make(state, addresses, components.SERVER)
        os.environ["PATH"] = f"{arguments.binaries}:{os.environ['PATH']}"
        init.start(arguments.binaries)
        state.ready.touch()
        return init.run(arguments.command)
    except E2eError as error:
        print(f"embedded: {error}", file=sys.stderr, flush=True)
        return 1


def _watch(lifeline: int) -> None:
    os.read(lifeline, 1)  # ends when the other end is closed, by its process's death at the latest
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
