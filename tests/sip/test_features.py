"""What phones do besides calling and hanging up passes through the proxies, in both directions."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.tools import answers
from tests.tools import message as sip
from tests.tools.addresses import CLIENTS, TARGETS
from tests.tools.message import Address, parameter
from tests.tools.pool import Pool, idle
from tests.tools.rtp import streams
from tests.tools.sessions import Incoming
from tests.tools.sip import Phone
from tests.tools.wait import until

EVENT = bytes([0x80, 101, 0, 1, 0, 0, 0, 0, 0, 0, 0x51, 0x57, 5, 0x0A, 0x03, 0x20])  # RFC 4733: the key 5
RECEIVER_REPORT = bytes([0x80, 201, 0, 1, 0, 0, 0x51, 0x57])  # RTCP without a report block


def sdp(ip: str, *media: str) -> str:
    place = f"IN IP4 {ip}"
    return "\r\n".join(["v=0", f"o=- 7 1 {place}", "s=-", f"c={place}", "t=0 0", *media, ""])


def voice(ip: str, port: int = 16000, codec: str = "0 PCMU") -> str:
    number, name = codec.split()
    lines = [f"m=audio {port} RTP/AVP {number} 101", f"a=rtpmap:{number} {name}/8000"]
    return sdp(ip, *lines, "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15")


@contextlib.contextmanager
def port_pair(ip: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Sockets for RTP and for its RTCP, on neighbouring ports."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtcp,
    ):
        rtp.bind((ip, 17600))
        rtcp.bind((ip, 17601))
        rtp.settimeout(0)
        rtcp.settimeout(0)
        yield rtp, rtcp


async def arrives(data: bytes, sender: socket.socket, to: Address, receiver: socket.socket) -> None:
    """The datagram is relayed as it is; sent again until then, since a relay learns where to send from what it gets."""

    def there() -> bool:
        sender.sendto(data, to)
        with contextlib.suppress(BlockingIOError):
            while True:
                if receiver.recv(2000) == data:
                    return True
        return False

    await until(there, "it has arrived")


async def test_session_timers(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Session timers (RFC 4028) are the ends' business: their headers pass, and refreshes in both directions do."""
    pool.table(0, 5)
    call = await alice.call(pool.uri, headers=[("Supported", "timer"), ("Session-Expires", "90"), ("Min-SE", "90")])
    assert call.status == 200
    theirs = pbx.incoming[0]
    assert (theirs.invite.header("Session-Expires"), theirs.invite.header("Min-SE")) == ("90", "90")
    refresh = [("Supported", "timer"), ("Session-Expires", "90;refresher=uac")]
    for session, other in ((call, theirs), (theirs, call)):
        assert (await session.request("UPDATE", refresh)).message.status == 200
        assert other.requests[-1].message.header("Session-Expires") == "90;refresher=uac"
        assert (await session.request("INVITE", refresh, session.sdp)).message.status == 200
    assert pool.members[0].calls == 1
    assert await call.bye() == 200
    await idle(*pool.proxies)


