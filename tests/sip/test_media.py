"""Voice and video through rtpengine, and what becomes of calls when media fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from tests.fuzz.run import media_sessions
from tests.sip.test_records import the_record
from tests.tools import answers
from tests.tools.addresses import CLIENTS, IMPATIENT, TARGETS
from tests.tools.pool import ALIAS, Pool, idle
from tests.tools.proxies import Proxy, fleet
from tests.tools.rtp import Media, streams
from tests.tools.sessions import Incoming
from tests.tools.sip import Phone
from tests.tools.wait import until

PACKETS = 40
MEDIA_TIMEOUT_SECONDS = 3
MANY = 40


@dataclass(frozen=True)
class Ends:
    """Microphone, camera, loudspeaker and screen of both ends."""

    mine: Media
    theirs: Media

    async def talk(self, mine_to: str, theirs_to: str) -> None:
        """Both send, to where an SDP tells them; every packet must arrive."""
        await asyncio.gather(self.mine.send(mine_to, PACKETS), self.theirs.send(theirs_to, PACKETS))
        await until(self._all_there, "every packet has arrived")

    def _all_there(self) -> bool:
        counts = [*self.mine.counts().values(), *self.theirs.counts().values()]
        return all(received >= sent for sent, received in counts)


@pytest.fixture
async def ends(pbx: Phone) -> AsyncIterator[Ends]:
    async with Media.at(f"{CLIENTS}.1") as mine, Media.at(f"{TARGETS}.1") as theirs:

        async def script(call: Incoming) -> None:
            call.sdp = theirs.sdp
            await answers.ring_then_answer(call)

        pbx.script = script
        yield Ends(mine, theirs)


@pytest.mark.parametrize("mode", ["forward", "redirect"])
async def test_relayed(pool: Pool, alice: Phone, pbx: Phone, ends: Ends, mode: str) -> None:
    """Voice and video go both ways through the serving proxy, and not a packet is lost."""
    pool.set(mode=mode)
    pool.table(0, 5)
    call = await alice.call(pool.uri, body=ends.mine.sdp)
    incoming = pbx.incoming[0]
    serving = pool.members[0].ip
    assert {ip for ip, _ in streams(call.remote_sdp).values()} == {serving}
    assert {ip for ip, _ in streams(incoming.remote_sdp).values()} == {serving}
    await ends.talk(call.remote_sdp, incoming.remote_sdp)
    assert {stream.sources.pop()[0] for stream in ends.mine.streams.values()} == {serving}
    assert {kind: received for kind, (_, received) in ends.mine.counts().items()} == {
        "audio": PACKETS,
        "video": PACKETS,
    }
    assert await call.bye() == 200


async def test_early_media(pool: Pool, alice: Phone, pbx: Phone, ends: Ends) -> None:
    """An announcement before the answer (183 with SDP) is heard, and the call goes on with the same media."""
    answered = asyncio.Event()

    async def script(call: Incoming) -> None:
        call.sdp = ends.theirs.sdp
        await answers.early_media(answered)(call)

    pbx.script = script
    pool.table(0, 5)
    call = await alice.dial(pool.uri, body=ends.mine.sdp)
    progress = await call.ringing()
    assert progress.message.status == 183
    assert {ip for ip, _ in streams(progress.message.body).values()} == {pool.members[0].ip}
    await ends.talk(progress.message.body, pbx.incoming[0].remote_sdp)
    answered.set()
    assert await call.result() == 200
    assert streams(call.final.body) == streams(progress.message.body)
    await ends.talk(call.final.body, pbx.incoming[0].remote_sdp)
    assert await call.bye() == 200


async def test_hold(pool: Pool, alice: Phone, pbx: Phone, ends: Ends) -> None:
    """A re-INVITE changes the media (here: hold and back) and it goes on being relayed."""
    pool.table(0, 5)
    call = await alice.call(pool.uri, body=ends.mine.sdp)
    held = await call.request("INVITE", body=ends.mine.sdp.replace("sendrecv", "sendonly"))
    assert held.message.status == 200
    assert "a=sendonly" in pbx.incoming[0].remote_sdp
    assert (await call.request("INVITE", body=ends.mine.sdp)).message.status == 200
    await ends.talk(call.remote_sdp, pbx.incoming[0].remote_sdp)
    assert await call.bye() == 200


async def test_call_without_offer(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """An INVITE without SDP is a call as well; the callee's offer and the ACK's answer pass through rtpengine."""
    pool.table(0, 5)
    transaction = await alice.request("INVITE", pool.uri)
    answer = await transaction.final()
    assert answer.message.status == 200
    assert {ip for ip, _ in streams(answer.message.body).values()} == {pool.members[0].ip}


async def test_answered_without_media(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Who is called answers an offer with nothing, and ends the call: rtpengine does not know it, yet keeps nothing."""

    async def script(call: Incoming) -> None:
        call.sdp = ""
        await answers.ring_then_answer(call)

    pbx.script = script
    pool.table(5)
    call = await alice.call(pool.uri)
    assert (call.status, media_sessions(pool.primary)) == (200, 1)
    assert await pbx.incoming[0].bye() == 200
    await idle(pool.primary)
    await until(lambda: media_sessions(pool.primary) == 0, "no session is left")


