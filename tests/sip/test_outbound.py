"""Flows and instances of registered clients: outbound (RFC 5626) and GRUU (RFC 5627)."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest

from tests.sip.test_registrar import contacts, known, locations, register, stack
from tests.sip.test_registrar import pool as registrar_pool
from tests.tools import answers
from tests.tools.addresses import CLIENTS
from tests.tools.message import Message, hop, parameter, uri_in
from tests.tools.pool import ALIAS, Pool, idle
from tests.tools.proxies import Proxy
from tests.tools.sip import Phone
from tests.tools.transport import Protocol
from tests.tools.wait import until

__all__ = ["stack"]
pool = registrar_pool

SUPPORTED = ("Supported", "path, gruu, outbound")


class Instance:
    """A client that has a name of its own, however it is reached; each of its flows is a phone."""

    def __init__(self, stack: AsyncExitStack, user: str = "bob") -> None:
        self.urn = f"urn:uuid:{uuid.uuid4()}"
        self._stack = stack
        self._user = user

    async def flow(
        self, proxy: Proxy, reg_id: int = 1, *, protocol: Protocol = "tcp", call_id: str = "", cseq: int = 1
    ) -> Flow:
        phone = await self._stack.enter_async_context(Flow.at(f"{CLIENTS}.8", protocol=protocol, user=self._user))
        assert isinstance(phone, Flow)
        phone.answer = await self.register(phone, proxy, reg_id, call_id=call_id, cseq=cseq)
        assert phone.answer.status == 200
        return phone

    async def register(
        self, phone: Phone, proxy: Proxy, reg_id: int = 1, *headers: tuple[str, str], call_id: str = "", cseq: int = 1
    ) -> Message:
        if phone.endpoint.protocol != "udp":
            await phone.endpoint.connect((proxy.ip, 5060))
        contact = f'<{phone.uri}>;+sip.instance="<{self.urn}>";reg-id={reg_id}'
        return await register(
            phone, proxy, SUPPORTED, *headers, user=self._user, contact=contact, call_id=call_id, cseq=cseq
        )


class Flow(Phone):
    """One flow of an instance; `gruu`: what it gives for its Contact."""

    answer: Message
    gruu = ""

    @property
    def contact(self) -> str:
        return f"<{self.gruu}>" if self.gruu else super().contact


def gruus(answer: Message, phone: Phone) -> tuple[str, str]:
    """The public and a temporary one."""
    (contact,) = [contact for contact in answer.all("Contact") if uri_in(contact) == phone.uri]
    public, temporary = (re.search(rf';{kind}-gruu="([^"]+)"', contact) for kind in ("pub", "temp"))
    assert public is not None, contact
    assert temporary is not None, contact
    return public[1], temporary[1]


async def everywhere(pool: Pool, number: int) -> None:
    """Every proxy knows that many contacts of the user."""
    for proxy in pool.proxies:
        await until(lambda proxy=proxy: len(contacts(proxy)) == number, f"{proxy.name} knows {number} contacts")


async def test_a_new_flow_replaces_the_old_one(pool: Pool, alice: Phone, stack: AsyncExitStack) -> None:
    """A client that lost its connection registers over another one, at another proxy: it has one contact as before."""
    bob = Instance(stack)
    old = await bob.flow(pool.proxies[1])
    await known(pool, old.uri)
    await old.endpoint.hang_up((pool.proxies[1].ip, 5060))
    new = await bob.flow(pool.proxies[2])
    await known(pool, new.uri)
    call = await alice.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
    assert (call.status, len(new.incoming), len(old.incoming)) == (200, 1, 0)
    assert await call.bye() == 200
    await idle(*pool.proxies)


async def test_what_the_client_is_told(pool: Pool, stack: AsyncExitStack) -> None:
    """That its flow is kept, and how often it is to send something; its contact with all that it registered."""
    bob = Instance(stack)
    flow = await bob.flow(pool.primary)
    assert (flow.answer.header("Require"), flow.answer.header("Flow-Timer")) == ("outbound", "60")
    (contact,) = flow.answer.all("Contact")
    assert f'+sip.instance="<{bob.urn}>"' in contact
    assert parameter(contact, "reg-id") == "1"
    await known(pool, flow.uri)
    instances = {one["Contacts"][0]["Contact"]["Instance"] for proxy in pool.proxies for one in locations(proxy)}
    assert instances == {f"<{bob.urn}>"}


async def test_not_over_udp(pool: Pool, stack: AsyncExitStack) -> None:
    """A client over UDP is not told to keep its flow alive, by STUN, which nobody answers; but a new contact of an
    instance takes the place of the one before.
    """
    bob = Instance(stack)
    first = await bob.flow(pool.proxies[1], protocol="udp")
    assert (first.answer.header("Require"), first.answer.header("Flow-Timer")) == ("", "")
    await known(pool, first.uri)
    second = await bob.flow(pool.proxies[2], protocol="udp")
    await known(pool, second.uri)


async def test_another_instance_at_the_same_address(pool: Pool, stack: AsyncExitStack) -> None:
    """A phone that has another name since it was started anew is not two."""
    phone = await stack.enter_async_context(Phone.at(f"{CLIENTS}.8", user="bob"))
    for _ in range(2):
        assert (await Instance(stack).register(phone, pool.proxies[1])).status == 200
    await known(pool, phone.uri)


async def test_not_through_others(pool: Pool, stack: AsyncExitStack) -> None:
    """Where another proxy that knows nothing of it stands between, the client is told to register without outbound."""
    phone = await stack.enter_async_context(Phone.at(f"{CLIENTS}.8", protocol="tcp", user="bob"))
    answer = await Instance(stack).register(phone, pool.primary, 1, ("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx"))
    assert answer.status == 439
    assert contacts(pool.primary) == []


@pytest.mark.parametrize("holders", [(0, 0), (0, 1), (1, 2)])
@pytest.mark.parametrize("lost", [None, 0, 1])
async def test_one_flow_rings(
    pool: Pool, alice: Phone, stack: AsyncExitStack, holders: Sequence[int], lost: int | None
) -> None:
    """Of two flows of one instance one rings; where its connection is gone, the other one."""
    bob = Instance(stack)
    flows = [
        await bob.flow(pool.proxies[holder], number, call_id="same", cseq=number)
        for number, holder in enumerate(holders, 1)
    ]
    await everywhere(pool, 2)
    if lost is not None:
        proxy = pool.proxies[holders[lost]]
        await flows[lost].endpoint.hang_up((proxy.ip, 5060))
        await until(lambda: connections(proxy) < len([h for h in holders if h == holders[lost]]), "it is closed")
    call = await alice.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
    assert (call.status, sum(len(flow.incoming) for flow in flows)) == (200, 1)
    assert lost is None or flows[lost].incoming == []
    assert await call.bye() == 200
    await idle(*pool.proxies)


def connections(proxy: Proxy) -> int:
    """Of clients over TCP."""
    return int(proxy.control("core.tcp_info")["opened_connections"])


async def test_the_next_flow_when_one_is_silent(pool: Pool, alice: Phone, stack: AsyncExitStack) -> None:
    """A flow that gives no answer is followed by the next one."""
    bob = Instance(stack)
    flows = [await bob.flow(pool.proxies[1], reg_id, protocol="udp", call_id="a", cseq=reg_id) for reg_id in (1, 2)]
    await everywhere(pool, 2)
    flows[0].script = answers.silence
    for _ in range(2):  # whichever comes first
        flows.reverse()
        call = await alice.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
        assert call.status == 200
        assert await call.bye() == 200
        flows[0].script, flows[1].script = answers.silence, answers.ring_then_answer
    assert min(len(flow.incoming) for flow in flows) >= 1
    await idle(*pool.proxies)


async def test_a_busy_instance_is_asked_once(pool: Pool, alice: Phone, stack: AsyncExitStack) -> None:
    """What a client has answered, it has answered."""
    bob = Instance(stack)
    flows = [await bob.flow(pool.proxies[number], number, call_id="same", cseq=number) for number in (1, 2)]
    await everywhere(pool, 2)
    for flow in flows:
        flow.script = answers.refuse(486)
    call = await alice.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
    assert (call.status, sum(len(flow.incoming) for flow in flows)) == (486, 1)
    await idle(*pool.proxies)


@pytest.mark.parametrize("holder", [1, 2])
async def test_all_flows_are_gone(pool: Pool, alice: Phone, stack: AsyncExitStack, holder: int) -> None:
    """The caller is told that nobody is there now, not of flows; whether the proxy that serves the call had the
    connection, or another one.
    """
    bob, proxy = Instance(stack), pool.proxies[holder]
    flow = await bob.flow(proxy)
    await known(pool, flow.uri)
    await flow.endpoint.hang_up((proxy.ip, 5060))
    await until(lambda: connections(proxy) == 0, "it is closed")
    call = await alice.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
    assert call.status == 480
    await idle(*pool.proxies)


@pytest.mark.parametrize("kind", ["public", "temporary"])
async def test_called_by_gruu(pool: Pool, alice: Phone, stack: AsyncExitStack, kind: str) -> None:
    """An instance's own address rings there alone, over whichever of its flows works, by way of any proxy."""
    desk, mobile = Instance(stack), Instance(stack)
    flows = [await desk.flow(pool.proxies[at], at, call_id="same", cseq=at) for at in (1, 2)]
    other = await mobile.flow(pool.proxies[0])
    await everywhere(pool, 3)
    public, temporary = gruus(flows[1].answer, flows[1])
    assert public == f"sip:bob@{ALIAS};gr={desk.urn}"
    assert "bob" not in temporary
    called = public if kind == "public" else temporary
    for proxy in (pool.primary, *pool.members):
        call = await alice.call(called, to=(proxy.ip, 5060))
        assert call.status == 200
        assert await call.bye() == 200
    await flows[0].endpoint.hang_up((pool.proxies[1].ip, 5060))
    await until(lambda: connections(pool.proxies[1]) == 0, "it is closed")
    call = await alice.call(called, to=(pool.primary.ip, 5060))
    assert call.status == 200
    assert await call.bye() == 200
    assert (sum(len(flow.incoming) for flow in flows), other.incoming) == (4, [])
    await idle(*pool.proxies)


