"""What `.ci/run` makes of an e2e that its time limit cuts off: real make, real pytest, no cluster."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MAKEFILE = f"""\
test:
e2e:
\t@{sys.executable} -m pytest --config-file={ROOT}/e2e/kind/pytest.ini --rootdir=. -p no:asyncio test_e2e.py
"""
CUT_OFF = """
import os, signal
from pathlib import Path

def test_that_takes_too_long():
    pid = os.getpid()
    while Path(f"/proc/{pid}/comm").read_text() != "timeout\\n":
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(pid, signal.SIGALRM)  # its time is over
    signal.pause()
"""
PASSES, FAILS, BROKEN = (
    "def test_before(): pass\n",
    "def test_before(): assert False\n",
    "import pytest\n@pytest.fixture\ndef broken(): assert False\ndef test_before(broken): pass\n",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project whose `make test` passes, and in which a cluster is always there."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    (tmp_path / "Makefile").write_text(MAKEFILE)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    return tmp_path


def run(tree: Path, tests: str) -> subprocess.CompletedProcess[str]:
    (tree / "test_e2e.py").write_text(tests)
    return subprocess.run([tree / ".ci/run"], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("before", [FAILS, BROKEN], ids=["failed", "could not be set up"])
def test_cut_off_after_a_test_has_failed(tree: Path, before: str) -> None:
    """It is red, and says which."""
    ran = run(tree, before + CUT_OFF)
    assert ran.returncode not in (0, 1), ran.stdout + ran.stderr
    said = ran.stdout.partition("until then these failed:\n")[2]
    assert "test_e2e.py::test_before" in said, ran.stdout + ran.stderr
    assert "test_that_takes_too_long" not in said


def test_cut_off_before_any_test_has_failed(tree: Path) -> None:
    """It is green, and says that it was cut off."""
    ran = run(tree, PASSES + CUT_OFF)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "ci: make e2e was left out: cut off after 35 min, nothing had failed" in ran.stdout


@pytest.mark.parametrize(("tests", "status"), [(PASSES, 0), (FAILS, 2)])
def test_not_cut_off(tree: Path, tests: str, status: int) -> None:
    """It ends as make does."""
    ran = run(tree, tests)
    assert ran.returncode == status, ran.stdout + ran.stderr
    assert ("ci: the core of make e2e passed" in ran.stdout) == (status == 0)
