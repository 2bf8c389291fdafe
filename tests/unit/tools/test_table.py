"""The table of clients at the end of a run: a run of a whole folder must have shown all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONFTEST = """
from pathlib import Path
from tests.tools.clients import table

row = {("UDP", "forward"): ("calls", "holds")}
others = dict.fromkeys(("UDP redirect", "TCP", "TLS", "WS", "WSS"), "it cannot")
table.CLIENTS = (table.Client("phone", "sip", row, others),)

def pytest_configure(config):
    config.addinivalue_line("markers", "client")
    table.register(config, Path(__file__).parent)
"""
TESTS = """
import pytest
from pathlib import Path

@pytest.mark.client("phone", transport="UDP", does=("calls",))
def test_calls(): ...

@pytest.mark.client("phone", does=("holds",))
@pytest.mark.parametrize("protocol", ["udp"])
@pytest.mark.parametrize("mode", ["forward"])
def test_holds(protocol, mode):
    assert Path(__file__).with_name("works").exists()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of two tests, the second of which fails until there is a file `works`."""
    made = tmp_path / "sip"
    made.mkdir()
    (made / "conftest.py").write_text(CONFTEST)
    (made / "test_phone.py").write_text(TESTS)
    return made


def pytest_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "--rootdir", str(folder), "-c", "/dev/null", *arguments, str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit status, and what the table says in the one row."""
    ran = pytest_run(folder, *arguments)
    (line,) = (line for line in ran.stdout.splitlines() if line.startswith("phone        UDP  forward"))
    return ran.returncode, line.partition("forward")[2].strip()


def test_all_shown(folder: Path) -> None:
    (folder / "works").touch()
    assert run(folder) == (0, "calls, holds")


def test_a_test_is_gone(folder: Path) -> None:
    """The run fails, though all that ran has passed; not where a part was asked for."""
    text = TESTS.partition('@pytest.mark.client("phone", does=("holds",))')[0]
    (folder / "test_phone.py").write_text(text)
    assert run(folder) == (1, "calls NOT SHOWN: holds")
    assert run(folder, "-k", "calls") == (0, "calls NOT SHOWN: holds")


def test_run_once_more(folder: Path) -> None:
    """What failed and then passes completes the table of the run before."""
    assert run(folder) == (1, "calls NOT SHOWN: holds")
    assert run(folder, "--last-failed") == (1, "calls NOT SHOWN: holds")
    (folder / "works").touch()
    assert run(folder, "--last-failed") == (0, "calls, holds")


def test_a_slip_of_the_pen(folder: Path) -> None:
    """A mark for a row that there is not is refused before anything runs."""
    (folder / "test_phone.py").write_text(TESTS.replace('transport="UDP"', 'transport="UPD"'))
    ran = pytest_run(folder)
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert "not in tests/tools/clients/table.py" in ran.stderr
