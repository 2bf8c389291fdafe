"""One pool per claim in the embedded cluster, phones around it; at the end the claims, printed with their outcome."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.claims.exchange import Exchange
from tests.cluster.conftest import installed, kube, make_pool
from tests.cluster.world import Pool

__all__ = ["installed", "kube", "make_pool"]  # the cluster tests' fixtures, used here too

_hosts = itertools.count(1)


@pytest.fixture
def address() -> Iterator[Callable[[], str]]:
    """Gives an address outside the cluster, on the node while the test runs: phones need no host of their own."""
    given: list[str] = []

    def give() -> str:
        given.append(f"198.18.210.{next(_hosts)}")
        subprocess.run(["ip", "address", "add", f"{given[-1]}/32", "dev", "lo"], check=True)
        return given[-1]

    yield give
    for one in given:
        subprocess.run(["ip", "address", "delete", f"{one}/32", "dev", "lo"], check=True)


@pytest.fixture
async def exchange(make_pool: Callable[[str], Pool], address: Callable[[], str]) -> AsyncIterator[Exchange]:
    """A pool with a PBX behind it that answers every call, and a phone in front of it."""
    async with AsyncExitStack() as stack:
        yield await Exchange.build(make_pool("edge"), address, stack)


_outcomes: list[tuple[str, str]] = []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]  # pluggy's Result
    if Path(__file__).parent in item.path.parents and (report.when == "call" or report.failed):
        claim = " ".join((getattr(item.obj, "__doc__", None) or item.name).split())  # type: ignore[attr-defined]  # a Function
        _outcomes.append((report.outcome, claim))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _outcomes:
        terminalreporter.section("claims")
        for outcome, claim in _outcomes:
            terminalreporter.write_line(f"{outcome:7} {claim}", green=outcome == "passed", red=outcome == "failed")
