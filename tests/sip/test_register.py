"""REGISTER goes on to the routes' registrar, by way of the proxy that the pool assigns."""

from __future__ import annotations

import pytest

from tests.tools.addresses import CLIENTS
from tests.tools.message import Address, hop, uri_in
from tests.tools.pool import ALIAS, Pool, contact, idle
from tests.tools.rtp import streams
from tests.tools.sip import Phone
from tests.tools.transport import Packet, Protocol


def hop_of(entry: str) -> Address:
    return hop(uri_in(entry))


async def register(phone: Phone, pool: Pool) -> Packet:
    """Registers through the pool, wherever it is sent; the registrar's answer."""
    where = (pool.primary.ip, 5060)
    supported = [("Supported", "path")]
    answer = await (await phone.request("REGISTER", f"sip:{ALIAS}", to=where, headers=supported)).final()
    if answer.message.status == 302:
        answer = await (await phone.request("REGISTER", contact(answer), headers=supported, cseq=2)).final()
    return answer


async def test_redirected(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """The reply to a REGISTER gives the client the identity of a proxy below the threshold; followed, it registers."""
    pool.set(mode="redirect")
    pool.table(0, 5)
    first = await (await alice.request("REGISTER", f"sip:{ALIAS}", to=(pool.primary.ip, 5060))).final()
    assert first.message.status == 302
    target = contact(first)
    assert hop(target)[0] == pool.members[0].ip
    second = await (await alice.request("REGISTER", target, cseq=2)).final()
    assert second.message.status == 200
    assert pbx.requests("REGISTER")[0].source[0] == pool.members[0].ip


async def test_forwarded(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Forwarded, it arrives with a Path by which calls find their way back; the registrar's answer comes through."""
    pool.table(0, 5)
    answer = await (
        await alice.request("REGISTER", f"sip:{ALIAS}", to=(pool.primary.ip, 5060), headers=[("Supported", "path")])
    ).final()
    assert answer.message.status == 200
    assert uri_in(answer.message.header("Contact")) == alice.uri
    register = pbx.requests("REGISTER")[0]
    assert register.source[0] == pool.members[0].ip
    hosts = [hop_of(path)[0] for path in register.message.all("Path")]
    assert hosts
    assert set(hosts) <= {proxy.ip for proxy in pool.proxies}
    assert register.message.having("X-VP-") == ()


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize("mode", ["forward", "redirect"])
async def test_called_back(pool: Pool, pbx: Phone, protocol: Protocol, mode: str) -> None:
    """A registered client is called along the Path it registered by: over its own flow, with media, to the last BYE."""
    pool.set(mode=mode)
    pool.table(0, 5)
    async with Phone.at(f"{CLIENTS}.8", protocol=protocol) as bob:
        answer = await register(bob, pool)
        assert answer.message.status == 200
        path = pbx.requests("REGISTER")[0].message.all("Path")
        call = await pbx.call(bob.uri, to=hop_of(path[0]), headers=[("Route", entry) for entry in path])
        assert call.status == 200
        assert {ip for ip, _ in streams(call.remote_sdp).values()} <= {proxy.ip for proxy in pool.proxies}
        assert await bob.incoming[0].bye() == 200
    await idle(*pool.proxies)


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize("mode", ["forward", "redirect"])
async def test_called_back_when_full(pool: Pool, pbx: Phone, protocol: Protocol, mode: str) -> None:
    """A call to a client whose proxy is full is served by another one, and reaches the client over its own flow."""
    pool.set(mode=mode)
    pool.table(0, 5)
    async with Phone.at(f"{CLIENTS}.8", protocol=protocol) as bob:
        assert (await register(bob, pool)).message.status == 200
        path = pbx.requests("REGISTER")[0].message.all("Path")
        full, other = pool.members
        full.admit(0)
        pool.table(0, 5, 5)
        call = await pbx.call(bob.uri, to=hop_of(path[0]), headers=[("Route", entry) for entry in path])
        assert call.status == 200
        assert {ip for ip, _ in streams(call.remote_sdp).values()} == {other.ip}
        assert [proxy.count("admitted") for proxy in pool.proxies] == [0, 0, 1]
        assert await bob.incoming[0].bye() == 200
    await idle(*pool.proxies)


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize("mode", ["forward", "redirect"])
async def test_path_repeated_within_the_call(pool: Pool, pbx: Phone, protocol: Protocol, mode: str) -> None:
    """A PBX that repeats the Path behind the route set, as Asterisk does, reaches the client within the call, too."""
    pool.set(mode=mode)
    pool.table(0, 5)
    async with Phone.at(f"{CLIENTS}.8", protocol=protocol) as bob:
        assert (await register(bob, pool)).message.status == 200
        path = pbx.requests("REGISTER")[0].message.all("Path")
        call = await pbx.call(bob.uri, to=hop_of(path[0]), headers=[("Route", entry) for entry in path])
        assert call.status == 200
        assert call.dialog is not None
        call.dialog.routes += path
        assert (await call.request("INVITE", body=call.sdp)).message.status == 200
        assert await call.bye() == 200
        assert len(bob.requests("BYE")) == 1
    await idle(*pool.proxies)


async def test_refusal(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """The registrar's challenge reaches the client, with what it needs to answer it."""
    pool.table(0, 5)
    pbx.answers["REGISTER"] = 401
    pbx.answer_headers["REGISTER"] = (("WWW-Authenticate", 'Digest realm="example.test", nonce="n"'),)
    answer = await (await alice.request("REGISTER", f"sip:{ALIAS}", to=(pool.primary.ip, 5060))).final()
    assert answer.message.status == 401
    assert "nonce" in answer.message.header("WWW-Authenticate")


async def test_costs_no_call(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Only calls use credits and places: registrations follow the same choice and cost nothing."""
    pool.table(0, 1)
    for _ in range(3):
        answer = await (await alice.request("REGISTER", f"sip:{ALIAS}", to=(pool.primary.ip, 5060))).final()
        assert answer.message.status == 200
    assert pool.count("assigned") == pool.count("admitted") == 0
    assert pool.primary.control.dump("ast") == {}
    await idle(*pool.proxies)
