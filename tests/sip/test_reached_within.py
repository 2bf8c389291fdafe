"""Within a dialog a client behind NAT is reached over its flow, whatever told its Contact last: request or answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.sip.test_registrar import known, register
from tests.tools import answers
from tests.tools.addresses import CLIENTS, TARGETS
from tests.tools.dialog import dialog_of_callee, dialog_of_caller
from tests.tools.message import parameter
from tests.tools.pool import ALIAS, Pool, idle, to
from tests.tools.sip import Phone
from tests.tools.transport import Protocol, Translated

EVENT = [("Event", "presence"), ("Expires", "60")]
ACTIVE = [("Event", "presence"), ("Subscription-State", "active")]

both = pytest.mark.parametrize("protocol", ["udp", "tcp"])
held_at_each = pytest.mark.parametrize("holder", [0, 1, 2])
at_each = pytest.mark.parametrize("at", [0, 1])


@asynccontextmanager
async def client(protocol: Protocol) -> AsyncIterator[Phone]:
    phone = Phone(await Translated.open(f"{CLIENTS}.9", protocol=protocol), "bob")
    try:
        yield phone
    finally:
        await phone.close()


async def registered(pool: Pool, phone: Phone, holder: int) -> None:
    """With the registrar of the pool, at the proxy of that number."""
    pool.set(registrar=1, expires=120, learned=1)
    await register(phone, pool.proxies[holder])
    await known(pool, phone.uri)


@at_each
@both
async def test_a_caller_has_answered(pool: Pool, pbx: Phone, protocol: Protocol, at: int) -> None:
    """Put on hold, it is sent the BYE as well: who takes its answer has its Contact from there."""
    pool.table(*(5 if at == place else 0 for place in range(2)))
    async with client(protocol) as bob:
        call = await bob.call(pool.uri)
        assert call.status == 200
        far = pbx.incoming[0]
        assert (await far.request("INVITE", body=far.sdp)).message.status == 200
        assert await far.bye() == 200
        await bob.expect("BYE")
    await idle(*pool.proxies)


@held_at_each
@at_each
@both
async def test_a_callee_has_answered(pool: Pool, alice: Phone, protocol: Protocol, at: int, holder: int) -> None:
    """So is one that was called, through the proxy that holds its flow or through another."""
    pool.table(*(5 if at == place else 0 for place in range(2)))
    async with client(protocol) as bob:
        bob.script = answers.ring_then_answer
        await registered(pool, bob, holder)
        call = await alice.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
        assert call.status == 200
        assert (await call.request("INVITE", body=call.sdp)).message.status == 200
        assert await call.bye() == 200
        await bob.expect("BYE")
    await idle(*pool.proxies)


@pytest.mark.parametrize("targets", [1, 2])
@at_each
@both
async def test_a_subscriber(pool: Pool, pbx: Phone, protocol: Protocol, at: int, targets: int) -> None:
    """NOTIFY comes, whichever proxy serves the SUBSCRIBE, from the first target or from the second."""
    pool.table(*(5 if at == place else 0 for place in range(2)))
    async with Phone.at(f"{TARGETS}.3", 5060) as failing, client(protocol) as bob:
        failing.answers["SUBSCRIBE"] = 503
        pool.routes(to(*(f"sip:{TARGETS}.{last}:5060" for last in ((3, 1) if targets == 2 else (1,)))))
        asked = await bob.request("SUBSCRIBE", pool.uri, headers=EVENT)
        answer = (await asked.final()).message
        assert answer.status == 200
        subscribe = pbx.requests("SUBSCRIBE")[0].message
        assert len(failing.requests("SUBSCRIBE")) == targets - 1
        watched = dialog_of_callee(pbx.endpoint, subscribe, parameter(answer.header("To"), "tag"), pbx.contact)
        assert (await (await pbx.in_dialog(watched, "NOTIFY", ACTIVE)).final()).message.status == 200
        assert len(bob.requests("NOTIFY")) == 1


@held_at_each
@at_each
@both
async def test_who_is_subscribed_to(pool: Pool, alice: Phone, protocol: Protocol, at: int, holder: int) -> None:
    """A client whose state is asked for gets the next SUBSCRIBE, too, by its answer's Contact and by its NOTIFY's."""
    pool.table(*(5 if at == place else 0 for place in range(2)))
    async with client(protocol) as bob:
        await registered(pool, bob, holder)
        asked = await alice.request("SUBSCRIBE", f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060), headers=EVENT)
        answer = (await asked.final()).message
        assert answer.status == 200
        watching = dialog_of_caller(alice.endpoint, asked.request, answer)
        again = await alice.in_dialog(watching, "SUBSCRIBE", EVENT)
        assert (await again.final()).message.status == 200
        subscribe = bob.requests("SUBSCRIBE")[0].message
        watched = dialog_of_callee(bob.endpoint, subscribe, parameter(answer.header("To"), "tag"), bob.contact)
        assert (await (await bob.in_dialog(watched, "NOTIFY", ACTIVE)).final()).message.status == 200
        watching.target = alice.requests("NOTIFY")[0].message.header("Contact").strip("<>")
        assert (await (await alice.in_dialog(watching, "SUBSCRIBE", EVENT)).final()).message.status == 200
        assert len(bob.requests("SUBSCRIBE")) == 3
