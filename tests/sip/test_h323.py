"""H.323: calls both ways and with voice through a gateway that speaks it on its other side.

Two real Asterisks, between which all is H.323: one is the gateway, the other one is all that the H.323 network has.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from switchboard.pool.spec import Rewriting, Rights, Route
from tests.sip.test_asterisk import heard, sdp_of
from tests.tools.addresses import CLIENTS, H323, TARGETS
from tests.tools.asterisk import Asterisk, asterisk
from tests.tools.pool import Pool, idle, to
from tests.tools.rtp import Media
from tests.tools.sessions import Incoming
from tests.tools.sip import Phone
from tests.tools.wait import until

GATEWAY, BEYOND = f"{H323}.1", f"{H323}.101"


@pytest.fixture(scope="module")
def beyond() -> Iterator[Asterisk]:
    """In the H.323 network."""
    with asterisk(BEYOND, other=GATEWAY) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(beyond: Asterisk) -> Iterator[Asterisk]:
    """Between that network and the pool."""
    with asterisk(GATEWAY, other=BEYOND) as running:
        yield running


def h323_channels(one: Asterisk) -> list[str]:
    """Its legs of H.323 calls, in its words."""
    return [line for line in one.command("core show channels concise").splitlines() if line.startswith("OOH323/")]


@pytest.mark.client("ooh323", transport="UDP", does=("is called", "media"))
@pytest.mark.parametrize("mode", ["forward", "redirect"])
async def test_a_call_out(pool: Pool, gateway: Asterisk, beyond: Asterisk, mode: str) -> None:
    """A client's call goes on as H.323, with the number as that side writes it; voice goes there and comes back."""
    pool.set(mode=mode)
    pool.table(0, 5)
    own = pool.gateway(
        "h323-1",
        targets=(f"sip:{GATEWAY}:5060",),
        outgoing=Rewriting(plus="remove", prefix="700"),
        codecs=("PCMU", "telephone-event"),
    )
    pool.routes(Route(name="rooms", prefix="+", gateway="h323-1"), gateways=[own])
    async with Phone.at(f"{CLIENTS}.41", user="carol") as carol, Media.at(f"{CLIENTS}.41") as voice:
        call = await carol.call(f"sip:+4930123@{pool.primary.ip}:5060", body=sdp_of(voice), within=15)
        assert call.status == 200
        assert len(h323_channels(gateway)) == 1
        assert ["!004930123!" in leg for leg in h323_channels(beyond)] == [True]
        await heard(voice, call.remote_sdp)
        assert await call.bye() == 200
    await until(lambda: not h323_channels(beyond), "the H.323 call has ended, too")
    await idle(*pool.proxies)


@pytest.mark.client("ooh323", transport="UDP", does=("calls", "media", "hangs up"))
@pytest.mark.parametrize("mode", ["forward", "redirect"])
@pytest.mark.parametrize("ends", ["the H.323 side", "the one called"])
async def test_a_call_in(pool: Pool, gateway: Asterisk, beyond: Asterisk, *, ends: str, mode: str) -> None:
    """Somebody in the H.323 network calls a national number: the pool has it as E.164; voice goes both ways."""
    pool.set(mode=mode)
    pool.table(0, 5)
    pool.gateway("h323-1", incoming=Rewriting(strip=1, prefix="49", plus="add"), rights=Rights(prefixes=("+4930",)))
    pool.routes(to(f"sip:{TARGETS}.41:5060"))
    gateway.command(f"dialplan set global POOL {pool.primary.ip}")
    async with Phone.at(f"{TARGETS}.41", 5060) as dave, Media.at(f"{TARGETS}.41") as voice:

        async def answer(incoming: Incoming) -> None:
            incoming.sdp = sdp_of(voice)
            await incoming.reply(180)
            await incoming.answer()

        dave.script = answer
        beyond.command("channel originate OOH323/0301234@other extension *43@calls")
        call = await dave.expect_call()
        assert call.invite.uri.startswith("sip:+49301234@")
        assert pool.primary.count("redirected") == (mode == "redirect")
        await heard(voice, call.remote_sdp)
        if ends == "the one called":
            assert await call.bye() == 200
        else:
            beyond.command("channel request hangup all")
            await dave.expect("BYE")
    await until(lambda: not h323_channels(beyond), "the H.323 call has ended")
    await idle(*pool.proxies)


async def test_a_number_that_is_not_its_right(pool: Pool, gateway: Asterisk, beyond: Asterisk) -> None:
    """What an H.323 caller may not call is refused, and counted for the gateway; the H.323 call ends."""
    pool.gateway("h323-1", incoming=Rewriting(strip=1, prefix="49", plus="add"), rights=Rights(prefixes=("+4930",)))
    gateway.command(f"dialplan set global POOL {pool.primary.ip}")
    beyond.command("channel originate OOH323/0401234@other extension *43@calls")
    refused = ("refused", "h323-1:prefix")
    await until(lambda: pool.primary.control.number(*refused) == 1, "the call is refused")
    await until(lambda: not h323_channels(gateway) + h323_channels(beyond), "the H.323 call has ended")
