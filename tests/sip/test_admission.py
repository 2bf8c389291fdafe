"""Admission is the guarantee: no call is admitted at or above the threshold, and no place is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.fuzz.run import media_sessions
from tests.tools import answers
from tests.tools.addresses import CLIENTS, PEER, TARGETS
from tests.tools.pool import Pool, idle
from tests.tools.rtp import describe
from tests.tools.sessions import Call
from tests.tools.sip import Phone
from tests.tools.sipp import answerer, caller
from tests.tools.wait import until

BURST = 200
CEILING = 50


def decided(call: Call) -> bool:
    return any(packet.message.status > 100 for packet in call.transaction.responses)


async def test_burst(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """200 calls at the same instant and 50 places: exactly 50 are admitted, the others are told to come again."""
    pool.set(ceiling=0, places=0)
    pool.primary.admit(CEILING)
    pool.table(BURST)
    pbx.script = answers.ring
    calls = await asyncio.gather(*(alice.dial(pool.uri) for _ in range(BURST)))
    await until(lambda: all(map(decided, calls)), "every call rings or is refused", within=20)
    assert len(pbx.incoming) == CEILING
    assert pool.primary.calls == CEILING
    assert (pool.primary.count("admitted"), pool.count("over")) == (CEILING, 0)
    ringing = [call for call in calls if not call.refused]
    assert len(ringing) == CEILING
    assert await asyncio.gather(*(call.cancel() for call in ringing)) == [200] * CEILING
    await idle(pool.primary, within=10)


async def test_burst_sent_on(big_pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A burst beyond one proxy's room is spread by admission alone when the table is stale: no call lost, none over."""
    pool = big_pool
    pool.set(ceiling=0, places=0)
    for proxy in pool.members:
        proxy.admit(10)
    pool.table(0, 100, 100, 100, 100)  # the table knows nothing of the ceilings
    calls = await asyncio.gather(*(alice.call(pool.uri, within=20) for _ in range(40)))
    assert [call.status for call in calls] == [200] * 40
    assert [proxy.calls for proxy in pool.proxies] == [0, 10, 10, 10, 10]
    assert pool.count("over") == 0
    assert await asyncio.gather(*(call.bye() for call in calls)) == [200] * 40
    await idle(*pool.proxies)


async def bye_of_the_caller(call: Call, _pbx: Phone) -> None:
    assert await call.result() == 200
    assert await call.bye() == 200


async def bye_of_the_callee(call: Call, pbx: Phone) -> None:
    assert await call.result() == 200
    assert await pbx.incoming[0].bye() == 200


async def cancelled(call: Call, pbx: Phone) -> None:
    await call.ringing()
    assert await call.cancel() == 200
    assert await call.result() == 487


async def refused(call: Call, _pbx: Phone) -> None:
    assert await call.result() == 486


async def moved(call: Call, _pbx: Phone) -> None:
    assert await call.result(follow=0) == 302


async def never_rang(call: Call, _pbx: Phone) -> None:
    assert await call.result(within=15) >= 400


ENDINGS: list[tuple[answers.Script, Callable[[Call, Phone], Awaitable[None]]]] = [
    (answers.ring_then_answer, bye_of_the_caller),
    (answers.ring_then_answer, bye_of_the_callee),
    (answers.ring, cancelled),
    (answers.refuse(486), refused),
    (answers.refuse(302, (("Contact", f"<sip:carol@{CLIENTS}.77:5060>"),)), moved),
    (answers.silence, never_rang),
]


@pytest.mark.parametrize(("script", "ending"), ENDINGS, ids=[ending.__name__ for _, ending in ENDINGS])
async def test_place_given_back(
    pool: Pool,
    alice: Phone,
    pbx: Phone,
    script: answers.Script,
    ending: Callable[[Call, Phone], Awaitable[None]],
) -> None:
    """However a call ends, its place is free afterwards, once and not twice: with one place, the next call gets it."""
    pool.set(ceiling=0, places=0)
    pool.members[0].admit(1)
    pool.table(0, 100)
    pbx.script = script
    await ending(await alice.dial(pool.uri), pbx)
    await idle(pool.members[0])
    pbx.script = answers.ring_then_answer
    call = await alice.call(pool.uri)
    assert call.status == 200
    assert (await alice.call(pool.uri)).status == 503
    assert await call.bye() == 200
    await idle(pool.members[0])
    assert pool.count("over") == 0


