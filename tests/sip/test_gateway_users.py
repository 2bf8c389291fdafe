"""Gateways that are known by the password of a user, alone or together with their network or certificate."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from switchboard.pool.spec import Gateway, Rewriting, Rights
from tests.tools.addresses import CLIENTS, PSTN, STRANGERS, TARGETS, VOIP
from tests.tools.asterisk import USER, asterisk
from tests.tools.digest import REALM, challenges, credentials
from tests.tools.message import Message
from tests.tools.pool import ALIAS, Pool, idle, to
from tests.tools.sessions import Call
from tests.tools.sip import Phone
from tests.tools.wait import until

PASSWORD = "battery-staple"
ANYBODY = "sip:+4940555@carrier.example.test"  # whom a trunk's calls are from
ASSERTED = ("P-Asserted-Identity", "<sip:+4940555@carrier.example.test>")
NUMBERS = Rewriting(strip=1, prefix="49", plus="add")


@pytest.fixture
def pool(pool: Pool) -> Pool:
    """It asks; trunk-1 is a gateway from anywhere among the clients, alice a phone."""
    pool.asks(USER, "alice", password=PASSWORD)
    trunk(pool, rights=Rights(prefixes=("+4930",), register=False), incoming=NUMBERS)
    return pool


def trunk(pool: Pool, name: str = "trunk", **fields: Any) -> None:
    """The gateway whose user is trunk-1."""
    known = Gateway(name=name, kind="pstn", username=USER, **fields)
    pool.routes(to(f"sip:{TARGETS}.1:5060"), gateways=[known])


async def call(
    phone: Phone, pool: Pool, number: str, *, user: str = USER, password: str = PASSWORD, proxy: int = 0
) -> Call:
    """A call by that user, from anybody, after the challenge that it gets."""
    uri = f"sip:{number}@{pool.proxies[proxy].ip}:5060"
    asked = await phone.call(uri, from_uri=ANYBODY)
    if asked.status != 407:
        return asked
    proof = credentials(challenges(asked.final)[0], "INVITE", uri, password, user=user)
    return await phone.call(uri, from_uri=ANYBODY, headers=[proof, ASSERTED])


async def register(phone: Phone, pool: Pool, of: str) -> Message:
    """trunk-1 registers that user."""
    where, own = f"sip:{ALIAS}", f"sip:{of}@{REALM}"
    options: Any = {"to": (pool.primary.ip, 5060), "from_uri": own, "to_uri": own}
    asked = (await (await phone.request("REGISTER", where, **options)).final()).message
    proof = credentials(challenges(asked)[0], "REGISTER", where, PASSWORD, user=USER)
    return (await (await phone.request("REGISTER", where, headers=[proof], **options)).final()).message


def refused(pool: Pool, gateway: str, reason: str) -> int:
    return sum(proxy.control.number("refused", f"{gateway}:{reason}") for proxy in pool.proxies)


@pytest.mark.parametrize("mode", ["forward", "redirect"])
@pytest.mark.parametrize("proxy", [0, 1])
async def test_known_by_its_password(pool: Pool, pbx: Phone, mode: str, proxy: int) -> None:
    """Whoever has the password, at an address of a client, is the gateway: its calls are from whom it says, their
    numbers are rewritten, the rights are its own, at whatever proxy; and what proves it goes no further.
    """
    trunk(pool, rights=Rights(prefixes=("+4930",), register=False), incoming=NUMBERS, mode=mode)
    pool.table(0, 0, 10)
    async with Phone.at(f"{CLIENTS}.7") as phone:
        made = await call(phone, pool, "0301234", proxy=proxy)
        assert made.status == 200
        assert len(made.path) == (2 if mode == "redirect" and proxy == 0 else 1)
        assert await made.bye() == 200
        assert (await call(phone, pool, "0401234", proxy=proxy)).status == 403
        assert (await register(phone, pool, USER)).status == 403
    arrived = pbx.incoming[0].invite
    assert arrived.uri.startswith("sip:+49301234@")
    assert arrived.header("From").startswith(f"<{ANYBODY}>")
    assert arrived.all("P-Asserted-Identity") == [ASSERTED[1]]
    assert arrived.having("Proxy-Auth") == ()
    assert (refused(pool, "trunk", "prefix"), refused(pool, "trunk", "register")) == (1, 1)
    assert len(pbx.incoming) == 1
    await idle(*pool.proxies)


async def test_asterisk_is_asked(pool: Pool, pbx: Phone) -> None:
    """Asterisk as a PBX with a password: it is asked, answers, and is the gateway, with its numbers and rights."""
    with asterisk(f"{CLIENTS}.31", password=PASSWORD) as running:
        originate = f"channel originate PJSIP/pool/sip:{{}}@{pool.primary.ip}:5060 extension *43@calls"
        running.command(originate.format("0301234"))
        incoming = await pbx.expect_call()
        assert incoming.invite.uri.startswith("sip:+49301234@")
        await asyncio.wait_for(incoming.acked.wait(), 5)
        assert await incoming.bye() == 200
        running.command(originate.format("0401234"))
        await until(lambda: refused(pool, "trunk", "prefix") == 1, "the number that is not its right is refused")
    await idle(*pool.proxies)


async def test_asked_before_anything_is_done(pool: Pool, pbx: Phone) -> None:
    """Nothing is kept of a call whose sender has not proven who it is, nor of one with a wrong password, which is
    counted by gateway; a phone's own password gives no gateway's rights.
    """
    before = pool.primary.control("tm.stats")["total"]
    async with Phone.at(f"{CLIENTS}.7") as phone:
        assert (await phone.call(f"sip:0301234@{pool.primary.ip}:5060", from_uri=ANYBODY)).status == 407
        assert (await call(phone, pool, "0301234", password="guess")).status == 407
        assert (await call(phone, pool, "0301234", user="alice")).status == 403
    assert refused(pool, "trunk", "credentials") == 1
    assert pool.primary.control("tm.stats")["total"] == before
    assert pool.count("assigned") == pool.count("admitted") == 0
    assert pool.primary.control.dump("ast") == {}
    assert pbx.log == []


async def test_calls_per_second(pool: Pool, pbx: Phone) -> None:
    """Its limits hold as any gateway's."""
    trunk(pool, rights=Rights(max_calls_per_second=1))
    async with Phone.at(f"{CLIENTS}.7") as phone:
        calls = [await call(phone, pool, "1") for _ in range(8)]
        assert {made.status for made in calls} == {200, 503}
        assert {await made.bye() for made in calls if made.status == 200} == {200}
    assert refused(pool, "trunk", "rate") == sum(made.status == 503 for made in calls)