@pytest.mark.parametrize("failure", ["crashed", "hung"])
async def test_rtpengine_fails(pool: Pool, alice: Phone, pbx: Phone, failure: str) -> None:
    """A proxy whose rtpengine has crashed or hangs passes new calls on at once; no call is lost by it."""
    pool.table(0, 100, 100)
    with broken_media(pool.members[0], crashed=failure == "crashed"):
        started = asyncio.get_running_loop().time()
        calls = [await alice.call(pool.uri) for _ in range(3)]
        assert [call.status for call in calls] == [200] * 3
        assert asyncio.get_running_loop().time() - started < 4
        assert {incoming.served_by for incoming in pbx.incoming} == {pool.members[1].ip}
        await until(lambda: bool(pool.members[0].control.dump("brk")), "it is left alone for a while")
        assert [await call.bye() for call in calls] == [200] * 3
        await idle(*pool.proxies)


async def test_rtpengine_comes_back(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A proxy whose rtpengine alone was restarted takes calls again, the first one of every SIP worker included."""
    calls = 12  # several for each worker
    pool.table(0, 100, 100)
    serving = pool.members[0]
    with broken_media(serving, crashed=True):
        for _ in range(calls):
            serving.control("htable.flush", "brk")  # so that the next worker finds out, too
            assert await (await alice.call(pool.uri)).bye() == 200
        assert {incoming.served_by for incoming in pbx.incoming} == {pool.members[1].ip}
        serving.start_media()
        serving.control("htable.flush", "brk")
        for _ in range(calls):
            assert await (await alice.call(pool.uri)).bye() == 200
        assert {incoming.served_by for incoming in pbx.incoming[calls:]} == {serving.ip}
        await idle(*pool.proxies)


async def test_rtpengine_crashes_during_a_call(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A call whose rtpengine crashes can still be ended properly, and its place is given back."""
    pool.table(0, 100)
    call = await alice.call(pool.uri)
    with broken_media(pool.members[0], crashed=True):
        assert await call.bye() == 200
        await idle(pool.members[0])


@contextlib.contextmanager
def broken_media(proxy: Proxy, *, crashed: bool) -> Iterator[None]:
    """Its rtpengine is gone, or hangs; the proxy as a whole starts anew for the test after."""
    assert proxy.media is not None
    if crashed:
        proxy.media.kill()
    else:
        proxy.media.freeze()
    try:
        yield
    finally:
        proxy.kill()


@pytest.fixture(scope="module")
def impatient() -> Iterator[Proxy]:
    """A proxy that gives a call without media up soon."""
    with fleet(1, IMPATIENT, media_timeout_seconds=MEDIA_TIMEOUT_SECONDS) as (proxy,):
        yield proxy


async def test_media_timeout(impatient: Proxy, alice: Phone, pbx: Phone) -> None:
    """A call whose both ends have vanished without a BYE ends when its media has been silent for media.timeout."""
    pool = Pool([impatient])
    await pool.reset()
    call = await alice.call(pool.uri)
    assert call.status == 200
    await idle(impatient)
    await alice.expect("BYE")
    await pbx.expect("BYE")
    assert impatient.count("admitted") == 1
    assert (await the_record(impatient, call.call_id))["ended"] == "media time-out"


async def test_media_timeout_of_many_calls(impatient: Proxy, alice: Phone, pbx: Phone) -> None:
    """Each end of each call is told, also where the first end's answer arrives before the second end has been told."""
    pool = Pool([impatient])
    await pool.reset()
    calls = await asyncio.gather(*(alice.call(pool.uri) for _ in range(MANY)))
    assert {call.status for call in calls} == {200}
    await idle(impatient)
    call_ids = {call.call_id for call in calls}
    for end in (alice, pbx):
        await until(lambda end=end: call_ids == {bye.message.call_id for bye in end.requests("BYE")}, "all are told")


class Anywhere(Phone):
    """Its Contact is no address; `gruu`: by what it is reached."""

    gruu = ""

    @property
    def contact(self) -> str:
        return f"<{self.gruu}>"


@pytest.mark.parametrize("told", [True, False], ids=["a GRUU", "nowhere"])
async def test_media_timeout_where_a_contact_is_no_address(impatient: Proxy, pbx: Phone, *, told: bool) -> None:
    """An end that gave a GRUU is told; a call ends also where an end cannot be told."""
    pool = Pool([impatient])
    await pool.reset()
    async with Anywhere.at(f"{CLIENTS}.2") as carol:
        assert isinstance(carol, Anywhere)
        carol.gruu = f"sip:carol@{ALIAS};gr=urn:uuid:1" if told else "sip:carol@nowhere.invalid"
        call = await carol.call(pool.uri)
        assert call.status == 200
        await pbx.expect("BYE")
        if told:
            await carol.expect("BYE")
        await idle(impatient)
        await until(lambda: not impatient.control("dlg.stats_active")["all"], "the dialog ends")
        assert (await the_record(impatient, call.call_id))["ended"] == "media time-out"
