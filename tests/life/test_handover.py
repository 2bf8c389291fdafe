"""A hand-over while calls ring, seen by a phone that knows the Service alone."""

from __future__ import annotations

import asyncio

from e2e import product
from tests.claims.conftest import address, exchange
from tests.claims.exchange import Exchange
from tests.tools import answers
from tests.tools.wait import until

__all__ = ["address", "exchange"]  # the claims' fixtures, used here too


async def test_ringing_calls_find_their_way(exchange: Exchange) -> None:
    """CANCEL, a repeated INVITE and a late 200 find their call when the Service leads to another primary by then."""
    pool, phone, pbx = exchange.pool, exchange.phone, exchange.pbx
    answered = asyncio.Event()
    pbx.script = answers.answer_when(answered)
    await exchange.open(replicas=3)
    calls = [await phone.dial(exchange.service) for _ in range(3)]
    for call in calls:
        await call.ringing()
    before = await pool.entry()
    assert before is not None
    product.kubectl("delete", "pod", before, "--namespace", pool.namespace, "--wait=false")

    async def handed_over() -> bool:
        return await pool.entry() not in {None, before}

    await until(handed_over, "another primary")
    given_up, repeated, late = calls
    assert await given_up.cancel() == 200
    assert await given_up.result() == 487
    seen = len(phone.log)
    await phone.endpoint.send(repeated.transaction.request, repeated.transaction.to)
    await phone.endpoint.until(lambda packet: 100 <= packet.message.status < 200, since=seen)
    answered.set()
    assert [await call.result() for call in (repeated, late)] == [200, 200]
    assert [await call.bye() for call in (repeated, late)] == [200, 200]
    assert len(pbx.incoming) == 3, "the repeated INVITE was taken for another call"