async def test_temporary_gruus(pool: Pool, alice: Phone, stack: AsyncExitStack) -> None:
    """Each REGISTER gets another one, all are valid; until the instance registers with another Call-ID, as one that
    wants to be unknown from then on does. One that the pool has not made is nobody's.
    """
    bob = Instance(stack)
    flow = await bob.flow(pool.proxies[1], call_id="one")
    _, first = gruus(flow.answer, flow)
    _, second = gruus(await bob.register(flow, pool.proxies[1], call_id="one", cseq=2), flow)
    assert first != second
    await known(pool, flow.uri)
    for called in (first, second):
        call = await alice.call(called, to=(pool.primary.ip, 5060))
        assert call.status == 200
        assert await call.bye() == 200
    user, rest = first.split("@")
    changed = user[:-1] + ("0" if user[-1] != "0" else "1")
    assert (await alice.call(f"{changed}@{rest}", to=(pool.primary.ip, 5060))).status == 404
    _, third = gruus(await bob.register(flow, pool.proxies[1], call_id="two"), flow)
    await until(lambda: all("two" in str(locations(proxy)) for proxy in pool.proxies), "all proxies know")
    assert [(await alice.call(gone, to=(pool.primary.ip, 5060))).status for gone in (first, second)] == [404, 404]
    call = await alice.call(third, to=(pool.primary.ip, 5060))
    assert call.status == 200
    assert await call.bye() == 200
    await idle(*pool.proxies)


