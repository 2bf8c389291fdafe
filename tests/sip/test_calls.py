"""Calls from set-up to tear-down, forwarded and redirected."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

from tests.tools import answers
from tests.tools.addresses import CLIENTS, PEER
from tests.tools.message import hop, parameter
from tests.tools.pool import ALIAS, TICK, Pool, contact, idle, token
from tests.tools.sessions import Incoming
from tests.tools.sip import Phone
from tests.tools.wait import until

Mode = Literal["forward", "redirect"]
MODES = pytest.mark.parametrize("mode", ["forward", "redirect"])


async def test_forward(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """The primary forwards a call to a proxy below the threshold, which serves it; the client sees an ordinary call."""
    pool.table(0, 5, 5)
    call = await alice.call(pool.uri)
    assert call.path == [(pool.primary.ip, 200)]
    assert pbx.incoming[0].served_by == pool.members[0].ip
    assert [pool.primary.calls, pool.members[0].calls, pool.members[1].calls] == [0, 1, 0]
    assert (pool.primary.count("forwarded"), pool.members[0].count("admitted")) == (1, 1)
    assert await call.bye() == 200
    await idle(pool.members[0])


async def test_redirect(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """With 302 the client is given the identity of a proxy below the threshold, and calls that one."""
    pool.set(mode="redirect")
    pool.table(0, 5, 5)
    call = await alice.call(pool.uri)
    assert call.path == [(pool.primary.ip, 302), (pool.members[0].ip, 200)]
    assert pbx.incoming[0].served_by == pool.members[0].ip
    assert (pool.primary.count("redirected"), pool.members[0].count("admitted")) == (1, 1)
    assert await call.bye() == 200
    await idle(pool.members[0])


async def test_primary_serves(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """The primary is a proxy like the others: it serves a call when the table says so."""
    pool.table(5, 0, 0)
    call = await alice.call(pool.uri)
    assert call.status == 200
    assert pbx.incoming[0].served_by == pool.primary.ip
    assert pool.primary.calls == 1
    assert await call.bye() == 200
    await idle(pool.primary)


async def test_client_identity(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A forwarded call arrives at the next proxy with the client's identity: the address it really came from."""
    async with Phone.at(PEER, 5060, user="peer") as peer:
        pool.primary.table([pool.peer(PEER, room=5)])
        call = await alice.call(pool.uri)
        assert call.status == 200
        invite = peer.incoming[0].invite
        ip, port = alice.endpoint.address
        assert ip in invite.header("X-VP-Client")
        assert str(port) in invite.header("X-VP-Client")
        assert pool.primary.name in invite.header("X-VP-Visited")
        assert token(peer.incoming[0].packet).startswith(f"{pool.primary.id}.{TICK}.")
        assert await call.bye() == 200


async def test_redirect_keeps_the_uri(pool: Pool, alice: Phone) -> None:
    """A 302's Contact keeps scheme, user, transport and parameters; only the host becomes the proxy's."""
    pool.set(mode="redirect")
    async with Phone.at(f"{CLIENTS}.2", protocol="tcp") as bob:
        uri = f"sip:+4930123@{ALIAS};transport=tcp;user=phone"
        call = await bob.call(uri, to=(pool.primary.ip, 5060), follow=0)
        target = contact(call.transaction.responses[-1])
    assert call.status == 302
    assert target.startswith("sip:+4930123@")
    assert hop(target) == (pool.primary.ip, 5060)  # the first of the table has room
    assert parameter(target, "transport").lower() == "tcp"
    assert parameter(target, "user") == "phone"


