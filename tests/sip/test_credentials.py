"""Gateways that ask the pool for a password: a real Asterisk, and a carrier that looks at each CSeq number."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

from switchboard.pool.spec import Route
from tests.tools.addresses import CHALLENGED, CLIENTS, PSTN, VOIP
from tests.tools.asterisk import Asterisk, asterisk
from tests.tools.pool import Pool, idle
from tests.tools.proxies import Proxy, fleet
from tests.tools.rtp import Media, describe, streams
from tests.tools.sessions import Call, Incoming
from tests.tools.sip import Phone

GATEWAY, CARRIER = f"{PSTN}.31", f"{VOIP}.5"
PASSWORD = "battery-staple"
ASKS = ("Proxy-Authenticate", 'Digest realm="carrier.test", nonce="c0ffee", algorithm=MD5, qop="auth"')


@pytest.fixture(scope="module")
def proxies() -> Iterator[Sequence[Proxy]]:
    """In place of those that have no password anywhere."""
    with fleet(2, CHALLENGED, CREDENTIALS="carriers") as started:
        yield started


@pytest.fixture(scope="module")
def asking() -> Iterator[Asterisk]:
    with asterisk(GATEWAY, password=PASSWORD) as running:
        yield running


@pytest.fixture
async def carrier() -> AsyncIterator[Phone]:
    """It asks for a password, too, and rings."""
    async with Phone.at(CARRIER, 5060, user="carrier") as phone:
        phone.script = ask_and_ring
        yield phone


async def ask_and_ring(call: Incoming) -> None:
    if call.invite.having("Proxy-Authorization"):
        await call.reply(180)
    else:
        await call.reply(407, [ASKS])


def out(pool: Pool, *gateways: str, password: str = PASSWORD, **fields: Any) -> None:
    """Calls go out through these, one after the other; the pool's password at the first is this one."""
    target = {"pstn-1": GATEWAY, "voip-1": CARRIER}
    known = [pool.gateway(name, targets=(f"sip:{target[name]}:5060",), **fields) for name in gateways]
    routes = [Route(name=name, gateway=name, priority=at) for at, name in enumerate(gateways, 1)]
    pool.routes(*routes, gateways=known)
    for proxy in pool.proxies:
        proxy.control.set("own", gateways[0], f"pool:{password}")


async def call(phone: Phone, pool: Pool, within: float = 15) -> Call:
    return await phone.call(f"sip:*43@{pool.primary.ip}:5060", within=within)


def numbers(phone: Phone) -> list[tuple[str, int]]:
    """What arrived, without repetitions."""
    return list(dict.fromkeys((packet.message.method, packet.message.cseq) for packet in phone.log))


@pytest.mark.parametrize("served_by", [0, 1])
async def test_asterisk_asks(pool: Pool, asking: Asterisk, alice: Phone, served_by: int) -> None:
    """Asterisk asks for a password and gets it from the pool; the caller hears nothing of it, and what follows in the
    call is in order.
    """
    out(pool, "pstn-1")
    pool.table(*(10 if at == served_by else 0 for at in range(2)))
    made = await call(alice, pool)
    assert made.status == 200
    assert len(made.path) == 1
    assert "*43" in asking.command("core show channels concise")
    async with Media.at(f"{CLIENTS}.31") as voice:
        assert (await made.request("INVITE", body=voice.sdp)).message.status == 200
        await voice.send(made.remote_sdp, 25, 0.02)
        assert voice.counts()["audio"][1] > 0
    assert await made.bye() == 200
    assert "0 active channels" in asking.command("core show channels")
    await idle(*pool.proxies)


async def test_the_next_gateway_takes_the_call(pool: Pool, asking: Asterisk, alice: Phone, carrier: Phone) -> None:
    """A gateway that does not take our password is passed over, and where there is no other the caller is told so, not
    asked: it has no answer.
    """
    carrier.script = Incoming.answer
    out(pool, "pstn-1", "voip-1", password="guess")
    made = await call(alice, pool)
    assert made.status == 200
    assert await made.bye() == 200
    out(pool, "pstn-1", password="guess")
    refused = await call(alice, pool)
    assert refused.status == 503
    assert refused.final.having("Authenticate") == ()
    await idle(*pool.proxies)


async def test_without_a_password_the_caller_is_asked(pool: Pool, alice: Phone, carrier: Phone) -> None:
    """As with a PBX that asks users itself."""
    out(pool, "voip-1")
    for proxy in pool.proxies:
        proxy.control("htable.flush", "own")
    asked = await call(alice, pool)
    assert (asked.status, asked.final.all("Proxy-Authenticate")) == (407, [ASKS[1]])
    await idle(*pool.proxies)


