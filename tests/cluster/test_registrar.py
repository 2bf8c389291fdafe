"""A pool that is the registrar of users from a Secret, which comes late; its proxies are all replaced meanwhile."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process

from e2e import product
from e2e.embedded.network import add_host
from tests.cluster.world import Pool
from tests.tools.wait import WITHIN_SECONDS, until

REALM = "voice.example.test"
PASSWORD = "correct-horse"  # of users that a test makes
ADDRESS = "198.18.130.10"
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
    users = f"alice:{PASSWORD}\nbob:{PASSWORD}\n"
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "edge-users"},
        "stringData": {"passwords": users},
    }
    product.apply(secret, namespace=pool.namespace)
    await pool.ready(2)
    before = set(await pool.pods())

    command = [sys.executable, "-m", "tests.tools.subscribers", await pool.address(), ADDRESS, REALM, PASSWORD]
    process = await asyncio.create_subprocess_exec(
        *add_host("subscribers", ADDRESS), *command, stdin=PIPE, stdout=PIPE, cwd=product.ROOT
    )
    try:
        assert await says(process) == 200
        assert await called(process) == 200
        await pool.patch(proxy={"podTemplate": {"metadata": {"annotations": {"example.test/release": "2"}}}})
        await pool.ready(2)
        await until(lambda: replaced(pool, before), "other proxies")
        assert await called(process) == 200
    finally:
        process.kill()
        await process.wait()


async def replaced(pool: Pool, before: set[str]) -> bool:
    now = set(await pool.pods())
    return len(now) == 2 and not now & before
