"""Credits: the primary counts what it assigns, the proxies what arrives, and neither counts anything twice."""

from __future__ import annotations

import asyncio

import pytest

from tests.tools import answers
from tests.tools.addresses import PEER
from tests.tools.pool import CLOSED, TICK, Pool, contact, idle, token
from tests.tools.sip import Phone


@pytest.mark.parametrize("mode", ["forward", "redirect"])
async def test_counted_on_both_sides(pool: Pool, alice: Phone, pbx: Phone, mode: str) -> None:
    """A call assigned under a tick is counted under it by the assigner, and by the proxy when it arrives."""
    pool.set(mode=mode)
    pool.table(0, 5)
    for _ in range(3):
        call = await alice.call(pool.uri)
        assert await call.bye() == 200
    member = pool.members[0]
    assert pool.primary.control.dump("ast") == {f"{member.id}:{TICK}": "3"}
    assert member.control.dump("rcv") == {f"{pool.primary.id}:{TICK}": "3"}


@pytest.mark.parametrize("mode", ["forward", "redirect"])
async def test_workers_follow_what_changes(pool: Pool, alice: Phone, pbx: Phone, mode: str) -> None:
    """A tick or a table that is in effect holds for the next call, whichever SIP worker takes it."""
    pool.set(mode=mode)
    first, second = pool.members
    calls = 16  # several for each worker

    async def call() -> None:
        for _ in range(calls):
            assert await (await alice.call(pool.uri)).bye() == 200

    pool.table(0, 90, 90)
    await call()
    pool.set(tick=TICK + 1)
    await call()
    assigned = {f"{first.id}:{TICK}": str(calls), f"{first.id}:{TICK + 1}": str(calls)}
    assert pool.primary.control.dump("ast") == assigned
    pool.table(0, 0, 90)
    await call()
    assert pool.primary.control.dump("ast") == assigned | {f"{second.id}:{TICK + 1}": str(calls)}
    assert pool.count("refused") == 0


async def test_stops_at_the_room(pool: Pool, alice: Phone) -> None:
    """The primary assigns no more calls than there is room for, though no report has told it of any of them."""
    pool.set(mode="redirect")
    pool.table(0, 3)
    pool.members[0].admit(3)
    calls = [await alice.call(pool.uri, follow=0) for _ in range(5)]
    assert [call.status for call in calls][:3] == [302] * 3
    assert pool.primary.control.dump("ast") == {f"{pool.members[0].id}:{TICK}": "3"}


async def test_a_report_renews_the_room(pool: Pool, alice: Phone) -> None:
    """Calls that a report already contains are not held against the room a second time."""
    pool.set(mode="redirect")
    member = pool.members[0]
    pool.primary.table([member.row(3, closed=CLOSED)])
    assert [(await alice.call(pool.uri, follow=0)).status for _ in range(3)] == [302] * 3
    arrived = member.row(1, closed=CLOSED)
    pool.primary.table([type(arrived)(arrived.id, arrived.uri, arrived.advertise, 1, received=3, closed=CLOSED)])
    assert (await alice.call(pool.uri, follow=0)).status == 302
    assert pool.primary.control.number("ast", f"{member.id}:{TICK}") == 4
    pool.primary.table([member.row(4, closed=TICK)])  # the tick is closed: what was assigned in it no longer counts
    pool.primary.set(tick=TICK + 3)
    others = [f"sip:{n}@example.test" for n in range(4)]  # she has never followed, and would be forwarded
    assert [(await alice.call(pool.uri, follow=0, from_uri=one)).status for one in others] == [302] * 4
    assert pool.primary.control.number("ast", f"{member.id}:{TICK + 3}") == 4


async def test_refused_call_arrived(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A call that a full proxy sends on did arrive there: it is counted as received, or its credit would be lost."""
    pool.table(0, 5, 5)
    pool.members[0].admit(0)
    call = await alice.call(pool.uri)
    assert call.status == 200
    assert pool.members[0].control.dump("rcv") == {f"{pool.primary.id}:{TICK}": "1"}
    assert pool.primary.control.number("ast", f"{pool.members[0].id}:{TICK}") == 1
    await call.bye()


async def test_late_follower(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A client that follows its 302 after the tick is closed is served, and no longer counted as received."""
    pool.set(mode="redirect")
    pool.table(0, 5)
    call = await alice.call(pool.uri, follow=0)
    pool.members[0].set(tick=TICK + 3)
    late = await alice.call(contact(call.transaction.responses[-1]))
    assert late.status == 200
    assert pool.members[0].control.dump("rcv") == {}
    assert await late.bye() == 200


async def test_dead_proxy_gives_its_credit_back(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """An assignment to a proxy that is gone is returned within a second, and another one takes the call."""
    gone = pool.peer(PEER, room=5)  # nobody is at that address
    pool.primary.table([gone, pool.members[0].row(5, closed=CLOSED)])
    started = asyncio.get_running_loop().time()
    call = await alice.call(pool.uri)
    assert call.status == 200
    assert asyncio.get_running_loop().time() - started < 1.2
    assert pbx.incoming[0].served_by == pool.members[0].ip
    assert pool.primary.control.number("ast", f"{gone.id}:{TICK}") == 0
    started = asyncio.get_running_loop().time()
    second = await alice.call(pool.uri)
    assert asyncio.get_running_loop().time() - started < 0.5  # it is not asked again at once
    assert [await one.bye() for one in (call, second)] == [200, 200]


async def test_hung_proxy_is_passed_over(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A proxy that is there but does not answer is skipped within a second, too."""
    async with Phone.at(PEER, 5060, user="hung") as hung:
        hung.endpoint.on_packet = lambda _packet: None
        pool.primary.table([pool.peer(PEER, room=5), pool.members[0].row(5, closed=CLOSED)])
        started = asyncio.get_running_loop().time()
        call = await alice.call(pool.uri)
        assert call.status == 200
        assert asyncio.get_running_loop().time() - started < 1.2
        assert hung.requests("INVITE")
        assert await call.bye() == 200


async def test_ringing_is_not_dead(pool: Pool, alice: Phone) -> None:
    """A proxy that answers provisionally is alive, however long the call rings: it is not tried elsewhere."""
    async with Phone.at(PEER, 5060, user="peer") as peer:
        answered = asyncio.Event()
        peer.script = answers.answer_when(answered)
        pool.primary.table([pool.peer(PEER, room=5), pool.members[0].row(5, closed=CLOSED)])
        call = await alice.dial(pool.uri)
        await call.ringing()
        await asyncio.sleep(1.5)  # longer than any proxy is waited for
        answered.set()
        assert await call.result() == 200
        assert pool.members[0].count("admitted") == 0
        assert await call.bye() == 200


async def test_tokens_differ(pool: Pool, alice: Phone) -> None:
    """Every assignment has a token of its own, so that each can be counted once."""
    async with Phone.at(PEER, 5060, user="peer") as peer:
        pool.primary.table([pool.peer(PEER, room=50)])
        calls = await asyncio.gather(*(alice.call(pool.uri) for _ in range(20)))
        assert {call.status for call in calls} == {200}
        assert len({token(incoming.packet) for incoming in peer.incoming}) == 20
        await asyncio.gather(*(call.bye() for call in calls))
    await idle(*pool.proxies)
