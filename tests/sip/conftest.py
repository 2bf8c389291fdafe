"""Five real proxies for all tests of this folder, reset before each; whoever is called; and a client."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from pathlib import Path

import pytest

from tests.tools import answers
from tests.tools.addresses import CLIENTS, LISTENING, PROXIES, TARGETS
from tests.tools.certificates import Authority
from tests.tools.clients import table
from tests.tools.listeners import LISTEN, SECRET
from tests.tools.pool import Pool
from tests.tools.proxies import Proxy, fleet
from tests.tools.sip import Phone

LOG_CHARACTERS = 4000


def pytest_configure(config: pytest.Config) -> None:
    table.register(config, Path(__file__).parent)


@pytest.fixture(scope="session")
def proxies() -> Iterator[Sequence[Proxy]]:
    with fleet(5, PROXIES) as started:
        yield started


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Who has issued the listeners' certificate."""
    return Authority()


@pytest.fixture(scope="session")
def listening(authority: Authority) -> Iterator[Sequence[Proxy]]:
    """Two proxies with a listener of every transport."""
    with fleet(2, LISTENING, secrets={SECRET: authority.secret()}, LISTEN=LISTEN) as started:
        yield started


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    """A client that knows the listeners' authority."""
    return authority.client()


@pytest.fixture
async def pool(proxies: Sequence[Proxy]) -> Pool:
    """The primary and two members; every proxy has room for 100 calls."""
    pool = Pool(proxies[:3])
    await pool.reset()
    return pool


@pytest.fixture
async def big_pool(proxies: Sequence[Proxy]) -> Pool:
    """The primary and four members."""
    pool = Pool(proxies)
    await pool.reset()
    return pool


@pytest.fixture
async def alice() -> AsyncIterator[Phone]:
    """A client of the pool."""
    async with Phone.at(f"{CLIENTS}.1") as phone:
        yield phone


@pytest.fixture
async def pbx() -> AsyncIterator[Phone]:
    """Where the pool's one route leads; it rings and answers."""
    async with Phone.at(f"{TARGETS}.1", 5060, user="pbx") as phone:
        phone.script = answers.ring_then_answer
        yield phone


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the proxies logged meanwhile."""
    report = yield
    proxies: Sequence[Proxy] = getattr(item, "funcargs", {}).get("proxies", ())
    for proxy in proxies if report.when != "teardown" else ():
        text = proxy.new_log()
        if report.failed and report.when == "call" and text:
            report.sections.append((f"{proxy.name} at {proxy.ip}", text[-LOG_CHARACTERS:]))
    return report
