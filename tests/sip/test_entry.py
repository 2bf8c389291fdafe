"""The port that the Service sends to: what comes in by it is answered by it, and nobody is ever told of it."""

from __future__ import annotations

import pytest

from tests.tools.message import hop, uri_in
from tests.tools.pool import Pool, idle
from tests.tools.sip import Phone

ENTRY_PORT = 15060


@pytest.mark.parametrize("serving", [0, 1], ids=["served by the primary", "sent on"])
async def test_answers_leave_by_the_port_that_was_called(pool: Pool, alice: Phone, pbx: Phone, serving: int) -> None:
    """A call to the Service's port is answered from there; its route set and what follows are at the other port."""
    served = pool.proxies[serving]
    pool.primary.table([served.row(5, closed=7)])
    call = await alice.call(pool.uri, to=(pool.primary.ip, ENTRY_PORT))
    assert call.status == 200
    assert {packet.source for packet in alice.log} == {(pool.primary.ip, ENTRY_PORT)}
    assert call.dialog is not None
    assert [hop(uri_in(route)) for route in call.dialog.routes] == [(served.ip, 5060)]
    incoming = await pbx.expect_call()
    assert incoming.invite.header("Via").startswith(f"SIP/2.0/UDP {served.ip}:5060")
    assert (await incoming.request("OPTIONS")).message.status == 200
    assert await call.bye() == 200
    await idle(*pool.proxies)


async def test_redirect_names_the_other_port(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A 302 from the Service's port leads to the other port."""
    pool.set(mode="redirect")
    served = pool.proxies[1]
    pool.primary.table([served.row(5, closed=7)])
    call = await alice.call(pool.uri, to=(pool.primary.ip, ENTRY_PORT))
    assert call.path == [(pool.primary.ip, 302), (served.ip, 200)]
    assert await call.bye() == 200
    await idle(*pool.proxies)
