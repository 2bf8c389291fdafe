"""Clients prove who they are by digest before the pool does anything for them."""

from __future__ import annotations

import asyncio
import hashlib
import time

import pytest

from tests.tools import message as sip
from tests.tools.addresses import CLIENTS, PSTN
from tests.tools.dialog import fresh_tag, via
from tests.tools.digest import REALM, Challenge, challenges, credentials, ha1
from tests.tools.message import hop, uri_in
from tests.tools.pool import ALIAS, Pool, idle
from tests.tools.proxies import KEY, Proxy
from tests.tools.sip import Phone
from tests.tools.transport import Packet

PASSWORD = "correct-horse"
OWN = f"sip:alice@{REALM}"


@pytest.fixture
def pool(pool: Pool) -> Pool:
    """One that asks, and knows alice and a user with a domain of its own."""
    pool.asks("alice", "carol@second.example.test", password=PASSWORD)
    return pool


async def challenged(phone: Phone, proxy: Proxy, uri: str = "") -> list[Challenge]:
    """What the proxy asks of a call."""
    call = await phone.call(uri or f"sip:echo@{proxy.ip}:5060", from_uri=OWN)
    assert call.status == 407
    return challenges(call.final)


async def register(phone: Phone, proxy: Proxy, *headers: tuple[str, str], of: str = "alice") -> Packet:
    own = f"sip:{of}@{REALM}"
    transaction = await phone.request(
        "REGISTER", f"sip:{ALIAS}", to=(proxy.ip, 5060), headers=headers, from_uri=own, to_uri=own
    )
    return await transaction.final()


