"""Locations in a database: they outlive all proxies; and calls and registrations go on while it is away."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from switchboard.pool.spec import Registrar
from tests.agent.pod import Operator, Pod, pods, settings
from tests.agent.test_registrar import known, one_after_the_other, registered
from tests.sip.test_registrar import register
from tests.tools.addresses import NETWORK
from tests.tools.postgres import Postgres, postgres
from tests.tools.sip import Phone
from tests.tools.wait import until

SECRET = "edge-database"  # its name
WANTED = settings(registrar=Registrar(enabled=True, max_expires_seconds=300, database_secret=SECRET))
DATABASE, CLIENT = f"{NETWORK}.17.40", f"{NETWORK}.17.50"


@pytest.fixture
async def database() -> AsyncIterator[Postgres]:
    directory = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    try:
        async with postgres(DATABASE, directory) as server:
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def both(database: Postgres) -> AsyncIterator[Sequence[Pod]]:
    async with pods(f"{NETWORK}.17", 2, started=False) as made:
        for pod in made:
            pod.database(**database.secret)
        yield made


@contextlib.asynccontextmanager
async def running(both: Sequence[Pod]) -> AsyncIterator[list[Operator]]:
    """Both are started and know each other; all of it ends with the block."""
    peers = tuple(pod.peer for pod in both)
    for pod in both:
        pod.start()
    async with both[0].linked() as first, both[1].linked() as second:
        for pod, operator, role in zip(both, (first, second), ("primary", "member"), strict=True):
            await operator.configure(WANTED, peers)
            await operator.role(role)
            await until(pod.ready, f"{pod.name} is open")
        yield [first, second]
    for pod in both:
        pod.end()


async def saved(database: Postgres, *users: str) -> None:
    """It has these users' contacts, and no others."""

    async def there() -> bool:
        return [row["aor"] for row in await database.rows()] == [f"{user}@pool.invalid" for user in sorted(users)]

    await until(there, f"the database has {users}")


async def test_registrations_outlive_all_proxies(both: Sequence[Pod], database: Postgres) -> None:
    """What clients registered with either proxy is there when all proxies have ended and new ones start; what they took
    out is not.
    """
    async with Phone.at(CLIENT) as alice, Phone.at(CLIENT) as bob:
        async with running(both):
            assert await registered(alice, both[0])
            user = "sip:bob@edge.voice.svc"
            for cseq, more in ((1, ""), (2, ";expires=0"), (3, "")):
                contact = f'<{bob.uri}>;+sip.instance="<urn:uuid:1>"{more}'
                await register_as(bob, both[1], user, contact, cseq)
                await saved(database, *(["alice"] if more else ["alice", "bob"]))
            before = known(both[0])
            assert set(before) == {"alice@pool.invalid", "bob@pool.invalid"}
        async with running(both):
            assert known(both[0]) == known(both[1]) == before
            contacts = both[0].proxy.control("ul.lookup", "location", "bob@pool.invalid")["Contacts"]
            (contact,) = (one["Contact"] for one in contacts)
            assert (contact["Address"], contact["Instance"], contact["CSeq"]) == (bob.uri, "<urn:uuid:1>", 3)
            assert 200 < contact["Expires"] <= 300
            await register_as(bob, both[0], user, f'<{bob.uri}>;+sip.instance="<urn:uuid:1>";expires=0', 4)
            await saved(database, "alice")


async def register_as(phone: Phone, pod: Pod, user: str, contact: str, cseq: int) -> None:
    answer = await register(phone, pod.proxy, contact=contact, call_id="of-bob", cseq=cseq, to=user)
    assert answer.status == 200


async def test_a_database_that_goes_away(both: Sequence[Pod], database: Postgres) -> None:
    """Clients register all the while; it is told, and the database has it all once it is back, also when the agent has
    started anew meanwhile.
    """
    async with Phone.at(CLIENT) as alice, running(both):
        assert await registered(alice, both[0])
        await saved(database, "alice")
        assert "switchboard_proxy_database_up" in await metrics(both[0])
        database.stop()
        for number in range(30):
            user = f"sip:user{number:02}@edge.voice.svc"
            assert (await register(alice, both[0].proxy, call_id=f"{number}", to=user)).status == 200
        await until(lambda: "the database of the locations" in both[0].log.read_text(), "the agent says so")
        assert await value(both[0]) == 0
        both[0].stop_agent()
        both[0].start_agent()
        await database.start()
        async with both[0].linked() as operator:
            await operator.configure(WANTED, tuple(pod.peer for pod in both))
            await saved(database, "alice", *(f"user{number:02}" for number in range(30)))
        await until(lambda: value(both[0]), "it is up again")


async def test_a_pool_that_starts_without_it(both: Sequence[Pod], database: Postgres) -> None:
    """Proxies open after a few seconds, and know what it has once it comes."""
    async with Phone.at(CLIENT) as alice:
        async with running(both):
            assert await registered(alice, both[0])
            await saved(database, "alice")
        database.stop()
        async with running(both):
            assert known(both[0]) == {}
            await database.start()
            await until(lambda: known(both[0]) == known(both[1]) != {}, "they know")


async def test_a_proxy_that_is_taught_does_not_ask_it(both: Sequence[Pod]) -> None:
    """One that starts beside another, which knows all, is told by that."""
    async with one_after_the_other(both, WANTED):
        assert both[1].proxy.control.number("ctl", "restore") == 0


async def test_its_secret_changes(both: Sequence[Pod], database: Postgres) -> None:
    """What cannot be used changes nothing, and is told without what stands there; another password is in effect
    soon.
    """
    async with Phone.at(CLIENT) as alice, running(both):
        assert await registered(alice, both[0])
        await saved(database, "alice")
        both[0].database(host=DATABASE, username="secretive")
        await until(lambda: f"Secret {SECRET}: it has no uri" in both[0].log.read_text(), "what is wrong is told")
        assert "secretive" not in both[0].log.read_text()
        user = "sip:bob@edge.voice.svc"
        assert (await register(alice, both[0].proxy, call_id="bob", to=user)).status == 200
        await saved(database, "alice", "bob")
        both[0].database(**{**database.secret, "password": "wrong"})
        await until(lambda: "password authentication failed" in both[0].log.read_text(), "it is refused")
        assert (await register(alice, both[0].proxy, call_id="carol", to="sip:carol@edge.voice.svc")).status == 200
        both[0].database(**database.secret)
        await saved(database, "alice", "bob", "carol")


async def metrics(pod: Pod) -> str:
    probe = await asyncio.create_subprocess_exec(
        *("curl", "--silent", "--insecure", f"https://{pod.link}/metrics"), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await probe.communicate()
    return out.decode()


async def value(pod: Pod) -> float:
    """Of the metric; -1 where there is none."""
    lines = [line for line in (await metrics(pod)).splitlines() if line.startswith("switchboard_proxy_database_up{")]
    return float(lines[0].split()[-1]) if lines else -1.0
