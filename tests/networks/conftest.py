"""A network of the run's own, with hosts in namespaces; a pool of real proxies in the middle of it.

To be run as `make networks` does it, in a fresh user and network namespace: it adds interfaces and routes.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from e2e.embedded.network import add_host, make_node
from tests.sip.conftest import authority, pytest_runtest_makereport
from tests.tools import answers
from tests.tools.clients import table
from tests.tools.nat import inside
from tests.tools.pool import Pool, to
from tests.tools.proxies import Proxy, fleet
from tests.tools.sip import Phone

__all__ = ["authority", "pytest_runtest_makereport"]  # the latter: a failed test shows what the proxies logged

PROXIES = "198.18.1"
PBX = "198.18.200.1"
SERVICE = "198.19.255.1"  # in front of the primary, as kube-proxy does it: another address and, for UDP, another port


def pytest_configure(config: pytest.Config) -> None:
    table.register(config, Path(__file__).parent)


@pytest.fixture(scope="session", autouse=True)
def network() -> None:
    """Nothing of it reaches the machine's own network; 198.18.0.0/15 ends here."""
    links = json.loads(subprocess.run(["ip", "-json", "link"], check=True, capture_output=True).stdout)
    if [link["ifname"] for link in links] != ["lo"]:
        pytest.exit("tests/networks needs a network namespace of its own: run `make networks`")
    make_node()
    add_host("pbx", PBX)
    chain = "{ type nat hook prerouting priority -100; }"
    rules = [f"udp dport 5060 dnat to {PROXIES}.1:15060", f"tcp dport 5060 dnat to {PROXIES}.1:5060"]
    commands = ["add table ip pool", f"add chain ip pool service {chain}"]
    commands += [f"add rule ip pool service ip daddr {SERVICE} {rule}" for rule in rules]
    for command in commands:
        subprocess.run(["nft", command], check=True)


@pytest.fixture(scope="session")
def proxies(network: None) -> Iterator[Sequence[Proxy]]:
    for number in (1, 2):
        subprocess.run(["ip", "address", "add", f"{PROXIES}.{number}/32", "dev", "lo"], check=True)
    with fleet(2, PROXIES) as started:
        yield started


@pytest.fixture
async def pool(proxies: Sequence[Proxy]) -> Pool:
    """The primary and a member; calls lead to the PBX, everybody in this network is a client."""
    pool = Pool(proxies)
    await pool.reset()
    pool.routes(to(f"sip:{PBX}:5060"))
    for proxy in proxies:
        proxy.control.set("alias", SERVICE, 1)
        proxy.networks(["198.18.0.0/15"])
    return pool


@pytest.fixture
async def pbx(network: None) -> AsyncIterator[Phone]:
    """Where calls lead; it rings and answers."""
    with inside("pbx"):
        opened = Phone.at(PBX, 5060, user="pbx")
        one = await opened.__aenter__()
    one.script = answers.ring_then_answer
    yield one
    await opened.__aexit__(None, None, None)
