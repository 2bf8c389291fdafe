"""SIPp as load: a fixed rate of calls for a fixed number of calls, and something that answers."""

from __future__ import annotations

import contextlib
import csv
import pathlib
import subprocess
from collections.abc import Iterator

import msgspec

SCENARIOS = pathlib.Path(__file__).parent / "scenarios"
SIPP = "/usr/bin/sipp"
PORT = 5060
BUFFER = ("-buff_size", "4000000")  # else a moment without CPU loses answers, and waiting for them again takes seconds


class Outcome(msgspec.Struct, frozen=True):
    calls: int
    failed: int
    retransmitted: int
    why: str  # the end of SIPp's error log


def call(scenario: str, target: str, caller: str, *, rate: int, calls: int, work: pathlib.Path) -> Outcome:
    """`calls` calls from address `caller` to `target`, `rate` a second; returns when all have ended."""
    statistics = work / "calls.csv"
    command = [SIPP, target, "-sf", str(SCENARIOS / f"{scenario}.xml"), "-i", caller, "-p", "6060", "-nostdin"]
    command += ["-r", str(rate), "-m", str(calls), "-l", str(calls), "-timeout", "60s", "-timeout_error"]
    command += [*BUFFER, "-trace_stat", "-stf", str(statistics), "-fd", "3600"]
    command += ["-trace_err", "-error_file", str(work / "calls.errors")]
    ended = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if not statistics.exists():
        raise RuntimeError(f"SIPp did not start: {ended.stdout[-500:]}{ended.stderr[-500:]}")
    with statistics.open() as lines:
        last = list(csv.DictReader(lines, delimiter=";"))[-1]
    statistics.unlink()
    errors = work / "calls.errors"
    why = errors.read_text(errors="replace")[-500:] if errors.exists() else ""
    errors.unlink(missing_ok=True)
    return Outcome(int(last["TotalCallCreated"]), int(last["FailedCall(C)"]), int(last["Retransmissions(C)"]), why)


@contextlib.contextmanager
def answering(address: str, work: pathlib.Path) -> Iterator[None]:
    """SIPp answering every call at `address`."""
    command = [SIPP, "-sf", str(SCENARIOS / "answering.xml"), "-i", address, "-p", str(PORT), "-nostdin", *BUFFER]
    with (work / "answering.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=work, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)
