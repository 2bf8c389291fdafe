"""Claims on forwarding with the client's identity."""

from __future__ import annotations

from tests.claims.exchange import PLACES, Exchange
from tests.tools import message as sip
from tests.tools.wait import until


async def test_c06_forwarded_with_identity(exchange: Exchange) -> None:
    """C6: the primary forwards the request, with the client's identity, to another proxy chosen by workload."""
    await exchange.open(assignment={"mode": "forward"})
    await exchange.fill(PLACES + 1)
    primary = (await exchange.pool.status())["primary"]
    reports = await exchange.reported(PLACES + 1)
    assert reports[primary].forwarded >= 1
    invite = exchange.pbx.incoming[-1].invite
    caller = exchange.phone.endpoint.address[0]
    assert caller in invite.header("Contact")
    assert exchange.phone.user in invite.header("From")
    assert len(set(exchange.served_by())) == 2


async def test_c09_any_proxy_forwards(exchange: Exchange) -> None:
    """C9: whichever proxy is now processing a request, not only the primary, forwards it on by the shared workload."""
    await exchange.open(assignment={"mode": "redirect"})
    late = sip.uri_in((await exchange.redirected()).final.header("Contact"))
    full = sip.hop(late)[0]
    member = await exchange.pod_at(full)

    async def member_is_full() -> bool:
        """The late client's place is free for others after three ticks; calls that went elsewhere are ended at once."""
        call = await exchange.call()
        if call.status == 200 and call.path[-1][0] != full:
            exchange.calls.remove(call)
            await call.bye()
        return (await exchange.reports())[member].calls == PLACES

    await until(member_is_full, f"{member} at the threshold")
    await exchange.pool.patch(assignment={"mode": "forward"})
    await exchange.pool.ready(3)
    before = len(exchange.pbx.incoming)
    call = await exchange.call(late)
    assert call.path == [(full, 200)]
    assert exchange.served_by()[before:] != [full]
    assert (await exchange.reports())[member].forwarded >= 1


async def test_c10_on_until_one_has_room(exchange: Exchange) -> None:
    """C10: that goes on until a proxy is below the threshold; when none is, the answer is 503 with Retry-After."""
    await exchange.open()
    await exchange.fill(3 * PLACES)
    await exchange.reported(3 * PLACES)
    call = await exchange.call()
    assert call.status == 503
    assert int(call.final.header("Retry-After")) >= 1

    async def told() -> bool:
        return "PoolSaturated" in await exchange.pool.reasons()

    await until(told, "an Event PoolSaturated")
    freed = exchange.calls.pop()
    assert await freed.bye() == 200
    await exchange.reported(3 * PLACES - 1)

    async def connected() -> bool:
        return (await exchange.call()).status == 200

    await until(connected, "a call in the place that came free")
