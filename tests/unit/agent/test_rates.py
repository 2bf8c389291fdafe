import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from switchboard.agent.processes import Processes
from switchboard.agent.rates import Rate


def test_growth_over_the_last_second() -> None:
    """A rate is what was added over the last second, not since the beginning."""
    rate = Rate()
    for tenth in range(31):
        rate.add(tenth / 10, 100.0 * tenth if tenth <= 20 else 2000.0)
    assert rate.per_second == 0.0
    rate.add(3.1, 2300.0)
    assert rate.per_second == pytest.approx(300.0, rel=0.15)


def test_a_counter_that_falls_began_anew() -> None:
    """A restarted process counts from 0; that is no negative rate."""
    rate = Rate()
    rate.add(0.0, 1_000_000.0)
    assert rate.per_second == 0.0
    rate.add(0.5, 50.0)
    assert rate.per_second == 100.0


def test_time_that_stands_still_changes_nothing() -> None:
    """Two readings at one moment say nothing about a rate."""
    rate = Rate()
    rate.add(1.0, 0.0)
    rate.add(2.0, 10.0)
    rate.add(2.0, 999.0)
    assert rate.per_second == 10.0


ROUGHLY_ONE = 10.0  # core, on a machine that stalls; ticks in place of seconds would be a hundred times as many


def busy(program: Path, script: str = "while :; do :; done") -> subprocess.Popen[bytes]:
    """A process of the pod edge-aaaaa that uses a whole core."""
    return subprocess.Popen([program, "-c", script], env={**os.environ, "POD_NAME": "edge-aaaaa"})


def sampled(seconds: float, *measured: Processes) -> None:
    """Take samples as the agent does."""
    begin = at = time.monotonic()
    while at < begin + seconds:
        at = time.monotonic()
        for one in measured:
            one.sample(at)
        signal.sigtimedwait([], 0.05)


@pytest.fixture
def kamailio(tmp_path: Path) -> Path:
    """A program of that name."""
    return Path(shutil.copy("/bin/sh", tmp_path / "kamailio"))


def test_cpu_of_this_pods_processes(kamailio: Path) -> None:
    """CPU is counted for this pod's Kamailio and rtpengine, of no other pod, and not lost when one ends."""
    process = busy(kamailio)
    ours, others = Processes("edge-aaaaa"), Processes("edge-bbbbb")
    try:
        sampled(1.5, ours, others)
        assert 0.0 < ours.cpu_cores < ROUGHLY_ONE
        assert others.cpu_cores == 0.0
    finally:
        process.kill()
        process.wait()
    sampled(0.1, ours)
    assert ours.cpu_cores > 0.0
    sampled(1.5, ours)
    assert ours.cpu_cores == 0.0


def test_a_program_that_its_entry_point_becomes(kamailio: Path) -> None:
    """A process that is first seen as the shell that starts it is found once it is the program."""
    process = busy(Path("/bin/sh"), f"sleep 1.2; exec {kamailio} -c 'while :; do :; done'")
    ours = Processes("edge-aaaaa")
    try:
        sampled(3.5, ours)
        assert ours.cpu_cores > 0.0
    finally:
        process.kill()
        process.wait()
