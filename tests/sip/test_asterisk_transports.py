"""A real Asterisk as a gateway over UDP, TCP and TLS, in both modes: it follows a 302."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from switchboard.pool.spec import Route
from tests.sip.test_asterisk import call, heard, sdp_of
from tests.tools.addresses import CLIENTS, PSTN, TARGETS, TRUNKING
from tests.tools.asterisk import Asterisk, asterisk
from tests.tools.certificates import Authority
from tests.tools.listeners import PORTS, SECRET
from tests.tools.pool import Pool, idle, to
from tests.tools.proxies import Proxy, fleet
from tests.tools.rtp import Media
from tests.tools.sessions import Incoming
from tests.tools.sip import Phone
from tests.tools.transport import Protocol
from tests.tools.wait import until

GATEWAY, CALLED = f"{PSTN}.34", f"{TARGETS}.34"
LISTEN = f"udp:5060 tcp:5060 tls:5061/{SECRET}"


@pytest.fixture(scope="module")
def proxies(authority: Authority) -> Iterator[Sequence[Proxy]]:
    """In place of those without TLS."""
    with fleet(2, TRUNKING, secrets={SECRET: authority.secret()}, LISTEN=LISTEN, TARGET_TLS=SECRET) as started:
        yield started


@pytest.fixture(scope="module")
def gateway(authority: Authority) -> Iterator[Asterisk]:
    with asterisk(GATEWAY, secret=authority.secret("gateway.test")) as running:
        yield running


@pytest.mark.client("Asterisk", does=("calls", "is called", "media", "hangs up"))
@pytest.mark.parametrize("mode", ["forward", "redirect"])
@pytest.mark.parametrize("protocol", ["udp", "tcp", "tls"])
async def test_both_directions(pool: Pool, gateway: Asterisk, protocol: Protocol, mode: str) -> None:
    """It calls somebody behind the pool, and hangs up; a client calls it; each with voice that comes back."""
    pool.set(mode=mode)
    pool.table(0, 5)
    way = f"{PORTS[protocol]};transport={protocol}"
    own = pool.gateway("pstn-1", targets=(f"sip:{GATEWAY}:{way}",))
    pool.routes(Route(name="out", prefix="00", gateway="pstn-1"), to(f"sip:{CALLED}:5060"), gateways=[own])
    async with Phone.at(CALLED, 5060, user="dave") as dave, Media.at(CALLED) as voice:

        async def answer(incoming: Incoming) -> None:
            incoming.sdp = sdp_of(voice)
            await incoming.answer()

        dave.script = answer
        originate = f"channel originate PJSIP/pool/sip:+4930123@{pool.primary.ip}:{way} extension *43@calls"
        await asyncio.to_thread(gateway.command, originate)
        incoming = await dave.expect_call()
        await until(incoming.acked.is_set, "the ACK")
        assert incoming.served_by == pool.members[0].ip
        assert pool.primary.count("redirected") == (mode == "redirect" and protocol != "tls")
        await heard(voice, incoming.remote_sdp)
        gateway.command("channel request hangup all")
        await until(incoming.ended.is_set, "a BYE")
    async with Phone.at(f"{CLIENTS}.34", user="carol") as carol, Media.at(f"{CLIENTS}.34") as voice:
        made = await call(carol, pool, "004930123", voice)
        assert made.status == 200
        await heard(voice, made.remote_sdp)
        assert await made.bye() == 200
    await idle(*pool.proxies)