async def test_session_interval_too_small(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A callee's 422 reaches the caller with its Min-SE, and the place is free for the next attempt."""
    pool.table(0, 5)
    pbx.script = answers.refuse(422, (("Min-SE", "180"),))
    call = await alice.call(pool.uri, headers=[("Session-Expires", "90")])
    assert (call.status, call.final.header("Min-SE")) == (422, "180")
    await idle(*pool.proxies)


async def test_cancel_crosses_the_answer(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A CANCEL that the answer has crossed: the call stands until somebody hangs up, and counts once."""
    pool.table(0, 5)
    call = await alice.dial(pool.uri)
    theirs = await pbx.expect_call()
    cancelled = asyncio.create_task(call.cancel())
    assert await call.result() in (200, 487)
    assert await cancelled in (200, 481)
    if call.status == 200:
        assert pool.members[0].calls == 1
        assert await call.bye() == 200
    assert theirs.served_by == pool.members[0].ip
    await idle(*pool.proxies)


async def test_cancel_at_once(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A CANCEL as early as a caller may send one, behind the 100, ends the call; nothing rings on, nothing is left."""
    pool.table(0, 5)
    pbx.script = answers.ring
    for _ in range(10):
        call = await alice.dial(pool.uri)
        await call.transaction.response(100, 199)
        assert await call.cancel() == 200
        assert await call.result() == 487
    await idle(*pool.proxies)
    await until(lambda: all(theirs.cancelled.is_set() for theirs in pbx.incoming), "nothing rings")


async def test_forked_early_dialogs(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A target that forks: each branch's early dialog reaches the caller with a tag of its own; one call is counted,
    and the one that is answered is the call.
    """
    heard = asyncio.Event()

    async def script(call: Incoming) -> None:
        contact = [("Contact", pbx.contact)]
        for tag, status in (("first", 180), ("second", 183)):
            await pbx.endpoint.send(sip.response(call.invite, status, contact, tag=tag), call.packet.source)
        await heard.wait()
        await call.answer()

    pbx.script = script
    pool.table(0, 5)
    call = await alice.dial(pool.uri)
    early = [await call.transaction.response(status, status) for status in (180, 183)]
    assert [parameter(packet.message.header("To"), "tag") for packet in early] == ["first", "second"]
    heard.set()
    assert await call.result() == 200
    assert parameter(call.final.header("To"), "tag") == pbx.incoming[0].tag
    assert pool.members[0].calls == 1
    assert (await pbx.incoming[0].request("INVITE", body=pbx.incoming[0].sdp)).message.status == 200
    assert await call.bye() == 200
    await idle(*pool.proxies)


async def test_transfer_across_proxies(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """An attended transfer: REFER and NOTIFY pass within the call, and the INVITE with Replaces reaches the callee of a
    call that another proxy serves.
    """
    pool.table(0, 5, 0)
    first = await alice.call(pool.uri)
    theirs = await pbx.expect_call()
    replaced = f"{first.call_id};to-tag={theirs.tag};from-tag={first.tag}"
    refer = [("Refer-To", f"<sip:carol@example.test?Replaces={replaced.replace(';', '%3B').replace('=', '%3D')}>")]
    assert (await theirs.request("REFER", refer)).message.status == 202
    assert alice.requests("REFER")[0].message.header("Refer-To") == refer[0][1]
    told = [("Event", "refer"), ("Subscription-State", "active;expires=60")]
    assert (await first.request("NOTIFY", told)).message.status == 200
    pool.table(0, 0, 5)
    async with Phone.at(f"{CLIENTS}.11") as carol:
        second = await carol.call(pool.uri, headers=[("Replaces", replaced), ("Require", "replaces")])
        assert second.status == 200
        assert pbx.incoming[1].served_by == pool.members[1].ip
        assert pbx.incoming[1].invite.header("Replaces") == replaced
        assert await theirs.bye() == 200
        assert await second.bye() == 200
    await idle(*pool.proxies)


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
async def test_subscription(pool: Pool, pbx: Phone, protocol: str) -> None:
    """SUBSCRIBE reaches the target and makes a dialog through the serving proxy, by which NOTIFY comes back; a
    subscription takes no call's place.
    """
    pool.table(0, 5)
    async with Phone.at(f"{CLIENTS}.12", protocol=protocol) as watcher:  # type: ignore[arg-type]  # a protocol
        wanted = [("Event", "presence"), ("Expires", "60")]
        asked = await watcher.request("SUBSCRIBE", pool.uri, headers=wanted, from_tag="watcher")
        answer = (await asked.final()).message
        assert answer.status == 200
        subscribe = pbx.requests("SUBSCRIBE")[0].message
        assert subscribe.header("Event") == "presence"
        routes = [("Route", route) for route in subscribe.all("Record-Route")]
        notify = await pbx.request(
            "NOTIFY",
            sip.uri_in(subscribe.header("Contact")),
            to=sip.hop(sip.uri_in(routes[0][1])),
            headers=[*routes, ("Event", "presence"), ("Subscription-State", "active")],
            call_id=subscribe.call_id,
            to_tag="watcher",
        )
        assert (await notify.final()).message.status == 200
        assert watcher.requests("NOTIFY")[0].message.header("Subscription-State") == "active"
    assert pool.count("admitted") == 0


async def test_message(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A text message passes as it is, and the target's answer comes back."""
    pbx.answers["MESSAGE"] = 202
    sent = await alice.request("MESSAGE", pool.uri, headers=[("Content-Type", "text/plain")], body="hello\r\n")
    assert (await sent.final()).message.status == 202
    assert pbx.requests("MESSAGE")[0].message.body == "hello\r\n"


async def test_keys_and_control(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Keys pressed in a call arrive: as telephone-event (RFC 4733) and as INFO; so does RTCP, both ways."""
    pool.table(0, 5)
    mine, theirs = f"{CLIENTS}.1", f"{TARGETS}.1"
    with port_pair(mine) as (my_rtp, my_rtcp), port_pair(theirs) as (their_rtp, their_rtcp):

        async def script(call: Incoming) -> None:
            call.sdp = voice(theirs, 17600)
            await call.answer()

        pbx.script = script
        call = await alice.call(pool.uri, body=voice(mine, 17600))
        ip, port = streams(call.remote_sdp)["audio"]
        their_ip, their_port = streams(pbx.incoming[0].remote_sdp)["audio"]
        await arrives(EVENT, my_rtp, (ip, port), their_rtp)
        await arrives(EVENT, their_rtp, (their_ip, their_port), my_rtp)
        await arrives(RECEIVER_REPORT, my_rtcp, (ip, port + 1), their_rtcp)
        await arrives(RECEIVER_REPORT, their_rtcp, (their_ip, their_port + 1), my_rtcp)
        key = [("Content-Type", "application/dtmf-relay")]
        assert (await call.request("INFO", key, "Signal=5\r\nDuration=160\r\n")).message.status == 200
        assert pbx.requests("INFO")[0].message.body == "Signal=5\r\nDuration=160\r\n"
        assert await call.bye() == 200


async def test_another_codec(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A re-INVITE with another codec reaches the other end, and media stays at the serving proxy."""
    pool.table(0, 5)
    mine = f"{CLIENTS}.1"
    call = await alice.call(pool.uri, body=voice(mine))
    assert (await call.request("INVITE", body=voice(mine, codec="8 PCMA"))).message.status == 200
    assert "PCMA/8000" in pbx.incoming[0].remote_sdp
    assert "PCMU/8000" not in pbx.incoming[0].remote_sdp
    assert streams(pbx.incoming[0].remote_sdp)["audio"][0] == pool.members[0].ip
    assert await call.bye() == 200


async def test_fax(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A call that becomes a fax (T.38 over UDPTL): offer and answer pass with their attributes, through rtpengine."""
    pool.table(0, 5)
    call = await alice.call(pool.uri, body=voice(f"{CLIENTS}.1"))
    theirs = pbx.incoming[0]
    fax = ("a=T38FaxVersion:0", "a=T38MaxBitRate:14400", "a=T38FaxRateManagement:transferredTCF")
    call.sdp = sdp(f"{CLIENTS}.1", "m=image 4000 udptl t38", *fax)
    assert (
        await theirs.request("INVITE", body=sdp(f"{TARGETS}.1", "m=image 4100 udptl t38", *fax))
    ).message.status == 200
    for offered in (call.remote_sdp, theirs.remote_sdp):
        assert "udptl t38" in offered
        assert "a=T38MaxBitRate:14400" in offered
        assert streams(offered)["image"][0] == pool.members[0].ip
    assert await call.bye() == 200
    await idle(*pool.proxies)
