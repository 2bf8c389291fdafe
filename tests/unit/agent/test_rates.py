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


@pytest.fixture
def busy(tmp_path: Path) -> subprocess.Popen[bytes]:
    """A process that uses a whole core, by the name of Kamailio."""
    program = tmp_path / "kamailio"
    shutil.copy("/bin/sh", program)
    return subprocess.Popen([program, "-c", "while :; do :; done"], env={**os.environ, "POD_NAME": "edge-aaaaa"})


def test_cpu_of_this_pods_processes(busy: subprocess.Popen[bytes]) -> None:
    """CPU is counted for this pod's Kamailio and rtpengine, of no other pod, and not lost when one ends."""
    try:
        ours, others = Processes("edge-aaaaa"), Processes("edge-bbbbb")
        begin = time.monotonic()
        at = begin
        while at < begin + 1.5:
            at = time.monotonic()
            ours.sample(at)
            others.sample(at)
            os.sched_yield()
            signal.sigtimedwait([], 0.05)
        assert 0.2 < ours.cpu_cores < 1.3
        assert others.cpu_cores == 0.0
    finally:
        busy.kill()
        busy.wait()
    ours.sample(time.monotonic())
    assert ours.cpu_cores >= 0.0