@pytest.mark.parametrize("wrong", [-3, 7])
async def test_counter_is_reconciled(pool: Pool, alice: Phone, pbx: Phone, wrong: int) -> None:
    """A count that has drifted from the dialog table, in either direction, is put right by Kamailio itself."""
    pool.table(0, 100)
    call = await alice.call(pool.uri)
    member = pool.members[0]
    member.control.set("use", "calls", 1 + wrong)
    await until(lambda: member.calls == 1, "the count is what the dialog table says", within=30)
    assert member.count("reconciled") == 1
    assert await call.bye() == 200
    await until(lambda: member.calls == 0, "the place is given back", within=3)


async def test_drain(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A draining proxy takes no new call, whatever the table says, and carries those it has to their end."""
    pool.table(0, 100, 100)
    old = await alice.call(pool.uri)
    pool.members[0].set(drain=1)
    new = await alice.call(pool.uri)
    assert new.status == 200
    assert [incoming.served_by for incoming in pbx.incoming] == [pool.members[0].ip, pool.members[1].ip]
    assert (await old.request("INVITE", body=old.sdp)).message.status == 200
    assert await old.bye() == 200
    assert await new.bye() == 200
    await idle(*pool.members)


@pytest.mark.parametrize("mode", ["forward", "redirect"])
async def test_drain_of_all_others(pool: Pool, alice: Phone, pbx: Phone, mode: str) -> None:
    """A call given to a proxy a moment before it drains is served by the primary, where nobody else is left."""
    primary, member = pool.primary, pool.members[0]
    pool.set(mode=mode)
    primary.table([member.row(5, closed=7), primary.row(5, closed=7)])
    member.table([primary.row(5, closed=7)])
    member.set(drain=1)
    call = await alice.call(pool.uri)
    assert call.status == 200
    assert pbx.incoming[0].served_by == primary.ip
    assert await call.bye() == 200
    await idle(primary, member)


async def test_media_down(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A proxy whose agent says that media cannot be relayed passes new calls on."""
    pool.table(0, 100, 100)
    pool.members[0].set(media=0)
    call = await alice.call(pool.uri)
    assert call.status == 200
    assert pbx.incoming[0].served_by == pool.members[1].ip
    assert await call.bye() == 200


async def test_not_ready(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A proxy that its agent has not set up yet serves nobody: a client's next retransmission may reach another."""
    pool.primary.set(ready=0)
    call = await alice.dial(pool.uri)
    await until(lambda: sent_invites(alice) >= 2, "the INVITE sent again")
    assert call.transaction.responses == []
    pool.primary.set(ready=1)
    assert await call.result() == 200
    assert await call.bye() == 200


async def test_not_ready_for_peers(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A proxy that is not set up yet answers other proxies at once, so that they go on to the next."""
    pool.members[0].set(ready=0)
    pool.table(0, 100, 100)
    assert (await alice.call(pool.uri, within=0.7)).status == 200  # well before a silent peer would be given up
    assert pbx.incoming[0].served_by == pool.members[1].ip


def sent_invites(phone: Phone) -> int:
    """Repetitions included."""
    return sum(message.method == "INVITE" for _, message in phone.endpoint.sent if not message.is_response)


@pytest.mark.parametrize("mode", ["forward", "redirect"])
async def test_load(pool: Pool, tmp_path: Path, mode: str) -> None:
    """300 calls of SIPp at 60 a second over three proxies: all are answered and ended, no place is over or lost."""
    pool.set(mode=mode)
    pool.table(300, 300, 300)
    with (
        answerer(f"{TARGETS}.1", tmp_path, ring_seconds=0.2),
        caller(
            f"{pool.primary.ip}:5060", f"{CLIENTS}.20", tmp_path, calls=300, rate=60, hold_seconds=1, user="echo"
        ) as load,
    ):
        result = await asyncio.to_thread(load.wait, 60)
    assert (result.offered, result.completed, result.failed, result.refused) == (300, 300, 0, 0), load.errors()
    assert result.redirected == pool.count("redirected")
    assert pool.count("admitted") == 300
    assert pool.count("over") == 0
    await idle(*pool.proxies)


async def test_load_beyond_the_pool(pool: Pool, tmp_path: Path) -> None:
    """More calls than the pool has places: every place is used before anybody is refused, and nobody is lost."""
    for proxy, places in zip(pool.proxies, (10, 20, 30), strict=True):
        proxy.admit(places)
    pool.table(10, 20, 30)
    with (
        answerer(f"{TARGETS}.1", tmp_path),
        caller(f"{pool.primary.ip}:5060", f"{CLIENTS}.21", tmp_path, calls=90, rate=60, hold_seconds=4) as load,
    ):
        await until(lambda: pool.count("saturated") > 0, "the pool is full", within=20)
        assert [proxy.calls for proxy in pool.proxies] == [10, 20, 30]
        result = await asyncio.to_thread(load.wait, 60)
    assert (result.offered, result.completed, result.refused, result.failed) == (90, 60, 30, 0), load.errors()
    assert (pool.count("admitted"), pool.count("saturated"), pool.count("over")) == (60, 30, 0)
    await idle(*pool.proxies)


@pytest.mark.parametrize(("script", "ending"), ENDINGS, ids=[ending.__name__ for _, ending in ENDINGS])
async def test_place_given_back_after_a_dead_proxy(
    pool: Pool,
    alice: Phone,
    pbx: Phone,
    script: answers.Script,
    ending: Callable[[Call, Phone], Awaitable[None]],
) -> None:
    """The same for a call that its proxy serves only because the one tried before did not answer."""
    pool.primary.table([pool.peer(PEER, room=5), *pool.rows(5)])  # nobody is at the peer's address
    pbx.script = script
    await ending(await alice.dial(pool.uri), pbx)
    assert pool.primary.count("admitted") == 1
    await idle(pool.primary)


async def test_copies_of_an_invite_at_once(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """After a stall an INVITE and its repetitions wait together, and workers take one each: one call, one place."""
    calls = 20
    pool.table(calls)  # the primary serves them itself
    for _ in range(calls):
        call = await alice.dial(pool.uri)
        for _ in range(3):
            await alice.endpoint.send(call.transaction.request, call.transaction.to)
        assert await call.result() == 200
        assert await call.bye() == 200
    await idle(pool.primary)
    assert (pool.primary.count("admitted"), len(pbx.incoming)) == (calls, calls)


async def test_forked_on_its_way(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Two INVITEs of one call are one dialog, which has one place."""
    pbx.script = answers.ring
    pool.table(5)
    sdp = describe(alice.endpoint.address[0])
    for _ in range(2):
        await alice.request("INVITE", pool.uri, call_id="forked", from_tag="same", body=sdp)
    first, second = [await pbx.expect_call(number=number) for number in range(2)]
    assert int(pool.primary.control("dlg.stats_active")["all"]) == 1
    assert pool.primary.calls == 1
    for incoming in (first, second):
        await incoming.reply(486)
    await idle(pool.primary)
    assert pool.primary.count("reconciled") == 0


async def test_a_call_id_with_a_space(pool: Pool, alice: Phone) -> None:
    """Is none: rtpengine could not be told that the call has ended."""
    pool.table(5)
    made = await alice.request("INVITE", pool.uri, call_id="a b", body=describe(alice.endpoint.address[0]))
    assert (await made.final()).message.status == 400
    await idle(pool.primary)
    assert media_sessions(pool.primary) == 0