async def test_redirect_keeps_the_domain(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """What the client asked for is what is called after a redirect; nothing of ours leaks to the target."""
    pool.set(mode="redirect")
    pool.table(0, 5)
    call = await alice.call(f"sip:echo@{ALIAS};user=phone", to=(pool.primary.ip, 5060))
    assert call.status == 200
    invite = pbx.incoming[0].invite
    assert "vp" not in invite.uri.partition("@")[2], invite.uri
    assert not invite.having("X-VP-"), invite.headers
    assert invite.uri.startswith("sip:echo@")
    assert await call.bye() == 200


@MODES
async def test_cancel(pool: Pool, alice: Phone, pbx: Phone, mode: Mode) -> None:
    """A caller gives up while it rings: CANCEL reaches the callee by the same proxies, and the place is free again."""
    pool.set(mode=mode)
    pool.table(0, 5)
    pbx.script = answers.ring
    call = await alice.dial(pool.uri)
    if mode == "redirect":
        answer = await call.transaction.final()
        await call.invite(contact(answer), None)
    await call.ringing()
    assert pool.members[0].calls == 1
    assert await call.cancel() == 200
    assert await call.result() == 487
    await asyncio.wait_for(pbx.incoming[0].cancelled.wait(), 5)
    await idle(pool.members[0])


async def test_busy(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """The callee's refusal reaches the caller as it is, is not tried at another proxy, and frees the place."""
    pool.table(0, 5, 5)
    pbx.script = answers.refuse(486)
    call = await alice.call(pool.uri)
    assert call.status == 486
    assert len(pbx.incoming) == 1
    await idle(*pool.proxies)


async def test_callee_hangs_up(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """The callee ends the call: its BYE goes to the serving proxy and on to the caller."""
    pool.table(0, 5)
    await alice.call(pool.uri)
    assert await pbx.incoming[0].bye() == 200
    assert (await alice.expect("BYE")).source[0] == pool.members[0].ip
    await idle(pool.members[0])


@MODES
async def test_within_the_call(pool: Pool, alice: Phone, pbx: Phone, mode: Mode) -> None:
    """Re-INVITE, UPDATE, REFER and INFO reach the other end in both directions, through the serving proxy."""
    pool.set(mode=mode)
    pool.table(0, 5)
    call = await alice.call(pool.uri)
    theirs = await pbx.expect_call()
    await asyncio.wait_for(theirs.acked.wait(), 5)
    refer = [("Refer-To", "<sip:carol@example.test>")]
    for session, other in ((call, theirs), (theirs, call)):
        before = len(other.requests)
        assert (await session.request("INVITE", body=session.sdp)).message.status == 200
        assert (await session.request("UPDATE", body=session.sdp)).message.status == 200
        assert (await session.request("REFER", refer)).message.status == 202
        assert (await session.request("INFO")).message.status == 200
        await until(lambda other=other, before=before: len(other.requests) >= before + 5, "all arrived")
        assert {packet.message.method for packet in other.requests[before:]} == {
            "INVITE",
            "ACK",
            "UPDATE",
            "REFER",
            "INFO",
        }
        assert {packet.source[0] for packet in other.requests[before:]} == {pool.members[0].ip}
    assert pool.members[0].calls == 1
    assert await call.bye() == 200
    await idle(pool.members[0])


async def test_prack(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A reliable provisional answer is acknowledged by PRACK through the serving proxy before the call is answered."""

    async def script(call: Incoming) -> None:
        await call.reliably(183, call.sdp)
        await call.answer()

    pbx.script = script
    pool.table(0, 5)
    call = await alice.dial(pool.uri, headers=[("Supported", "100rel")])
    ringing = await call.ringing()
    assert ringing.message.header("RSeq") == "1"
    assert (await call.request("PRACK", [("RAck", f"1 {call.cseq} INVITE")])).message.status == 200
    assert pbx.requests("PRACK")[0].source[0] == pool.members[0].ip
    assert await call.result() == 200
    assert await call.bye() == 200


@MODES
async def test_route_set(pool: Pool, alice: Phone, pbx: Phone, mode: Mode) -> None:
    """A UDP client's route set is the serving proxy alone, so a call outlives the primary that assigned it."""
    pool.set(mode=mode)
    pool.table(0, 5)
    call = await alice.call(pool.uri)
    assert call.routes == [pool.members[0].ip]
    pool.primary.kill()
    assert (await call.request("INVITE", body=call.sdp)).message.status == 200
    assert await call.bye() == 200
    await idle(pool.members[0])


async def test_route_set_of_a_connection(pool: Pool, pbx: Phone) -> None:
    """A TCP client is reached over the connection it made, so the proxy that holds it stays in the route set."""
    pool.table(0, 5)
    async with Phone.at(f"{CLIENTS}.3", protocol="tcp") as carol:
        call = await carol.call(pool.uri)
        assert call.status == 200
        assert list(dict.fromkeys(call.routes)) == [pool.primary.ip, pool.members[0].ip]
        assert (await pbx.incoming[0].request("INVITE", body=pbx.incoming[0].sdp)).message.status == 200
        assert carol.requests("INVITE")[0].source[0] == pool.primary.ip
        assert await pbx.incoming[0].bye() == 200
    await idle(pool.members[0])


async def test_tcp_redirect(pool: Pool, pbx: Phone) -> None:
    """A TCP client that follows a 302 is connected to the serving proxy itself, alone in the route set."""
    pool.set(mode="redirect")
    pool.table(0, 5)
    async with Phone.at(f"{CLIENTS}.3", protocol="tcp") as carol:
        call = await carol.call(f"{pool.uri};transport=tcp")
        assert call.path == [(pool.primary.ip, 302), (pool.members[0].ip, 200)]
        assert set(call.routes) == {pool.members[0].ip}
        assert await call.bye() == 200
    await idle(pool.members[0])


async def test_repeated_invite(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """An INVITE sent again, as UDP clients do, is the same call: assigned once, admitted once."""
    pool.table(0, 5)
    pbx.script = answers.ring
    call = await alice.dial(pool.uri)
    await call.ringing()
    for _ in range(3):
        await alice.endpoint.send(call.transaction.request, call.transaction.to)
    assert await call.cancel() == 200
    assert await call.result() == 487
    assert (pool.count("assigned"), pool.count("admitted"), len(pbx.incoming)) == (1, 1, 1)


async def test_options(pool: Pool, alice: Phone) -> None:
    """OPTIONS to a proxy is answered by that proxy: it is how others check that it lives."""
    for proxy in pool.proxies:
        answer = await (await alice.request("OPTIONS", f"sip:{proxy.ip}:5060")).final()
        assert (answer.message.status, answer.source[0]) == (200, proxy.ip)


async def test_nobody_there(pool: Pool, alice: Phone) -> None:
    """A BYE for a call that nobody knows is answered 481 or 404, not forwarded around."""
    answer = await (await alice.request("BYE", pool.uri, to_tag="gone")).final()
    assert answer.message.status in (404, 481)


async def test_callee_is_silent(pool: Pool, alice: Phone) -> None:
    """A target that is gone ends the attempt with a clear answer in seconds, and its place is free again."""
    pool.table(0, 5)
    call = await alice.call(pool.uri, within=15)
    assert call.status in (408, 503, 480, 500)
    await idle(*pool.proxies)