async def test_asked_before_anything_is_done(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A call without credentials is asked for them, SHA-256 first, and costs neither a place, a credit nor a dialog."""
    before = pool.primary.control("tm.stats")["total"]
    asked = await challenged(alice, pool.primary)
    assert [one.algorithm for one in asked] == ["SHA-256", "MD5"]
    assert {one.realm for one in asked} == {REALM}
    assert len({one.nonce for one in asked}) == 1
    assert pool.count("assigned") == pool.count("admitted") == 0
    assert pool.primary.control.dump("ast") == {}
    assert pool.primary.control("tm.stats")["total"] == before
    assert pbx.log == []


@pytest.mark.parametrize("mode", ["forward", "redirect"])
@pytest.mark.parametrize(("number", "qop"), [(0, True), (1, True), (1, False)])
async def test_call(pool: Pool, alice: Phone, pbx: Phone, mode: str, number: int, *, qop: bool) -> None:
    """With the right password a call goes through, forwarded or by a 302, with one challenge and none within the call.
    The target learns who calls, not by what password it was proven.
    """
    pool.set(mode=mode)
    pool.table(0, 5)
    asked = await challenged(alice, pool.primary)
    claimed = ("P-Asserted-Identity", "<sip:president@example.test>")
    answer = credentials(asked[number], "INVITE", pool.uri, PASSWORD, qop=qop)
    call = await alice.call(pool.uri, headers=[answer, claimed], from_uri=OWN)
    assert call.path == [*([(pool.primary.ip, 302)] if mode == "redirect" else []), (call.path[-1][0], 200)]
    arrived = pbx.incoming[0].packet.message
    assert arrived.having("Proxy-Auth") == ()
    assert arrived.all("P-Asserted-Identity") == [f"<sip:alice@{REALM}>"]
    assert await call.bye() == 200
    await idle(*pool.proxies)


async def test_within_a_call(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A phone repeats its credentials within a call (RFC 3261 section 22.3): they stay here, those for others go on."""
    own = credentials((await challenged(alice, pool.primary))[0], "INVITE", pool.uri, PASSWORD)
    call = await alice.call(pool.uri, headers=[own], from_uri=OWN)
    others = [
        ("Proxy-Authorization", f'Digest username="alice", realm="{realm}"') for realm in ("pbx.test", "other.test")
    ]
    assert (await call.request("INFO", [others[0], own, others[1]])).message.status == 200
    assert (await call.request("INFO", [own])).message.status == 200
    first, second = (packet.message for packet in pbx.requests("INFO"))
    assert first.all("Proxy-Authorization") == [value for _, value in others]
    assert second.having("Proxy-Auth") == ()
    assert await call.bye() == 200


async def test_register(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """REGISTER is asked with 401, at any proxy, and a nonce of one proxy is as good at another."""
    refused = (await register(alice, pool.primary)).message
    assert refused.status == 401
    assert pbx.log == []
    answer = credentials(challenges(refused)[0], "REGISTER", f"sip:{ALIAS}", PASSWORD)
    assert (await register(alice, pool.members[0], answer)).message.status == 200
    assert pbx.requests("REGISTER")[0].message.having("Auth") == ()


async def test_only_ones_own_address(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A user registers and calls as itself; it may stay anonymous, and is asserted to the target all the same."""
    asked = challenges((await register(alice, pool.primary)).message)[0]
    answer = credentials(asked, "REGISTER", f"sip:{ALIAS}", PASSWORD)
    assert (await register(alice, pool.primary, answer, of="bob")).message.status == 403
    answer = credentials(asked, "INVITE", pool.uri, PASSWORD)
    assert (await alice.call(pool.uri, headers=[answer], from_uri=f"sip:bob@{REALM}")).status == 403
    elsewhere = await alice.call(pool.uri, headers=[answer], from_uri="sip:alice@second.example.test")
    assert elsewhere.status == 403
    hidden = await alice.call(pool.uri, headers=[answer], from_uri="sip:anonymous@anonymous.invalid")
    assert hidden.status == 200
    assert pbx.incoming[0].packet.message.all("P-Asserted-Identity") == [f"<sip:alice@{REALM}>"]
    assert await hidden.bye() == 200
    user = "carol@second.example.test"
    answer = credentials(asked, "INVITE", pool.uri, PASSWORD, user=user)
    assert (await alice.call(pool.uri, headers=[answer], from_uri=f"sip:carol@{REALM}")).status == 403
    carol = await alice.call(pool.uri, headers=[answer], from_uri=f"sip:{user}")
    assert pbx.incoming[1].packet.message.all("P-Asserted-Identity") == [f"<sip:{user}>"]
    assert await carol.bye() == 200


async def test_what_is_no_proof(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Credentials for another number, another method, another source, an unknown user or algorithm prove nothing."""
    asked = (await challenged(alice, pool.primary))[1]
    other = f"sip:other@{pool.primary.ip}:5060"
    wrong = [
        credentials(asked, "INVITE", other, PASSWORD),
        credentials(asked, "MESSAGE", pool.uri, PASSWORD),
        credentials(asked, "INVITE", pool.uri, PASSWORD, user="mallory"),
        credentials(asked, "INVITE", pool.uri, "guess"),
        ("Proxy-Authorization", credentials(asked, "INVITE", pool.uri, PASSWORD)[1].replace("=MD5", "=MD5-sess")),
        ("Proxy-Authorization", "Digest"),
        ("Proxy-Authorization", f'Digest realm="{REALM}", nonce="{asked.nonce}", username="a\\"b", response=""'),
        ("Proxy-Authorization", "Basic YWxpY2U6Y29ycmVjdC1ob3JzZQ=="),
    ]
    for header in wrong:
        assert (await alice.call(pool.uri, headers=[header], from_uri=OWN)).status == 407
    async with Phone.at(f"{CLIENTS}.2") as elsewhere:
        right = credentials(asked, "INVITE", pool.uri, PASSWORD)
        assert (await elsewhere.call(pool.uri, headers=[right], from_uri=OWN)).status == 407
    assert pbx.log == []


async def test_an_old_nonce_is_stale(pool: Pool, alice: Phone) -> None:
    """After five minutes a client is asked anew, and told that it need not ask its user."""
    second = str(int(time.time()) - 301)
    mac = hashlib.sha256(f"{KEY}nonce|{second}|{CLIENTS}.1".encode()).hexdigest()[:32]
    old = Challenge(REALM, f"{second}.{mac}", "MD5", stale=False)
    call = await alice.call(pool.uri, headers=[credentials(old, "INVITE", pool.uri, PASSWORD)], from_uri=OWN)
    assert call.status == 407
    assert all(one.stale for one in challenges(call.final))
    assert pool.count("unauthorized") == 0


async def test_guessing_is_limited(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """After 20 wrong passwords in a minute a source is refused, even with the right one; others are not, and nobody is
    refused for what comes in its name without a nonce that it was given.
    """
    asked = (await challenged(alice, pool.primary))[1]
    wrong = [credentials(asked, "INVITE", pool.uri, f"guess-{number}") for number in range(20)]
    calls = await asyncio.gather(*(alice.call(pool.uri, headers=[one], from_uri=OWN) for one in wrong))
    assert {call.status for call in calls} == {407}
    right = credentials(asked, "INVITE", pool.uri, PASSWORD)
    refused = await alice.call(pool.uri, headers=[right], from_uri=OWN)
    assert (refused.status, refused.final.header("Retry-After")) == (403, "60")
    assert pool.count("unauthorized") == 21
    async with Phone.at(f"{CLIENTS}.2") as other:
        theirs = (await challenged(other, pool.primary))[1]
        for _ in range(25):
            await other.call(pool.uri, headers=[right], from_uri=OWN)
        call = await other.call(pool.uri, headers=[credentials(theirs, "INVITE", pool.uri, PASSWORD)], from_uri=OWN)
        assert call.status == 200
        assert await call.bye() == 200
    assert len(pbx.incoming) == 1


async def test_gateways_and_registrars_are_not_asked(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A gateway is known by its address, and a registered client is called along the Path that the pool has signed."""
    asked = challenges((await register(alice, pool.primary)).message)[0]
    assert (
        await register(alice, pool.primary, credentials(asked, "REGISTER", f"sip:{ALIAS}", PASSWORD))
    ).message.status == 200
    path = pbx.requests("REGISTER")[0].message.all("Path")
    async with Phone.at(f"{PSTN}.1") as trunk:
        through = await trunk.call(pool.uri)
        assert through.status == 200
        assert await through.bye() == 200
    along = [("Route", entry) for entry in path]
    call = await pbx.call(alice.uri, to=hop(uri_in(path[0])), headers=along)
    assert call.status == 200
    assert await call.bye() == 200
    assert (await register(alice, pool.primary, *along, of="mallory")).message.status == 401


async def test_options(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Whoever asks whether the pool is there is told; what is for somebody behind it needs a password like all else."""
    keeping_alive = await alice.request("OPTIONS", f"sip:{ALIAS}", to=(pool.primary.ip, 5060))
    assert (await keeping_alive.final()).message.status == 200
    for_others = await alice.request("OPTIONS", "sip:echo@elsewhere.example.test", to=(pool.primary.ip, 5060))
    assert (await for_others.final()).message.status == 407
    assert pbx.log == []


async def test_a_keep_alive_is_not_remembered(pool: Pool, alice: Phone) -> None:
    """OPTIONS of a client behind NAT keeps the flow that it has alive, and makes none: its address may be forged."""
    ip, port = alice.endpoint.address
    headers = [
        ("Via", via(alice.endpoint).replace(f":{port}", ":9")),
        ("From", f"<{OWN}>;tag={fresh_tag()}"),
        ("To", f"<sip:{ALIAS}>"),
        ("Call-ID", fresh_tag()),
        ("CSeq", "1 OPTIONS"),
        ("Max-Forwards", "70"),
    ]
    asked = await alice.start(sip.request("OPTIONS", f"sip:{ALIAS}", headers), (pool.primary.ip, 5060))
    assert (await asked.final()).message.status == 200
    assert f"{ip}:{port}" not in pool.primary.control.dump("flow")


async def test_nothing_secret_is_logged(pool: Pool, alice: Phone) -> None:
    """Neither right nor wrong credentials leave a user's name or what proves a password in a proxy's log."""
    for proxy in pool.proxies:
        proxy.new_log()
    asked = (await challenged(alice, pool.primary))[0]
    await alice.call(pool.uri, headers=[credentials(asked, "INVITE", pool.uri, "wrong", user="mallory")], from_uri=OWN)
    answer = credentials(asked, "REGISTER", f"sip:{ALIAS}", PASSWORD)
    await register(alice, pool.primary, answer)
    log = "".join(proxy.new_log() for proxy in pool.proxies)
    for secret in ("mallory", "alice", PASSWORD, asked.nonce, ha1("SHA-256", "alice", PASSWORD)):
        assert secret not in log
