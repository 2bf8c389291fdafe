"""SRTP with keys in the SDP (SDES), over TLS alone: offered by a phone, or to a phone or gateway that insists on it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Sequence

import pytest

from switchboard.pool.spec import Route
from tests.fuzz.run import media_sessions
from tests.sip.test_asterisk import call, heard
from tests.sip.test_listeners import assert_plain
from tests.sip.test_register import hop_of
from tests.sip.test_registrar import contacts
from tests.tools import answers
from tests.tools.addresses import CLIENTS, ENCRYPTED, PSTN
from tests.tools.asterisk import Asterisk, asterisk
from tests.tools.certificates import Authority
from tests.tools.listeners import LISTEN, PORTS, SECRET, uri
from tests.tools.pool import ALIAS, Pool, idle, to
from tests.tools.proxies import Proxy, fleet
from tests.tools.rtp import Media, describe, streams
from tests.tools.sessions import Incoming
from tests.tools.sip import Phone
from tests.tools.wait import until

GATEWAY, UNASKED, PASSWORD = f"{PSTN}.35", f"{PSTN}.36", "battery-staple"
KEY = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj"


@pytest.fixture(scope="module")
def proxies(authority: Authority) -> Iterator[Sequence[Proxy]]:
    """In place of those without TLS; they have a password at gateways."""
    secrets = {SECRET: authority.secret()}
    with fleet(2, ENCRYPTED, secrets=secrets, LISTEN=LISTEN, TARGET_TLS=SECRET, CREDENTIALS="carriers") as started:
        yield started


@pytest.fixture(scope="module")
def gateways(authority: Authority) -> Iterator[dict[str, Asterisk]]:
    """Both insist on SRTP; one asks for a password as well."""
    secret = authority.secret("gateway.test")
    with (
        asterisk(GATEWAY, password=PASSWORD, secret=secret, encrypted=True) as asking,
        asterisk(UNASKED, secret=secret, encrypted=True) as other,
    ):
        yield {GATEWAY: asking, UNASKED: other}


def with_keys(sdp: str) -> str:
    return sdp.replace("RTP/AVP", "RTP/SAVP").replace("a=sendrecv", f"{KEY}\r\na=sendrecv")


def assert_keys(sdp: str) -> None:
    assert sdp.count(" RTP/SAVP ") == sdp.count("a=crypto:") == len(streams(sdp)) == 2
    for word in ("a=fingerprint", "a=setup", "a=candidate", "a=rtcp-mux"):
        assert word not in sdp


async def insist(call: Incoming) -> None:
    """Takes SRTP alone."""
    if " RTP/AVP " in call.remote_sdp:
        await call.reply(488)
    else:
        call.sdp = with_keys(call.sdp)
        await answers.ring_then_answer(call)


async def register(phone: Phone, pool: Pool, user: str) -> None:
    where = (pool.primary.ip, PORTS[phone.endpoint.protocol])
    supported = [("Supported", "path")]
    sent = await phone.request("REGISTER", f"sip:{ALIAS}", to=where, to_uri=user, headers=supported)
    assert (await sent.final()).message.status == 200


async def test_keys_in_an_offer_go_no_further(pool: Pool, pbx: Phone, trusting: ssl.SSLContext) -> None:
    """A TLS phone that offers SRTP by keys in its SDP (SDES) is answered so, and offered so within the call; the
    target, over UDP, gets plain RTP.
    """
    async with Phone.at(f"{CLIENTS}.9", protocol="tls", tls=trusting) as carol:
        offer = with_keys(describe(f"{CLIENTS}.9"))
        call = await carol.call(uri(pool.primary, "tls"), body=offer)
        assert call.status == 200
        assert_plain(pbx.incoming[0].remote_sdp)
        assert_keys(call.remote_sdp)
        incoming = pbx.incoming[0]
        assert (await incoming.request("INVITE", body=incoming.sdp)).message.status == 200
        assert_keys(call.remote_sdp)
        assert (await call.request("INVITE", body=offer)).message.status == 200
        assert_plain(incoming.remote_sdp)
        assert await call.bye() == 200
    await idle(*pool.proxies)


@pytest.mark.parametrize("registrar", ["the PBX", "the pool"])
@pytest.mark.parametrize("serving", ["the primary", "another proxy"])
async def test_a_phone_that_insists(
    pool: Pool, pbx: Phone, alice: Phone, trusting: ssl.SSLContext, *, serving: str, registrar: str
) -> None:
    """It refuses plain RTP and is asked once more, with keys, over its connection, whichever proxy has that; who calls
    has plain RTP, and both offer again within the call.
    """
    pool.table(*((5, 0) if serving == "the primary" else (0, 5)))
    if registrar == "the pool":
        pool.set(registrar=1, learned=1)
    user = f"sip:desk@{ALIAS}"
    async with Phone.at(f"{CLIENTS}.9", protocol="tls", tls=trusting, user="desk") as desk:
        desk.script = insist
        await register(desk, pool, user)
        if registrar == "the pool":
            for proxy in pool.proxies:
                await until(lambda proxy=proxy: contacts(proxy, "desk@pool.invalid") == [desk.uri], proxy.name)
            made = await alice.call(user, to=(pool.primary.ip, 5060))
        else:
            path = pbx.requests("REGISTER")[0].message.all("Path")
            made = await pbx.call(desk.uri, to=hop_of(path[0]), headers=[("Route", entry) for entry in path])
        assert made.status == 200
        refused, taken = desk.incoming
        assert_plain(refused.remote_sdp)
        assert_keys(taken.remote_sdp)
        assert_plain(made.remote_sdp)
        assert (await made.request("INVITE", body=made.sdp)).message.status == 200
        assert_keys(taken.remote_sdp)
        assert (await taken.request("INVITE", body=taken.sdp)).message.status == 200
        assert_plain(made.remote_sdp)
        assert await made.bye() == 200
    await idle(*pool.proxies)
    for proxy in pool.proxies:
        await until(lambda proxy=proxy: media_sessions(proxy) == 0, "no media session is left")


async def test_a_phone_over_tls_that_refuses(pool: Pool, alice: Phone, trusting: ssl.SSLContext) -> None:
    """Whatever it is offered: it is asked twice, and who calls is told."""
    pool.set(registrar=1, learned=1)
    pool.table(5)
    async with Phone.at(f"{CLIENTS}.9", protocol="tls", tls=trusting, user="desk") as desk:
        desk.script = answers.refuse(488)
        await register(desk, pool, f"sip:desk@{ALIAS}")
        made = await alice.call(f"sip:desk@{ALIAS}", to=(pool.primary.ip, 5060))
        assert made.status == 488
        assert len(desk.incoming) == 2
    await idle(*pool.proxies)
    await until(lambda: media_sessions(pool.primary) == 0, "no media session is left")


async def test_no_keys_go_over_udp(pool: Pool, alice: Phone) -> None:
    """A phone there that insists is not offered any."""
    pool.set(registrar=1, learned=1)
    pool.table(5)
    async with Phone.at(f"{CLIENTS}.9", user="desk") as desk:
        desk.script = insist
        await register(desk, pool, f"sip:desk@{ALIAS}")
        assert (await alice.call(f"sip:desk@{ALIAS}", to=(pool.primary.ip, 5060))).status == 488
        assert len(desk.incoming) == 1
    await idle(*pool.proxies)


@pytest.mark.parametrize("winner", ["desk", "plain", "phone"])
async def test_phones_of_one_user(pool: Pool, alice: Phone, trusting: ssl.SSLContext, winner: str) -> None:
    """One insists, one over TLS does not know SRTP, one has UDP: all ring, and whoever answers has what it can take."""
    pool.set(registrar=1, learned=1)
    pool.table(5)
    user = f"sip:desk@{ALIAS}"
    async with (
        Phone.at(f"{CLIENTS}.9", protocol="tls", tls=trusting, user="desk") as desk,
        Phone.at(f"{CLIENTS}.10", protocol="tls", tls=trusting, user="plain") as plain,
        Phone.at(f"{CLIENTS}.11", user="phone") as phone,
    ):
        ringing: set[str] = set()
        all_ring = asyncio.Event()

        async def script(call: Incoming) -> None:
            if call.phone is desk and " RTP/AVP " in call.remote_sdp:
                await call.reply(488)
                return
            await call.reply(180)
            ringing.add(call.phone.user)
            if call.phone.user == winner:
                await all_ring.wait()
                if call.phone is desk:
                    call.sdp = with_keys(call.sdp)
                await call.answer()

        for one in (desk, plain, phone):
            one.script = script
            await register(one, pool, user)
        made = await alice.dial(user, to=(pool.primary.ip, 5060))
        await until(lambda: len(ringing) == 3, "all ring")
        await until(lambda: sum(p.message.status == 180 for p in alice.log) == 3, "and the caller is told")
        all_ring.set()
        assert await made.result() == 200
        assert_plain(made.remote_sdp)
        last = {one.user: one.incoming[-1] for one in (desk, plain, phone)}
        assert_keys(last["desk"].invite.body)
        assert_plain(last["plain"].invite.body)
        assert_plain(last["phone"].invite.body)
        await until(lambda: sum(one.cancelled.is_set() for one in last.values()) == 2, "the others are cancelled")
        assert (await made.request("INVITE", body=made.sdp)).message.status == 200
        (assert_keys if winner == "desk" else assert_plain)(last[winner].remote_sdp)
        assert (await last[winner].request("INVITE", body=last[winner].sdp)).message.status == 200
        assert_plain(made.remote_sdp)
        assert await made.bye() == 200
    await idle(*pool.proxies)
    await until(lambda: media_sessions(pool.primary) == 0, "no media session is left")


@pytest.mark.parametrize("ip", [GATEWAY, UNASKED], ids=["with a password", "with none"])
async def test_a_gateway_that_insists(pool: Pool, gateways: dict[str, Asterisk], ip: str) -> None:
    """Asterisk with media_encryption=sdes over TLS, in both directions; who talks to it has plain RTP. It is the second
    of two targets: the first one refuses the call, over UDP.
    """
    way = f"{PORTS['tls']};transport=tls"
    async with (
        Phone.at(f"{PSTN}.37", 5060, user="busy") as busy,
        Phone.at(f"{CLIENTS}.34", user="carol") as carol,
        Media.at(f"{CLIENTS}.34") as voice,
    ):
        busy.script = answers.refuse(503)
        own = pool.gateway("pstn-1", targets=(f"sip:{PSTN}.37:5060", f"sip:{ip}:{way}"))
        pool.routes(Route(name="out", prefix="00", gateway="pstn-1"), to(carol.uri), gateways=[own])
        for proxy in pool.proxies:
            proxy.control.set("own", "pstn-1", f"pool:{PASSWORD}")
        made = await call(carol, pool, "004930123", voice)
        assert made.status == 200
        assert_plain_voice(made.remote_sdp)
        await heard(voice, made.remote_sdp)
        assert (await made.request("INVITE", body=made.sdp)).message.status == 200
        await heard(voice, made.remote_sdp)
        assert await made.bye() == 200
        assert [incoming.status for incoming in busy.incoming] == [503]

        async def answer(incoming: Incoming) -> None:
            incoming.sdp = made.sdp
            await incoming.answer()

        carol.script = answer
        originate = f"channel originate PJSIP/pool/sip:+4930123@{pool.primary.ip}:{way} extension *43@calls"
        await asyncio.to_thread(gateways[ip].command, originate)
        incoming = await carol.expect_call()
        await until(incoming.acked.is_set, "the ACK")
        assert_plain_voice(incoming.remote_sdp)
        await heard(voice, incoming.remote_sdp)
        assert await incoming.bye() == 200
    await idle(*pool.proxies)


def assert_plain_voice(sdp: str) -> None:
    assert sdp.count(" RTP/AVP ") == 1
    assert "a=crypto" not in sdp
