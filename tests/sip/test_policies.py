"""Which proxy is chosen, and where a served call goes from there."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.tools import answers
from tests.tools.addresses import TARGETS
from tests.tools.message import hop
from tests.tools.pool import CLOSED, Pool, contact, idle, to
from tests.tools.sip import Phone

CALLS = 60


async def choices(pool: Pool, alice: Phone, calls: int) -> Counter[str]:
    """Which proxies that many callers are given, each asking after the other."""
    chosen: Counter[str] = Counter()
    for _ in range(calls):
        call = await alice.call(pool.uri, follow=0)
        assert call.status == 302
        chosen[hop(contact(call.transaction.responses[-1]))[0]] += 1
    return chosen


async def test_first(pool: Pool, alice: Phone) -> None:
    """Policy first: the first proxy found below the threshold, in the table's order."""
    pool.set(mode="redirect", policy="first")
    pool.table(0, 10, 100)
    assert await choices(pool, alice, 15) == {pool.members[0].ip: 10, pool.members[1].ip: 5}


async def test_least(pool: Pool, alice: Phone) -> None:
    """Policy least: the proxy with the most room."""
    pool.set(mode="redirect", policy="least")
    pool.table(0, 20, 50)
    chosen = await choices(pool, alice, 30)
    assert chosen[pool.members[1].ip] >= 28, chosen


async def test_weighted(pool: Pool, alice: Phone) -> None:
    """Policy weighted: in proportion to free capacity."""
    pool.set(mode="redirect", policy="weighted")
    first, second = pool.members
    pool.primary.table([first.row(300, weight=15, closed=CLOSED), second.row(100, weight=5, closed=CLOSED)])
    chosen = await choices(pool, alice, CALLS)
    assert chosen.total() == CALLS
    assert CALLS * 0.55 <= chosen[first.ip] <= CALLS * 0.92, chosen


@pytest.mark.parametrize("policy", ["first", "least", "weighted"])
async def test_room_is_kept(pool: Pool, alice: Phone, policy: str) -> None:
    """With every policy a proxy is assigned no more calls than it has room for, and all room is used."""
    pool.set(mode="redirect", policy=policy)
    pool.table(3, 7, 10)
    assert await choices(pool, alice, 20) == {
        pool.primary.ip: 3,
        pool.members[0].ip: 7,
        pool.members[1].ip: 10,
    }


async def test_routes_by_prefix(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """The route with the longest fitting prefix takes the call."""
    pool.routes(
        to(f"sip:{TARGETS}.1:5060"),
        to(f"sip:{TARGETS}.2:5060", prefix="+4930"),
        to(f"sip:{TARGETS}.3:5060", prefix="+49"),
    )
    async with Phone.at(f"{TARGETS}.2", 5060, user="berlin") as berlin, Phone.at(f"{TARGETS}.3", 5060) as germany:
        for user in ("+4930123", "+4989123", "echo"):
            call = await alice.call(f"sip:{user}@{pool.primary.ip}:5060")
            assert call.status == 200
            await call.bye()
        assert [len(phone.incoming) for phone in (berlin, germany, pbx)] == [1, 1, 1]
        assert berlin.incoming[0].invite.uri.startswith("sip:+4930123@")


async def test_no_route(pool: Pool, alice: Phone) -> None:
    """A number that no route leads to is answered 404, and takes no place."""
    pool.routes(to(f"sip:{TARGETS}.2:5060", prefix="+4930"))
    assert (await alice.call(pool.uri)).status == 404
    await idle(*pool.proxies)


@pytest.mark.parametrize("script", [answers.refuse(503), answers.silence], ids=["refusing", "silent"])
async def test_failover(pool: Pool, alice: Phone, pbx: Phone, script: answers.Script) -> None:
    """A target that is down or refuses with 503 is passed over: the call goes to the next one of the route."""
    pool.routes(to(f"sip:{TARGETS}.2:5060", f"sip:{TARGETS}.1:5060"))
    async with Phone.at(f"{TARGETS}.2", 5060, user="down") as down:
        down.script = script
        call = await alice.call(pool.uri, within=12)
        assert call.status == 200
        assert len(down.incoming) == 1
        assert len(pbx.incoming) == 1
        assert await call.bye() == 200
    await idle(*pool.proxies)


async def test_no_failover_of_answers(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A target's own refusal of the call, such as busy, is the answer; the next target is not bothered."""
    pool.routes(to(f"sip:{TARGETS}.2:5060", f"sip:{TARGETS}.1:5060"))
    async with Phone.at(f"{TARGETS}.2", 5060, user="busy") as busy:
        busy.script = answers.refuse(486)
        assert (await alice.call(pool.uri)).status == 486
    assert pbx.incoming == []


async def test_no_target_left(pool: Pool, alice: Phone) -> None:
    """With every target down the caller is told soon, and other proxies, which reach no more, are not tried."""
    pool.routes(to(f"sip:{TARGETS}.2:5060", f"sip:{TARGETS}.3:5060"))
    async with Phone.at(f"{TARGETS}.2", 5060) as one, Phone.at(f"{TARGETS}.3", 5060) as two:
        one.script = two.script = answers.refuse(503)
        call = await alice.call(pool.uri)
        assert call.status >= 500
        assert [len(one.incoming), len(two.incoming)] == [1, 1]
    await idle(*pool.proxies)


async def test_simultaneous(pool: Pool, alice: Phone) -> None:
    """Many callers at the same instant, several workers: still nobody is assigned beyond its room."""
    pool.set(mode="redirect")
    pool.table(0, 20, 20)
    calls = await asyncio.gather(*(alice.call(pool.uri, follow=0) for _ in range(40)))
    chosen = Counter(hop(contact(call.transaction.responses[-1]))[0] for call in calls if call.status == 302)
    assert all(count <= 20 for count in chosen.values()), chosen
    assert chosen.total() >= 36, chosen  # a race may cost a place for a moment
