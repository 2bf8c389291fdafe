"""SIPp as load and as judge: runs a scenario and reads SIPp's own statistics.

    with answerer("127.0.0.60", tmp), caller("127.0.0.2:5060", "127.0.0.50", tmp, calls=100, rate=20) as load:
        result = load.wait(60)
    assert result.failed == 0

`prefix` goes before the command, such as ("ip", "netns", "exec", "client-1"). Statistics can be read while it runs.
"""

from __future__ import annotations

import csv
import itertools
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

SCENARIOS = Path(__file__).parent / "scenarios"
DUMP_SECONDS = 1
STOP_SECONDS = 5
BUFFER_BYTES = 4_000_000  # else a moment without CPU loses answers, and waiting for them again takes seconds

_serial = itertools.count(1)


class SippError(Exception):
    """SIPp could not be started, or ended otherwise than by finishing its calls."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What became of the calls of one SIPp.

    Once it has ended: offered = answered + refused + abandoned + ringing_lost + failed; answered = completed + dropped.
    """

    offered: int = 0
    current: int = 0  # not decided yet, or answered and still up
    answered: int = 0
    completed: int = 0  # answered, held, ended with an answered BYE
    dropped: int = 0  # answered, then ended otherwise
    refused: int = 0  # with the status that a saturated pool answers
    redirected: int = 0  # 302 received; a call may be redirected several times
    abandoned: int = 0  # redirected, and the client hung up instead of following
    ringing_lost: int = 0  # had a provisional answer, and then nothing
    failed: int = 0  # anything else
    retransmissions: int = 0
    causes: dict[str, int] = field(default_factory=dict)  # SIPp's own words for what failed or was dropped

    def __add__(self, other: Statistics) -> Statistics:
        numbers = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "causes"}
        causes = {
            cause: self.causes.get(cause, 0) + other.causes.get(cause, 0) for cause in {*self.causes, *other.causes}
        }
        return Statistics(**numbers, causes=causes)


def parse(row: dict[str, str]) -> Statistics:
    """One line of SIPp's -trace_stat file, its columns ending in (C): cumulative."""

    def count(column: str) -> int:
        return int(row.get(f"{column}(C)") or 0)

    answered, refused = count("answered"), count("refused")
    abandoned, ringing_lost = count("abandoned"), count("ringing_lost")
    completed = max(0, count("SuccessfulCall") - refused - abandoned - ringing_lost)
    current = int(row.get("CurrentCall") or 0)
    offered = int(row.get("TotalCallCreated") or 0)
    failures = count("FailedCall")
    dropped = max(0, min(failures, answered - completed - current))
    return Statistics(
        offered=offered,
        current=current,
        answered=answered,
        completed=completed,
        dropped=dropped,
        refused=refused,
        redirected=count("redirected"),
        abandoned=abandoned,
        ringing_lost=ringing_lost,
        failed=failures - dropped,
        retransmissions=count("Retransmissions"),
        causes={
            name.removesuffix("(C)").removeprefix("Failed"): int(value)
            for name, value in row.items()
            if name.startswith("Failed") and name.endswith("(C)") and name != "FailedCall(C)" and int(value or 0)
        },
    )


class Sipp:
    """One running SIPp; a context manager that stops it."""

    def __init__(
        self, scenario: Path, directory: Path, arguments: Sequence[str], prefix: Sequence[str] = (), **values: int | str
    ) -> None:
        if shutil.which("sipp") is None:
            raise SippError("sipp is missing: apt-get install sip-tester")
        self.directory = directory
        self._name = f"{scenario.stem}-{next(_serial)}"
        self._statistics = directory / f"{self._name}.csv"
        text = scenario.read_text()
        for name, value in values.items():  # SIPp takes no variables for time-outs and statuses
            text = text.replace(f"@{name}@", str(value))
        own = directory / f"{self._name}.xml"
        own.write_text(text)
        command = [
            *prefix,
            *("sipp", "-sf", str(own), "-buff_size", str(BUFFER_BYTES), *arguments),
            *("-nostdin", "-trace_stat", "-stf", str(self._statistics), "-fd", str(DUMP_SECONDS)),
            *("-trace_err", "-error_file", str(directory / f"{self._name}.errors")),
        ]
        self._output = (directory / f"{self._name}.out").open("wb")
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT, cwd=directory
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def statistics(self) -> Statistics:
        """As last written: at most a second old while it runs, final once it has ended."""
        try:
            with self._statistics.open(newline="") as lines:
                rows = [row for row in csv.DictReader(lines, delimiter=";") if row.get("CurrentCall")]
        except FileNotFoundError:
            return Statistics()
        return parse(rows[-1]) if rows else Statistics()

    def wait(self, within: float) -> Statistics:
        """Waits until all calls are over; their outcome is in the statistics, so a failed call raises nothing."""
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise SippError(f"{self._name} still runs after {within} s: {self.statistics()}\n{self.errors()}") from None
        if code not in (0, 1):  # 1: at least one call failed
            raise SippError(f"{self._name} ended with {code}\n{self.errors()}")
        return self.statistics()

    def errors(self, limit: int = 4000) -> str:
        """The end of SIPp's error log and of its output, for messages of failed tests."""
        found = [self.directory / f"{self._name}.errors", self.directory / f"{self._name}.out"]
        return "\n".join(path.read_text(errors="replace")[-limit:] for path in found if path.exists())

    def freeze(self) -> None:
        """Stops it where it stands, until `thaw`: it is there and does not answer."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As a crash does: whoever it talks to is told nothing."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self.running:
            self.thaw()
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._output.close()


def caller(  # each argument is one knob of the load
    target: str,
    ip: str,
    directory: Path,
    *,
    calls: int,
    rate: float,
    hold_seconds: float = 1.0,
    lost: float = 0.0,
    ring_limit_seconds: float = 30.0,
    refused_status: int = 503,
    user: str = "echo",
    port: int = 5060,
    transport: str = "u1",
    prefix: Sequence[str] = (),
) -> Sipp:
    """`calls` calls to `target`, `rate` a second.

    The share `lost` of those redirected hang up instead of following; one that had a provisional answer, and nothing
    for `ring_limit_seconds` after, counts as ringing_lost. `refused_status`: the pool's
    `assignment.saturated.status`; any other refusal is a failure.
    """
    arguments = [
        *(target, "-i", ip, "-mi", ip, "-p", str(port), "-s", user, "-t", transport),
        *("-m", str(calls), "-r", str(max(1, round(rate * 10))), "-rp", "10s", "-l", str(calls)),
        *("-d", str(round(hold_seconds * 1000)), "-set", "lost_text", str(lost)),
    ]
    values = {"RING_LIMIT_MS": round(ring_limit_seconds * 1000), "REFUSED_STATUS": refused_status}
    return Sipp(SCENARIOS / "caller.xml", directory, arguments, prefix, **values)


def answerer(
    ip: str,
    directory: Path,
    *,
    port: int = 5060,
    ring_seconds: float = 0.0,
    transport: str = "u1",
    prefix: Sequence[str] = (),
) -> Sipp:
    """Whoever is called: rings, answers, echoes media."""
    arguments = [
        *("-i", ip, "-mi", ip, "-p", str(port), "-t", transport, "-rtp_echo"),
        *("-d", str(round(ring_seconds * 1000))),
    ]
    return Sipp(SCENARIOS / "answerer.xml", directory, arguments, prefix)
