"""A real Asterisk behind the pool: a PBX whose users register and call through it, and a gateway in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from switchboard.pool.spec import Rewriting, Rights, Route
from tests.tools.addresses import CLIENTS, PSTN, TARGETS
from tests.tools.asterisk import Asterisk, asterisk
from tests.tools.pool import ALIAS, Pool, idle, to
from tests.tools.rtp import Media
from tests.tools.sessions import Call, Incoming
from tests.tools.sip import Phone
from tests.tools.wait import until

PBX = f"{TARGETS}.31"
GATEWAY = f"{PSTN}.31"
PACKETS = 25


@pytest.fixture(scope="module")
def pbx() -> Iterator[Asterisk]:
    with asterisk(PBX, ("alice", "bob")) as running:
        yield running


@pytest.fixture(scope="module")
def gateway() -> Iterator[Asterisk]:
    with asterisk(GATEWAY) as running:
        yield running


@pytest.fixture
async def voice() -> AsyncIterator[Media]:
    """Of a caller; what it sends is to come back."""
    async with Media.at(f"{CLIENTS}.31") as media:
        yield media


async def heard(media: Media, sdp: str) -> None:
    """Voice goes there and comes back: Asterisk relays in its own packets, so they are counted, not compared."""
    await media.send(sdp, PACKETS, 0.02)
    await until(lambda: media.counts()["audio"][1] >= PACKETS // 2, "voice comes back")


def sdp_of(media: Media) -> str:
    """Voice alone."""
    return media.sdp.partition("m=video")[0]


async def register(phone: Phone, pool: Pool) -> None:
    where, supported = (pool.primary.ip, 5060), [("Supported", "path")]
    user = f"sip:{phone.user}@{ALIAS}"
    options = {"from_uri": user, "to_uri": user}
    answer = await (await phone.request("REGISTER", f"sip:{ALIAS}", to=where, headers=supported, **options)).final()  # type: ignore[arg-type]  # texts
    assert answer.message.status == 200


async def call(phone: Phone, pool: Pool, user: str, media: Media) -> Call:
    own = f"sip:{phone.user}@{ALIAS}"
    return await phone.call(f"sip:{user}@{pool.primary.ip}:5060", body=sdp_of(media), from_uri=own, within=15)


@pytest.mark.parametrize("served_by", [0, 1])
async def test_users_of_a_pbx_call_each_other(pool: Pool, pbx: Asterisk, voice: Media, served_by: int) -> None:
    """Both register with Asterisk through the pool; one calls the other, who is reached by the Path; with voice."""
    pool.routes(to(f"sip:{PBX}:5060"))
    pool.table(*(10 if at == served_by else 0 for at in range(3)))
    async with (
        Phone.at(f"{CLIENTS}.31", user="alice") as alice,
        Phone.at(f"{CLIENTS}.32", user="bob") as bob,
        Media.at(f"{CLIENTS}.32", echo=True) as theirs,
    ):

        async def answer(incoming: Incoming) -> None:
            incoming.sdp = sdp_of(theirs)
            await incoming.reply(180)
            await incoming.answer()

        bob.script = answer
        await register(alice, pool)
        await register(bob, pool)
        assert pbx.command("pjsip show contacts").count("sip:") == 2
        made = await call(alice, pool, "bob", voice)
        assert made.status == 200
        await heard(voice, made.remote_sdp)
        assert await made.bye() == 200
        await bob.expect("BYE")
    await idle(*pool.proxies)


async def test_echo_behind_a_gateway(pool: Pool, gateway: Asterisk, voice: Media) -> None:
    """A client's call goes out through Asterisk with the number as it writes it, with its codec alone, and is heard."""
    own = pool.gateway(
        "pstn-1",
        targets=(f"sip:{GATEWAY}:5060",),
        outgoing=Rewriting(plus="remove", prefix="00"),
        codecs=("PCMU", "telephone-event"),
    )
    pool.routes(Route(name="out", prefix="+", gateway="pstn-1"), gateways=[own])
    async with Phone.at(f"{CLIENTS}.31", user="carol") as carol:
        made = await call(carol, pool, "+4930123", voice)
        assert made.status == 200
        assert "004930123" in gateway.command("core show channels concise")
        await heard(voice, made.remote_sdp)
        assert await made.bye() == 200
    await idle(*pool.proxies)


async def test_calls_in_from_a_gateway(pool: Pool, gateway: Asterisk) -> None:
    """Asterisk calls a national number: the pool has it as E.164, the PBX answers; what is not its right is refused."""
    pool.gateway(
        "pstn-1",
        incoming=Rewriting(strip=1, prefix="49", plus="add"),
        rights=Rights(prefixes=("+4930",), register=False, max_calls_per_second=10),
    )
    pool.routes(to(f"sip:{TARGETS}.32:5060"))
    async with Phone.at(f"{TARGETS}.32", 5060, user="dave") as dave:
        originate = f"channel originate PJSIP/pool/sip:{{}}@{pool.primary.ip}:5060 extension *43@calls"
        gateway.command(originate.format("0301234"))
        incoming = await dave.expect_call()
        assert incoming.invite.uri.startswith("sip:+49301234@")
        await asyncio.wait_for(incoming.acked.wait(), 5)
        assert await incoming.bye() == 200
        gateway.command(originate.format("0401234"))
        counted = ("refused", "pstn-1:prefix")
        await until(lambda: pool.primary.control.number(*counted) == 1, "the number that is not its right is refused")
        assert len(dave.incoming) == 1
    await idle(*pool.proxies)
