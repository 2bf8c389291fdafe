"""Full proxies pass a request on, proxy by proxy, until one is below the threshold; bounded and without loops."""

from __future__ import annotations

import pytest

from tests.tools import answers
from tests.tools.addresses import PEER
from tests.tools.pool import TICK, Pool, idle
from tests.tools.sip import Phone
from tests.tools.wait import until


async def test_chain(big_pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Each full proxy that gets the call, not only the primary, forwards it on by the shared workload."""
    pool = big_pool
    for proxy in pool.members[:3]:
        proxy.admit(0)
    pool.table(0, 100, 100, 100, 100)
    call = await alice.call(pool.uri)
    assert call.status == 200
    assert pbx.incoming[0].served_by == pool.members[3].ip
    assert call.routes == [pool.members[3].ip]
    assert [proxy.count("refused") for proxy in pool.proxies] == [0, 1, 1, 1, 0]
    assert int(pbx.incoming[0].invite.header("Max-Forwards")) <= 70 - 4
    assert await call.bye() == 200
    await idle(*pool.proxies)


async def test_chain_of_redirects(big_pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A full proxy that a client was redirected to redirects it on, never to one it has been to."""
    pool = big_pool
    pool.set(mode="redirect")
    for proxy in pool.members[:3]:
        proxy.admit(0)
    pool.table(0, 100, 100, 100, 100)
    call = await alice.call(pool.uri)
    assert call.path == [*((proxy.ip, 302) for proxy in pool.proxies[:4]), (pool.members[3].ip, 200)]
    assert await call.bye() == 200


async def test_identity_along_the_chain(pool: Pool, alice: Phone) -> None:
    """However many proxies a request passes, it carries the identity of the client that sent it to the first."""
    async with Phone.at(PEER, 5060, user="peer") as peer:
        last = pool.peer(PEER, room=100)
        pool.members[0].admit(0)
        pool.primary.table([pool.members[0].row(100, closed=TICK - 3)])
        pool.members[0].table([last])
        call = await alice.call(pool.uri)
        assert call.status == 200
        invite = peer.incoming[0]
        assert invite.served_by == pool.members[0].ip
        assert alice.endpoint.address[0] in invite.invite.header("X-VP-Client")
        assert pool.primary.name in invite.invite.header("X-VP-Visited")
        assert pool.members[0].name in invite.invite.header("X-VP-Visited")
        await call.bye()


async def test_bounded(big_pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A request goes over at most maxHops proxies; then the client is told to come again."""
    pool = big_pool
    pool.set(hops=2)
    for proxy in pool.members[:3]:
        proxy.admit(0)
    pool.table(0, 100, 100, 100, 100)
    call = await alice.call(pool.uri)
    assert call.status == 503
    assert pbx.incoming == []


async def test_saturated(big_pool: Pool, alice: Phone, pbx: Phone) -> None:
    """With every proxy at the threshold the client is refused once all were asked, and told when to come again."""
    pool = big_pool
    pool.set(ceiling=0, places=0)
    pool.table(100, 100, 100, 100, 100)
    call = await alice.call(pool.uri)
    assert call.status == 503
    assert int(call.final.header("Retry-After").split(";")[0].split("(")[0]) >= 1
    assert pbx.incoming == []
    assert (pool.count("admitted"), pool.count("over")) == (0, 0)
    await idle(*pool.proxies)


@pytest.mark.parametrize("mode", ["forward", "redirect"])
async def test_saturated_status(pool: Pool, alice: Phone, mode: str) -> None:
    """The refusal has the pool's status (some trunks blacklist a host for a 503) and a jittered Retry-After."""
    pool.set(mode=mode, status=480, retry=4, ceiling=0, places=0)
    pool.table(0, 0, 0)
    waits = set()
    for _ in range(20):
        call = await alice.call(pool.uri)
        assert call.status == 480
        waits.add(int(call.final.header("Retry-After")))
    assert len(waits) > 1, waits
    assert all(1 <= wait <= 12 for wait in waits), waits


async def test_stale_table_is_tried(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """When credits are used up, a few proxies are still asked before a client is refused: admission decides."""
    await until(
        lambda: pool.primary.control.number("use", "tries") > 5, "there is a budget for tries, renewed each second"
    )
    pool.primary.admit(0)
    pool.table(0, 0, 0)  # nobody has room, says the table; the members know better
    call = await alice.call(pool.uri)
    assert call.status == 200
    assert pbx.incoming[0].served_by in {proxy.ip for proxy in pool.members}
    assert await call.bye() == 200


async def test_a_proxy_that_has_just_started_tries(pool: Pool) -> None:
    """The budget for tries does not begin with the second after the start, when all rows may be a moment old."""
    pool.primary.kill()
    pool.primary.start()
    assert pool.primary.control.number("use", "tries") > 5


async def test_max_forwards(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Max-Forwards counts down at each proxy; at its end the answer is 483."""
    pool.members[0].admit(0)
    pool.table(0, 100, 100)
    assert (await alice.call(pool.uri, max_forwards=1)).status == 483
    assert (await alice.call(pool.uri, max_forwards=0)).status == 483
    assert pbx.incoming == []


async def test_loop(pool: Pool, alice: Phone) -> None:
    """A request that comes back to a proxy it has visited is answered 482."""
    async with Phone.at(PEER, 5060, user="peer") as peer:
        pool.primary.table([pool.peer(PEER, room=100)])
        peer.script = answers.silence
        call = await alice.dial(pool.uri)
        invite = (await peer.expect_call()).invite
        back = await peer.request("INVITE", invite.uri, to=(pool.primary.ip, 5060), headers=invite.having("X-VP-"))
        assert (await back.final()).message.status == 482
        assert pool.primary.count("loops") == 1
        await call.cancel()


async def test_straight_to_a_member(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A fresh request that reaches a proxy which is not the primary goes to the primary, which assigns it."""
    pool.table(0, 5, 5)
    call = await alice.call(f"sip:echo@{pool.members[1].ip}:5060")
    assert call.status == 200
    assert pbx.incoming[0].served_by == pool.members[0].ip
    assert pool.primary.count("assigned") == 1
    assert await call.bye() == 200


async def test_straight_to_a_member_without_primary(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """When the primary does not answer, the member serves the request, or sends it on by the short list it holds."""
    pool.table(0, 5, 5)
    pool.primary.kill()
    call = await alice.call(f"sip:echo@{pool.members[1].ip}:5060")
    assert call.status == 200
    assert pbx.incoming[0].served_by in {proxy.ip for proxy in pool.members}
    assert await call.bye() == 200