async def test_registers_whom_it_likes(pool: Pool, pbx: Phone) -> None:
    """With the right to, as a router does for its phones."""
    trunk(pool)
    async with Phone.at(f"{CLIENTS}.7") as phone:
        assert (await register(phone, pool, "desk-7")).status == 200
    assert pbx.requests("REGISTER")[0].message.header("To") == f"<sip:desk-7@{REALM}>"


async def test_network_and_password(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A gateway with both has to come from there and prove who it is: its address alone is asked, its password from
    elsewhere is refused, and so is a phone's from there; strangers get nothing, and others' networks prove nothing.
    """
    trunk(pool, name="pstn-1", networks=(f"{PSTN}.0/24",))
    async with Phone.at(f"{PSTN}.1") as own, Phone.at(f"{VOIP}.1") as other, Phone.at(f"{STRANGERS}.1") as stranger:
        bare = await own.call(pool.uri, from_uri=ANYBODY, headers=[ASSERTED])
        assert bare.status == 407
        made = await call(own, pool, "echo")
        assert made.status == 200
        assert await made.bye() == 200
        assert (await call(own, pool, "echo", user="alice")).status == 403
        assert (await call(own, pool, "echo", password="guess")).status == 407
        assert (await call(alice, pool, "echo")).status == 403
        free = await call(other, pool, "echo")
        assert free.status == 200
        assert await free.bye() == 200
        await stranger.request("INVITE", pool.uri, resend=False)
        await until(lambda: pool.count("denied") == 1, "it is refused in silence")
        assert stranger.log == []
    assert refused(pool, "pstn-1", "credentials") == 3
    assert pbx.incoming[0].invite.all("P-Asserted-Identity") == [ASSERTED[1]]
    assert len(pbx.incoming) == 2
    await idle(*pool.proxies)


async def test_without_users_it_is_nobody(pool: Pool, pbx: Phone) -> None:
    """A proxy that asks nobody, for it was made before the pool had users, knows no such gateway: from a client network
    it is a client, from its own a stranger.
    """
    trunk(pool, name="pstn-1", networks=(f"{PSTN}.0/24",))
    pool.set(realm="")
    async with Phone.at(f"{PSTN}.1") as own, Phone.at(f"{CLIENTS}.7") as phone:
        await own.request("INVITE", pool.uri, resend=False)
        await until(lambda: pool.count("denied") == 1, "it is refused in silence")
        assert own.log == []
        made = await call(phone, pool, "echo")
        assert made.status == 200
        assert await made.bye() == 200
    assert len(pbx.incoming) == 1
