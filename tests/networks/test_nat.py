"""Clients behind NAT, with a real router between: nobody knows their own address, and nothing comes in unasked."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterable

import pytest

from tests.networks.conftest import PBX, SERVICE
from tests.sip.test_register import hop_of
from tests.tools import answers
from tests.tools.message import Address
from tests.tools.nat import HOST, home, inside
from tests.tools.pool import ALIAS, Pool, idle
from tests.tools.rtp import Media
from tests.tools.sessions import Call, Incoming
from tests.tools.sip import Phone, Script
from tests.tools.transport import Packet, Protocol
from tests.tools.wait import until

ROUTERS = {"alice": "198.18.140.1", "bob": "198.18.140.2"}
ECHO = f"sip:echo@{SERVICE}"
FORGET_SECONDS = 2
PACKETS = 10


@pytest.fixture(scope="module", autouse=True)
def homes(network: None) -> None:
    """Two, with the same addresses inside."""
    for name, address in ROUTERS.items():
        home(name, address, FORGET_SECONDS)


@contextlib.asynccontextmanager
async def phone_at(name: str, protocol: Protocol, connections: Iterable[Address]) -> AsyncIterator[Phone]:
    """At home; over TCP with these connections, the last one of which it is known by."""
    with inside(name):
        opened = Phone.at(HOST, protocol=protocol, user=name)
        one = await opened.__aenter__()
        for to in connections if protocol == "tcp" else ():
            await one.endpoint.connect(to)
    try:
        yield one
    finally:
        await opened.__aexit__(None, None, None)


def phone(pool: Pool, name: str, protocol: Protocol) -> contextlib.AbstractAsyncContextManager[Phone]:
    """With a connection to the primary, for what is within calls, and one to the Service."""
    return phone_at(name, protocol, [(pool.primary.ip, 5060), (SERVICE, 5060)])


@contextlib.asynccontextmanager
async def media(namespace: str, ip: str) -> AsyncIterator[Media]:
    with inside(namespace):
        opened = Media.at(ip)
        one = await opened.__aenter__()
    try:
        yield one
    finally:
        await opened.__aexit__(None, None, None)


async def register(one: Phone, to: Address = (SERVICE, 5060)) -> Packet:
    supported = [("Supported", "path, outbound")]
    asked = await one.request("REGISTER", f"sip:{ALIAS}", to=to, headers=supported)
    return await asked.final()


async def call_back(pbx: Phone, one: Phone, body: str = "") -> Call:
    """Along the Path by which it registered."""
    path = pbx.requests("REGISTER")[-1].message.all("Path")
    return await pbx.call(one.uri, to=hop_of(path[0]), headers=[("Route", entry) for entry in path], body=body)


def using(own: Media) -> Script:
    async def script(call: Incoming) -> None:
        call.sdp = own.sdp
        await answers.ring_then_answer(call)

    return script


async def talk(mine: Media, mine_to: str, theirs: Media, theirs_to: str) -> None:
    """Until voice and video have arrived at both ends: the first packets find out where a translated one comes from."""

    async def heard() -> bool:
        await asyncio.gather(mine.send(mine_to, PACKETS), theirs.send(theirs_to, PACKETS))
        return all(received for _, received in (*mine.counts().values(), *theirs.counts().values()))

    await until(heard, "voice and video at both ends")


@pytest.mark.parametrize("serving", ["the primary", "another proxy"])
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
async def test_calls(pool: Pool, pbx: Phone, protocol: Protocol, serving: str) -> None:
    """Who is behind NAT calls, with media both ways; both sides change the call and end it over the caller's flow."""
    pool.table(*((5, 0) if serving == "the primary" else (0, 5)))
    async with phone(pool, "alice", protocol) as alice, media("alice", HOST) as mine, media("pbx", PBX) as theirs:
        pbx.script = using(theirs)
        first, second = [await alice.call(ECHO, body=mine.sdp) for _ in range(2)]
        assert (first.status, second.status) == (200, 200)
        assert f"{ROUTERS['alice']}~" in pbx.incoming[0].invite.header("Contact"), "there is a router between"
        await talk(mine, first.remote_sdp, theirs, pbx.incoming[0].remote_sdp)
        assert (await pbx.incoming[0].request("INVITE", body=theirs.sdp)).message.status == 200
        assert (await first.request("INVITE", body=mine.sdp)).message.status == 200
        assert await pbx.incoming[0].bye() == 200
        assert await second.bye() == 200
    await idle(*pool.proxies)


@pytest.mark.parametrize("serving", ["the primary", "another proxy"])
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
async def test_is_called(pool: Pool, pbx: Phone, protocol: Protocol, serving: str) -> None:
    """Who has registered from behind NAT is called over that flow, whichever proxy serves the call, with media."""
    async with phone(pool, "bob", protocol) as bob, media("bob", HOST) as theirs, media("pbx", PBX) as mine:
        pool.table(5, 0)
        assert (await register(bob)).message.status == 200
        if serving == "another proxy":
            pool.primary.admit(0)
            pool.table(0, 5)
        bob.script = using(theirs)
        call = await call_back(pbx, bob, body=mine.sdp)
        assert call.status == 200
        await talk(mine, call.remote_sdp, theirs, bob.incoming[0].remote_sdp)
        assert (await call.request("INVITE", body=mine.sdp)).message.status == 200
        assert (await bob.incoming[0].request("INVITE", body=theirs.sdp)).message.status == 200
        assert await call.bye() == 200
        assert bob.incoming[0].ended.is_set()
    await idle(*pool.proxies)


async def test_keep_alive(pool: Pool, pbx: Phone) -> None:
    """A flow over UDP is there as long as the client keeps it alive, by OPTIONS to the Service as by anything else that
    is answered; a router forgets one that is silent, and then nobody gets through: the keep-alives are what does it.
    """
    async with phone(pool, "bob", "udp") as bob:
        assert (await register(bob)).message.status == 200
        until_forgotten = 2 * FORGET_SECONDS
        for _ in range(2 * until_forgotten):
            answer = await (await bob.request("OPTIONS", f"sip:{ALIAS}", to=(SERVICE, 5060))).final()
            assert answer.message.status == 200
            await asyncio.sleep(0.5)  # the keep-alives' interval, longer in all than the router remembers
        call = await call_back(pbx, bob)
        assert call.status == 200
        assert await call.bye() == 200
        flows = ["ip", "netns", "exec", "bob-router", "conntrack", "-L", "-p", "udp"]
        forgotten = lambda: not subprocess.run(flows, capture_output=True, check=True).stdout  # noqa: E731  # a condition
        await until(forgotten, "the router has forgotten the flow")
        assert (await call_back(pbx, bob)).status == 408
    await idle(*pool.proxies)


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
async def test_large_messages(pool: Pool, pbx: Phone, protocol: Protocol) -> None:
    """A message of many packets arrives as it was sent, over TCP, and over UDP in fragments."""
    pool.table(0, 5)
    note = "a=note:" + "large " * 1300 + "end\r\n"
    async with phone(pool, "alice", protocol) as alice, media("alice", HOST) as mine:
        call = await alice.call(ECHO, body=mine.sdp + note)
        assert call.status == 200
        assert note in pbx.incoming[0].remote_sdp
        assert (await pbx.incoming[0].request("INVITE", body=pbx.incoming[0].sdp + note)).message.status == 200
        assert note in call.remote_sdp
        assert await call.bye() == 200
    await idle(*pool.proxies)