async def test_an_instance_that_is_away(pool: Pool, alice: Phone, pbx: Phone, stack: AsyncExitStack) -> None:
    """A call for it reaches no other phone of the user, and no route."""
    await Instance(stack).flow(pool.proxies[1])
    await everywhere(pool, 1)
    for user in ("bob", "carol"):
        call = await alice.call(f"sip:{user}@{ALIAS};gr=urn:uuid:{uuid.uuid4()}", to=(pool.primary.ip, 5060))
        assert call.status == 480
    elsewhere = await alice.call("sip:carol@example.test;gr=urn:uuid:1", to=(pool.primary.ip, 5060))
    assert (elsewhere.status, len(pbx.incoming)) == (200, 1)
    assert await elsewhere.bye() == 200
    await idle(*pool.proxies)


async def test_only_for_clients_that_know_it(pool: Pool, stack: AsyncExitStack) -> None:
    """Who does not say that it supports GRUU gets none, and no instance that cannot stand in a URI makes one."""
    phone = await stack.enter_async_context(Phone.at(f"{CLIENTS}.8", protocol="tcp", user="bob"))
    await phone.endpoint.connect((pool.primary.ip, 5060))
    for instance, headers in (("<urn:uuid:1>", ()), ("<urn:a;b>", (SUPPORTED,))):
        contact = f'<{phone.uri}>;+sip.instance="{instance}"'
        answer = await register(phone, pool.primary, *headers, contact=contact)
        assert (answer.status, "gruu" in answer.header("Contact")) == (200, False)