async def test_numbers_of_a_call(pool: Pool, alice: Phone, carrier: Phone) -> None:
    """Of what the carrier gets each number is one higher than the caller's, in PRACK's RAck as well, and where a
    request within the call is asked for, too, the next ones are two higher; what the caller gets has its own numbers.
    """

    async def ask_and_answer(incoming: Incoming) -> None:
        await ask_and_ring(incoming)
        if not incoming.status:
            await incoming.reliably(183)
            await incoming.answer()

    carrier.script = ask_and_answer
    out(pool, "voip-1")
    made = await alice.dial(f"sip:1@{pool.primary.ip}:5060")
    assert (await made.ringing()).message.cseq == 1
    assert (await made.request("PRACK", [("RAck", "1 1 INVITE")])).message.cseq == 2
    assert await made.result() == 200
    carrier.answers, carrier.answer_headers = {"INFO": 407}, {"INFO": (ASKS,)}
    assert (await made.request("INFO")).message.status == 407
    assert await made.bye() == 200
    inside = [("PRACK", 3), ("ACK", 2), ("INFO", 4), ("INFO", 5), ("BYE", 6)]
    assert sorted(numbers(carrier)) == sorted([("INVITE", 1), ("ACK", 1), ("INVITE", 2), *inside])
    assert carrier.requests("PRACK")[0].message.header("RAck") == "1 2 INVITE"
    assert [packet.message.having("Proxy-Auth") != () for packet in carrier.requests("INFO")] == [False, True]
    theirs = await carrier.expect_call(number=1)
    assert theirs.ended.is_set()
    await idle(*pool.proxies)


@pytest.mark.parametrize("after_a_hand_over", [False, True])
@pytest.mark.parametrize("codecs", [(), ("PCMA", "VP8")])
async def test_asked_once_more_it_gets_the_same(
    pool: Pool, alice: Phone, carrier: Phone, codecs: tuple[str, ...], *, after_a_hand_over: bool
) -> None:
    """But for the password: also where it is offered its codecs alone, and where the call was held for the previous
    primary's word before it was served.
    """
    serving = pool.members[0] if after_a_hand_over else pool.primary
    if after_a_hand_over:
        serving.set(role="primary", prev=pool.primary.uri)
        serving.table([serving.row(5, closed=7)])
    out(pool, "voip-1", codecs=codecs)

    async def ask_and_answer(incoming: Incoming) -> None:
        await ask_and_ring(incoming)
        if not incoming.status:
            incoming.sdp = incoming.sdp.replace("RTP/AVP 0", "RTP/AVP 8").replace("0 PCMU", "8 PCMA")
            await incoming.answer()

    carrier.script = ask_and_answer
    sdp = (
        describe(f"{CLIENTS}.1")
        .replace("RTP/AVP 0", "RTP/AVP 8 0")
        .replace("a=rtpmap:0", "a=rtpmap:8 PCMA/8000\r\na=rtpmap:0")
    )
    made = await alice.call(f"sip:1@{serving.ip}:5060", body=sdp)
    assert made.status == 200
    first, second = (incoming.invite for incoming in carrier.incoming)
    assert second.body == first.body
    assert {ip for ip, _ in streams(second.body).values()} == {serving.ip}
    assert (" 8" in second.body.split("m=audio")[1].split("\r\n")[0], "PCMU" in second.body) == (True, not codecs)
    assert second.all("Record-Route") == first.all("Record-Route") != []
    theirs = carrier.incoming[1]
    assert (await theirs.request("INVITE", body=theirs.sdp)).message.status == 200
    assert await made.bye() == 200
    await idle(*pool.proxies)


async def test_given_up_and_refused(pool: Pool, alice: Phone, carrier: Phone) -> None:
    """CANCEL, and the ACK to a refusal, fit the request that had the password."""
    out(pool, "voip-1")
    made = await alice.dial(f"sip:1@{pool.primary.ip}:5060")
    await made.ringing()
    assert await made.cancel() == 200
    assert await made.result() == 487
    assert carrier.incoming[1].cancelled.is_set()

    async def ask_and_refuse(incoming: Incoming) -> None:
        await ask_and_ring(incoming)
        await incoming.reply(486)

    carrier.script = ask_and_refuse
    assert (await call(alice, pool)).status == 486
    each = [("INVITE", 1), ("ACK", 1), ("INVITE", 2), ("CANCEL", 2), ("ACK", 2)]
    assert sorted(numbers(carrier)) == sorted(each)
    branches = {packet.message.branch for packet in carrier.requests("ACK")}
    assert branches == {packet.message.branch for packet in carrier.requests("INVITE")}
    await idle(*pool.proxies)
