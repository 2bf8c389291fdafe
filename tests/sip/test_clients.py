"""SIPp as a client, following a 302 or not: all that a phone does, over each of its transports, in both modes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.sip.test_modes import later
from tests.sip.test_registrar import contacts
from tests.tools.addresses import CLIENTS, CUT_OFF, PSTN
from tests.tools.clients.sipp import Server, calling, registered
from tests.tools.pool import ALIAS, Pool, idle, to
from tests.tools.proxies import Proxy, fleet
from tests.tools.rtp import Media
from tests.tools.sessions import Incoming
from tests.tools.sip import Phone, Script
from tests.tools.sipp import Sipp
from tests.tools.transport import Protocol
from tests.tools.wait import until

FOLLOWS, STAYS = KINDS = ("SIPp", "SIPp, no 302")
PROTOCOLS: list[Protocol] = ["udp", "tcp"]
PACKETS = 25
SILENCE_SECONDS = 3
ENDED = [("Event", "refer"), ("Subscription-State", "terminated;reason=noresource")]


@pytest.fixture(scope="module")
def impatient() -> Iterator[Sequence[Proxy]]:
    """They give a call without media up soon."""
    with fleet(2, CUT_OFF, media_timeout_seconds=SILENCE_SECONDS) as started:
        yield started


@pytest.fixture
async def other(pool: Pool) -> AsyncIterator[Phone]:
    """Whom they talk to: behind a gateway, so that it may call as well."""
    pool.routes(to(f"sip:{PSTN}.1:5060"))
    async with Phone.at(f"{PSTN}.1", 5060) as phone:
        yield phone


async def heard(media: Media, sdp: str) -> None:
    """Voice and video go there, and come back."""
    before = {kind: received for kind, (_, received) in media.counts().items()}
    await media.send(sdp, PACKETS)

    def back() -> bool:
        return all(received - before[kind] >= PACKETS for kind, (_, received) in media.counts().items())

    await until(back, f"{PACKETS} packets of each come back: {media.counts()}")


def is_registered(phone: Sipp, pool: Pool) -> bool:
    """Every proxy knows where bob is."""
    assert phone.running, phone.errors()
    return all(contacts(proxy) for proxy in pool.proxies)


async def accepted(other: Phone, phone: Sipp, number: int = 0) -> Incoming:
    """The call that it places, once it has taken the answer."""
    call = await other.expect_call(number=number)

    def acknowledged() -> bool:
        assert phone.running, phone.errors()
        return call.acked.is_set()

    await until(acknowledged, "its ACK")
    return call


async def ask(call: Incoming) -> None:
    """For the next step (tests/tools/clients/sipp.py)."""
    assert (await call.request("INFO")).message.status == 200


def at_once(media: Media) -> Script:
    """It does not ring: its 180 might come behind its 200, which SIPp does not put up with."""

    async def script(call: Incoming) -> None:
        call.sdp = media.sdp
        await call.answer()

    return script


async def gives_up(phone: Sipp, pool: Pool) -> None:
    """It takes a 302 for the end; it may try again after a while."""
    with phone:
        result = await asyncio.to_thread(phone.wait, 10)
    assert (result.redirected, result.abandoned) == (1, 1), phone.errors()
    later(pool)


@pytest.mark.client(does=("registers", "calls", "is called", "media", "holds", "transfers", "hangs up"))
@pytest.mark.parametrize("mode", ["forward", "redirect"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", KINDS)
async def test_it_does_what_phones_do(
    pool: Pool, other: Phone, tmp_path: Path, *, kind: str, protocol: Protocol, mode: str
) -> None:
    """It registers; another one calls, holds, resumes, transfers the one it talks to to the first, and hangs up. Where
    it does not follow a 302, it is served when it comes back.
    """
    pool.set(mode=mode, registrar=1, expires=120, learned=1)
    pool.table(0, 5)
    server, bob_at = Server(pool.primary.ip, protocol, followed=kind == FOLLOWS), f"sip:bob@{ALIAS}"
    bob_is, alice_is = (server, f"{CLIENTS}.8", "bob"), (server, f"{CLIENTS}.9", "alice")
    if mode == "redirect" and kind == STAYS:
        await gives_up(registered(*bob_is, tmp_path / "before"), pool)
        await gives_up(calling(*alice_is, tmp_path / "before", transfer_to=bob_at), pool)
    async with Media.at(f"{PSTN}.1") as media:
        other.script = at_once(media)
        with registered(*bob_is, tmp_path) as bob:
            await until(lambda: is_registered(bob, pool), "bob is registered")
            with calling(*alice_is, tmp_path, transfer_to=bob_at) as alice:
                call = await accepted(other, alice)
                await heard(media, call.remote_sdp)
                await ask(call)
                await until(lambda: "a=sendonly" in call.remote_sdp, "alice holds")
                await ask(call)
                await until(lambda: "a=sendrecv" in call.remote_sdp, "alice resumes")
                await heard(media, call.remote_sdp)
                await ask(call)
                refer = await other.expect("REFER")
                assert refer.message.header("Refer-To") == f"<{bob_at}>"
                transferred = await other.call(bob_at, to=(pool.primary.ip, 5060), body=media.sdp)
                assert transferred.status == 200
                await heard(media, transferred.remote_sdp)
                assert (await call.request("NOTIFY", ENDED)).message.status == 200
                await ask(call)
                result = await asyncio.to_thread(alice.wait, 10)
            assert await transferred.bye() == 200, bob.errors()
    followed = mode == "redirect" and kind == FOLLOWS
    assert (result.completed, result.redirected) == (1, followed), alice.errors()
    assert call.served_by == pool.members[0].ip
    await idle(*pool.proxies)


@pytest.mark.client(transport=("UDP", "TCP"), does=("is cut off",))
@pytest.mark.parametrize("mode", ["forward", "redirect"])
@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_cut_off(impatient: Sequence[Proxy], pbx: Phone, tmp_path: Path, kind: str, mode: str) -> None:
    """It is killed within a call: once media has been silent for the time-out, the call ends at the other side."""
    pool = Pool(impatient)
    await pool.reset()
    pool.set(mode=mode)
    pool.table(0, 5)
    pbx.script = Incoming.answer
    with ExitStack() as stack:
        for number, protocol in enumerate(PROTOCOLS):
            server = Server(pool.primary.ip, protocol, followed=kind == FOLLOWS)
            alice_is = (server, f"{CLIENTS}.{20 + number}", protocol)
            if mode == "redirect" and kind == STAYS:
                await gives_up(calling(*alice_is, tmp_path / "before", transfer_to=""), pool)
            alice = stack.enter_context(calling(*alice_is, tmp_path, transfer_to=""))
            await accepted(pbx, alice, number)
            alice.kill()
    await until(lambda: all(call.ended.is_set() for call in pbx.incoming), "every call has ended")
    await idle(*pool.proxies)