@pytest.mark.parametrize("holder", [1, 2])
async def test_a_call_outlives_a_connection(pool: Pool, alice: Phone, stack: AsyncExitStack, holder: int) -> None:
    """A client whose Contact is its GRUU is found over the flow that it has now, within calls as well."""
    bob = Instance(stack)
    flow = await bob.flow(pool.proxies[1], call_id="same")
    flow.gruu, _ = gruus(flow.answer, flow)
    await known(pool, flow.uri)
    call = await alice.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
    assert call.status == 200
    assert call.dialog is not None
    assert f";gr={bob.urn}" in call.dialog.target
    await flow.endpoint.hang_up((pool.proxies[1].ip, 5060))
    await until(lambda: connections(pool.proxies[1]) == 0, "it is closed")
    assert (await bob.register(flow, pool.proxies[holder], call_id="same", cseq=2)).status == 200
    await known(pool, uri_in(f"<{flow.uri}>"))
    assert (await call.request("INVITE", body=call.sdp)).message.status == 200
    assert await call.bye() == 200
    assert len(flow.requests("BYE")) == 1
    await idle(*pool.proxies)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_before_another_registrar(pool: Pool, pbx: Phone, stack: AsyncExitStack, protocol: Protocol) -> None:
    """Where routes lead to the registrar, the pool is the edge proxy: each Path says that flows are kept, over TCP; and
    one that is gone, the registrar is told.
    """
    pool.set(registrar=0)
    pool.table(0, 5)
    phone = await stack.enter_async_context(Phone.at(f"{CLIENTS}.8", protocol=protocol, user="bob"))
    assert (await Instance(stack).register(phone, pool.primary)).status == 200
    path = pbx.requests("REGISTER")[0].message.all("Path")
    assert len(path) == (2 if protocol == "tcp" else 1)
    assert {";ob" in entry for entry in path} == {protocol == "tcp"}
    routes = [("Route", entry) for entry in path]
    call = await pbx.call(phone.uri, to=hop(uri_in(path[0])), headers=routes)
    assert call.status == 200
    assert await call.bye() == 200
    if protocol == "tcp":
        await phone.endpoint.hang_up((pool.primary.ip, 5060))
        await until(lambda: connections(pool.primary) == 0, "it is closed")
        assert (await pbx.call(phone.uri, to=hop(uri_in(path[0])), headers=routes)).status == 430
    await idle(*pool.proxies)
