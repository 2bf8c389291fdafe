"""Hand-over: the Service points at a new primary while calls ring at the one before; they notice nothing.

A client keeps its address and transaction when the Service moves; so here it goes on at the new primary's address.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.tools import answers
from tests.tools.addresses import CLIENTS, PROXIES
from tests.tools.message import Address
from tests.tools.pool import Pool, idle
from tests.tools.sessions import Call, Incoming
from tests.tools.sip import Phone
from tests.tools.wait import until

GONE = f"{PROXIES}.77"
Ringing = tuple[Call, Address, asyncio.Event]  # the call, where the new primary is, and what makes it answered


@pytest.fixture
async def ringing(pool: Pool, alice: Phone, pbx: Phone) -> AsyncIterator[Ringing]:
    """A call that rings, assigned by the old primary and served by the third proxy; the second is primary by now."""
    old, new, serving = pool.proxies
    answered = asyncio.Event()
    pbx.script = answers.answer_when(answered)
    pool.primary.table([serving.row(5, closed=7)])
    call = await alice.dial(pool.uri)
    await call.ringing()
    old.set(role="member")
    new.set(role="primary", prev=old.uri)
    pool.set(primary=new.uri)
    yield call, (new.ip, 5060), answered
    await idle(*pool.proxies)


async def test_cancel(ringing: Ringing, pbx: Phone) -> None:
    """A CANCEL that reaches the new primary ends the call that the old one assigned."""
    call, new, _ = ringing
    assert await call.cancel(to=new) == 200
    assert await call.result() == 487
    assert pbx.incoming[0].cancelled.is_set()


async def test_late_answer(ringing: Ringing) -> None:
    """A call answered after the hand-over is acknowledged, talks and ends as if nothing had happened."""
    call, _, answered = ringing
    answered.set()
    assert await call.result() == 200
    assert (await call.request("INVITE", body=call.sdp)).message.status == 200
    assert await call.bye() == 200


async def test_repeated_invite(ringing: Ringing, alice: Phone, pool: Pool, pbx: Phone) -> None:
    """An INVITE that is sent again and reaches the new primary is not taken for a new call."""
    call, new, answered = ringing
    before = len(alice.log)
    await alice.endpoint.send(call.transaction.request, new)
    await alice.endpoint.until(lambda packet: 100 <= packet.message.status < 200, since=before)
    await asyncio.sleep(0.3)  # longer than the new primary waits for the previous one's word
    assert pool.count("assigned") == pool.count("admitted") == 1
    assert len(pbx.incoming) == 1
    answered.set()
    assert await call.result() == 200
    assert await call.bye() == 200


async def test_acknowledged_refusal(ringing: Ringing, alice: Phone, pbx: Phone) -> None:
    """The ACK for a refusal, which goes where the INVITE went, stops the old primary's repetitions."""
    call, new, _ = ringing
    call.transaction.to = new
    await pbx.incoming[0].reply(486)
    assert await call.result() == 486
    finals = [packet for packet in alice.log if packet.message.status == 486]
    await asyncio.sleep(1.2)  # two of the old primary's repetitions would have come by now
    assert len([packet for packet in alice.log if packet.message.status == 486]) <= len(finals) + 1


async def test_new_calls(ringing: Ringing, alice: Phone, pool: Pool) -> None:
    """Meanwhile fresh calls are the new primary's own to assign."""
    call, new, answered = ringing
    answered.set()
    assert await call.result() == 200
    fresh = await alice.call(f"sip:echo@{new[0]}:5060")
    assert fresh.status == 200
    assert pool.members[0].count("assigned") == 1
    assert [await one.bye() for one in (call, fresh)] == [200, 200]


@pytest.mark.parametrize("role", ["member", "primary"])  # of the previous primary: told of its successor, or not yet
async def test_new_calls_wait_for_a_word_alone(role: str, pool: Pool, alice: Phone, pbx: Phone) -> None:
    """That it does not know an INVITE is said at once: were the time-out waited for, no call would take below 60 ms."""
    pbx.script = Incoming.answer
    old, new, _ = pool.proxies
    old.set(role=role)
    new.set(role="primary", prev=old.uri)
    clock, took = asyncio.get_running_loop().time, []
    for _ in range(10):
        began = clock()
        call = await alice.call(f"sip:echo@{new.ip}:5060")
        took.append(clock() - began)
        assert await call.bye() == 200
    assert min(took) < 0.06, took
    await until(lambda: new.control("tm.stats")["current"] == 0, "no held transaction is left behind")


async def test_a_previous_primary_that_is_gone_is_not_waited_for(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """When no word comes the INVITE is a new call, of which the client notices nothing."""
    _, new, _ = pool.proxies
    pool.peer(GONE, room=0)  # nobody is at that address
    new.set(role="primary", prev=f"sip:{GONE}:5060")
    call = await alice.call(f"sip:echo@{new.ip}:5060")
    assert call.path == [(new.ip, 200)]
    assert new.count("assigned") == 1
    assert await call.bye() == 200


async def test_a_forged_word_is_not_believed(pool: Pool) -> None:
    """Who has a proxy's address and not the pool's key cannot tell the new primary anything."""
    _, new, _ = pool.proxies
    pool.peer(GONE, room=0)
    async with Phone.at(GONE) as mallory:
        for word in ("z9hG4bK1 yes 0123456789abcdef0123456789abcdef", "z9hG4bK1"):
            await mallory.request("INFO", f"sip:pool@{new.ip}:5060", headers=[("X-VP-Known", word)], resend=False)
        await until(lambda: new.count("forged") == 2, "both are counted as forged")
    assert new.control.dump("known") == {}


async def test_connection_outlives_the_hand_over(pool: Pool, pbx: Phone) -> None:
    """A TCP client stays connected to the old primary: its next call goes on to the new one, which assigns it."""
    old, new, _ = pool.proxies
    async with Phone.at(f"{CLIENTS}.7", protocol="tcp") as carol:
        first = await carol.call(pool.uri)
        assert await first.bye() == 200
        old.set(role="member")
        new.set(role="primary", prev=old.uri)
        pool.set(primary=new.uri)
        second = await carol.call(pool.uri)
        assert second.status == 200
        assert new.count("assigned") == 1
        assert await second.bye() == 200
    await until(lambda: all(proxy.calls == 0 for proxy in pool.proxies), "every place is given back")


async def test_redirected_to_the_new_primary(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A client that the new primary redirects to itself is served when it comes back, not redirected again."""
    old, new, _ = pool.proxies
    pool.set(mode="redirect")
    old.set(role="member")
    new.set(role="primary", prev=old.uri)
    pool.set(primary=new.uri)
    new.table([new.row(5, closed=7)])
    call = await alice.call(f"sip:echo@{new.ip}:5060")
    assert call.path == [(new.ip, 302), (new.ip, 200)]
    assert await call.bye() == 200
    await idle(*pool.proxies)
