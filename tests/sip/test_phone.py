"""The tests' own phone, checked phone to phone, so that what it reports of proxies can be believed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.tools import answers, av
from tests.tools.addresses import PHONES
from tests.tools.rtp import Media, streams
from tests.tools.sessions import Incoming
from tests.tools.sip import Phone
from tests.tools.transport import Protocol, SipTimeoutError
from tests.tools.wait import until

ALICE, BOB = f"{PHONES}.1", f"{PHONES}.2"


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
async def test_call(protocol: Protocol) -> None:
    """A call rings, is answered, renegotiated and ended, over UDP and TCP."""
    async with (
        Phone.at(ALICE, protocol=protocol) as alice,
        Phone.at(BOB, protocol=protocol, listening=True, user="bob") as bob,
    ):
        bob.script = answers.ring_then_answer
        call = await alice.call(bob.uri)
        assert call.path == [(BOB, 200)]
        assert [p.message.status for p in call.transaction.responses] == [180, 200]
        assert (await call.request("INVITE", body=call.sdp)).message.status == 200
        assert (await call.request("REFER", [("Refer-To", "<sip:c@example.test>")])).message.status == 202
        assert await call.bye() == 200
        assert [p.message.method for p in bob.incoming[0].requests] == ["ACK", "INVITE", "ACK", "REFER", "BYE"]


async def test_cancel() -> None:
    """A ringing call that its caller gives up ends with 487, acknowledged."""
    async with Phone.at(ALICE) as alice, Phone.at(BOB, user="bob") as bob:
        bob.script = answers.ring
        call = await alice.dial(bob.uri)
        await call.ringing()
        assert await call.cancel() == 200
        assert await call.result() == 487
        await bob.expect("ACK")


async def test_redirect() -> None:
    """A 302 is followed to its Contact within the same call, or reported, as the test wishes."""
    async with AsyncExitStack() as stack:
        alice = await stack.enter_async_context(Phone.at(ALICE))
        first, second = [await stack.enter_async_context(Phone.at(ip, 5060, user="bob")) for ip in (BOB, f"{PHONES}.3")]
        first.script = answers.refuse(302, (("Contact", second.contact),))
        assert (await alice.call(first.uri, follow=0)).path == [(BOB, 302)]
        call = await alice.call(first.uri)
        assert call.path == [(BOB, 302), (f"{PHONES}.3", 200)]
        assert second.incoming[0].invite.cseq == 2
        assert await call.bye() == 200


async def test_silence_and_repetition() -> None:
    """An unanswered request is sent again, and its repetition is answered like the first."""
    async with Phone.at(ALICE) as alice, Phone.at(BOB, user="bob") as bob:
        bob.script = answers.silence
        call = await alice.dial(bob.uri)
        with pytest.raises(SipTimeoutError, match="no answer from 200"):
            await call.result(within=0.1)
        await bob.expect("INVITE", since=1)
        assert len(bob.incoming) == 1


async def test_reliable_ringing() -> None:
    """A provisional answer under 100rel is acknowledged by PRACK before the call is answered."""

    async def script(call: Incoming) -> None:
        await call.reliably(183, call.sdp)
        await call.answer()

    async with Phone.at(ALICE) as alice, Phone.at(BOB, user="bob") as bob:
        bob.script = script
        call = await alice.dial(bob.uri, headers=[("Supported", "100rel")])
        assert (await call.ringing()).message.status == 183
        assert (await call.request("PRACK", [("RAck", "1 1 INVITE")])).message.status == 200
        assert await call.result() == 200


async def test_media() -> None:
    """Voice and video that is sent is counted where it arrives."""
    async with Media.at(ALICE) as mine, Media.at(BOB) as theirs:
        assert set(streams(theirs.sdp)) == {"audio", "video"}
        await asyncio.gather(mine.send(theirs.sdp, 10, 0.001), theirs.send(mine.sdp, 10, 0.001))
        all_there = {"audio": (10, 10), "video": (10, 10)}
        await until(lambda: mine.counts() == theirs.counts() == all_there, "all packets arrived")


async def test_counted_call() -> None:
    """The program that places calls with media counts what came back."""
    async with Media.at(BOB, echo=True) as theirs, Phone.at(BOB, 5060, user="bob") as bob:

        async def script(call: Incoming) -> None:
            call.sdp = theirs.sdp
            await call.answer()

        bob.script = script
        result = await av.place(ALICE, bob.uri, 0.2)
    assert result == {"offered": 1, "answered": 1, "sent": 20, "received": 20}
