"""A pool that is the registrar of users from a Secret; its proxies are all replaced meanwhile, or end at once."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from e2e import product
from e2e.embedded.network import add_host
from tests.cluster.world import Pool
from tests.tools.postgres import postgres
from tests.tools.wait import WITHIN_SECONDS, until

REALM = "voice.example.test"
PASSWORD = "correct-horse"  # of users that a test makes
ADDRESS, OTHER_ADDRESS = "198.18.130.10", "198.18.130.11"
DATABASE = "198.18.211.1"
AUTH = {"secretName": "edge-users", "realm": REALM}


async def says(process: Process) -> int:
    """The next status that the subscribers print."""
    assert process.stdout is not None
    async with asyncio.timeout(WITHIN_SECONDS):
        return int(await process.stdout.readline())


async def called(process: Process) -> int:
    """What becomes of a call to bob."""
    assert process.stdin is not None
    process.stdin.write(b"call\n")
    return await says(process)


async def test_registrations_outlive_the_proxies(pool: Pool) -> None:
    """Who has registered through the Service, with a password from the Secret, is called there when all proxies are
    others; and until there is a Secret the pool says that proxies wait for it.
    """
    auth = {"networks": ["198.18.128.0/17"], "auth": AUTH}
    pool.apply(replicas=2, clients=auth, registrar={"enabled": True}, routes=[])

    async def waits() -> bool:
        found = await pool.condition("Ready")
        return (found["status"], found["reason"]) == ("False", "UsersMissing")

    await until(waits, "the pool to say that its users are missing")
    give_users(pool)
    await pool.ready(2)
    before = set(await pool.pods())
    async with subscribers(pool, "subscribers", ADDRESS) as process:
        assert await says(process) == 200
        assert await called(process) == 200
        await pool.patch(proxy={"podTemplate": {"metadata": {"annotations": {"example.test/release": "2"}}}})
        await pool.ready(2)
        await until(lambda: replaced(pool, before), "other proxies")
        assert await called(process) == 200


@pytest.fixture
def outside() -> Iterator[str]:
    """An address outside the cluster, on its node."""
    subprocess.run(["ip", "address", "add", f"{DATABASE}/32", "dev", "lo"], check=True)
    yield DATABASE
    subprocess.run(["ip", "address", "delete", f"{DATABASE}/32", "dev", "lo"], check=True)


async def test_registrations_outlive_all_proxies_at_once(pool: Pool, outside: str, tmp_path: Path) -> None:
    """With a database: all proxies end at the same moment, and others know who had registered."""
    directory = tmp_path / "database"
    directory.mkdir()
    async with postgres(outside, directory) as server:
        give(pool, "edge-database", server.secret)
        give_users(pool)
        pool.apply(
            replicas=2,
            clients={"networks": ["198.18.128.0/17"], "auth": AUTH},
            registrar={"enabled": True, "database": {"secretName": "edge-database"}},
            routes=[],
        )
        await pool.ready(2)
        before = set(await pool.pods())
        async with subscribers(pool, "database", OTHER_ADDRESS) as process:
            assert await says(process) == 200
            await until(server.rows, "the registration is written")
            product.kubectl("delete", "pods", *before, "--force", "--grace-period=0", "--namespace", pool.namespace)
            await until(lambda: replaced(pool, before), "other proxies")
            await pool.ready(2)
            assert await called(process) == 200


def give(pool: Pool, name: str, entries: dict[str, str]) -> None:
    """A Secret of the pool's."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": entries}
    product.apply(secret, namespace=pool.namespace)


def give_users(pool: Pool) -> None:
    give(pool, AUTH["secretName"], {"passwords": f"alice:{PASSWORD}\nbob:{PASSWORD}\n"})


@contextlib.asynccontextmanager
async def subscribers(pool: Pool, host: str, address: str) -> AsyncIterator[Process]:
    """Two users at a host of their own (tests/tools/subscribers.py)."""
    command = [sys.executable, "-m", "tests.tools.subscribers", await pool.address(), address, REALM, PASSWORD]
    process = await asyncio.create_subprocess_exec(
        *add_host(host, address), *command, stdin=PIPE, stdout=PIPE, cwd=product.ROOT
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def replaced(pool: Pool, before: set[str]) -> bool:
    now = set(await pool.pods())
    return len(now) == 2 and not now & before
