"""Emergency and priority calls use the room above the threshold, up to full capacity, and nobody else does."""

from __future__ import annotations

import pytest

from switchboard.pool.spec import Rights
from tests.tools.addresses import PSTN, VOIP
from tests.tools.pool import CLOSED, Pool, idle
from tests.tools.sip import Phone


def at_threshold(pool: Pool, *spare: int) -> None:
    """No proxy has room; so many urgent calls would each still take."""
    pool.set(ceiling=0, places=0, priorities="esnet wps.0")
    for proxy, room in zip(pool.proxies, spare, strict=True):
        proxy.control.set("urgent", "112", 1)
        proxy.set(full=room, capacity=room)
    rows = [proxy.row(0, closed=CLOSED, spare=room) for proxy, room in zip(pool.proxies, spare, strict=True)]
    for proxy in pool.proxies:
        proxy.table(rows)


def number(pool: Pool, user: str) -> str:
    return f"sip:{user}@{pool.primary.ip}:5060"


@pytest.mark.parametrize("mode", ["forward", "redirect"])
async def test_emergency_number(pool: Pool, alice: Phone, pbx: Phone, mode: str) -> None:
    """With every proxy at the threshold an ordinary call is refused, and one to an emergency number is served, by the
    proxy with the most capacity left, as long as there is any; full proxies refuse it, too.
    """
    pool.set(mode=mode)
    at_threshold(pool, 0, 1, 2)
    assert (await alice.call(pool.uri)).status == 503
    calls = [await alice.call(number(pool, "112")) for _ in range(4)]
    assert [call.status for call in calls] == [200, 200, 200, 503]
    assert pbx.incoming[0].served_by == pool.members[1].ip
    assert [proxy.calls for proxy in pool.proxies] == [0, 1, 2]
    assert [proxy.count("urgent") for proxy in pool.proxies] == [0, 1, 2]
    assert pool.count("over") == 0
    assert (await alice.call(number(pool, "1123"))).status == 503
    assert [await call.bye() for call in calls[:3]] == [200] * 3
    await idle(*pool.proxies)


async def test_below_the_threshold(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """An urgent call counts as one above the threshold only where another call would not have been admitted."""
    pool.table(5)
    pool.primary.set(ceiling=1, full=2, capacity=2)
    pool.primary.control.set("urgent", "112", 1)
    for above in (0, 1):
        assert (await alice.call(number(pool, "112"))).status == 200
        assert pool.primary.count("urgent") == above
    assert pool.primary.count("admitted") == 2


async def test_emergency_urn(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """`urn:service:sos` and the services below it are emergency calls in every pool; other services are not."""
    at_threshold(pool, 1, 0, 0)
    for urn, status in (("urn:service:sos", 200), ("urn:service:sos.fire", 200), ("urn:service:counseling", 503)):
        call = await alice.call(urn, to=(pool.primary.ip, 5060))
        assert call.status == status, urn
        if status == 200:
            assert await call.bye() == 200
            await idle(pool.primary)


async def test_resource_priority(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Resource-Priority counts from a gateway that has the right to give it, in the namespaces that the pool names,
    and from nobody else.
    """
    at_threshold(pool, 0, 1, 1)
    pool.gateway("pstn-1", rights=Rights(priority=True))
    async with Phone.at(f"{PSTN}.1") as trusted, Phone.at(f"{VOIP}.1") as other:
        rows = (
            (trusted, "esnet.2", 200),
            (trusted, "dsn.flash, WPS.0", 200),
            (trusted, "wps.1", 503),
            (trusted, "", 503),
        )
        for phone, value, status in (*rows, (other, "esnet.0", 503), (alice, "esnet.0", 503)):
            headers = [("Resource-Priority", value)] if value else []
            call = await phone.call(pool.uri, headers=headers)
            assert call.status == status, value
            if status == 200:
                assert await call.bye() == 200
                await idle(*pool.proxies)
