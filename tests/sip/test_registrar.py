"""The pool's own registrar: who registers with one proxy is reached through any."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from switchboard.pool.spec import Rights
from tests.tools import answers
from tests.tools import message as sip
from tests.tools.addresses import CLIENTS, PSTN, STRANGERS
from tests.tools.dialog import fresh_tag, via
from tests.tools.digest import REALM, challenges, credentials, ha1
from tests.tools.message import Message, hop, uri_in
from tests.tools.pool import ALIAS, TICK, Pool, idle
from tests.tools.proxies import KEY, Proxy
from tests.tools.sip import Phone
from tests.tools.transport import Protocol
from tests.tools.wait import until

EXPIRES = 600
AOR = "bob@pool.invalid"


@pytest.fixture
def pool(pool: Pool) -> Pool:
    pool.set(registrar=1, expires=EXPIRES, learn=1, learned=1)
    pool.table(0, 5, 5)
    return pool


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Of the phones that a test needs."""
    async with AsyncExitStack() as phones:
        yield phones


async def register(
    phone: Phone,
    proxy: Proxy,
    *headers: tuple[str, str],
    user: str = "bob",
    contact: str = "",
    call_id: str = "",
    cseq: int = 1,
    uri: str = f"sip:{ALIAS}",
    to: str = "",
) -> Message:
    """REGISTER at that proxy, of the phone's own address or another; the final answer."""
    where = (proxy.ip, 5060)
    if phone.endpoint.protocol != "udp":
        await phone.endpoint.connect(where)
    own = [
        ("Via", via(phone.endpoint)),
        ("From", f"<{to or f'sip:{user}@{ALIAS}'}>;tag={fresh_tag()}"),
        ("To", f"<{to or f'sip:{user}@{ALIAS}'}>"),
        ("Call-ID", call_id or fresh_tag()),
        ("CSeq", f"{cseq} REGISTER"),
        ("Contact", contact or phone.contact),
        ("Max-Forwards", "70"),
    ]
    transaction = await phone.start(sip.request("REGISTER", uri, [*own, *headers]), where)
    return (await transaction.final()).message


def contacts(proxy: Proxy, aor: str = AOR) -> list[str]:
    """Where the proxy would find that user."""
    found = [record for record in locations(proxy) if record["AoR"] == aor]
    return [one["Contact"]["Address"] for record in found for one in record["Contacts"]]


def locations(proxy: Proxy) -> list[dict[str, Any]]:
    domains = proxy.control("ul.dump")["Domains"]
    return [one["Info"] for domain in domains for one in domain["Domain"]["AoRs"]]


async def known(pool: Pool, *expected: str, aor: str = AOR) -> None:
    """Every proxy knows these contacts."""
    for proxy in pool.proxies:
        await until(lambda proxy=proxy: contacts(proxy, aor) == list(expected), f"{proxy.name} to know {expected}")


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize("holder", [0, 1, 2])
async def test_called_through_any_proxy(pool: Pool, alice: Phone, protocol: Protocol, holder: int) -> None:
    """Whichever proxy it registered with, a client is called over its own flow, with media, and ends the call."""
    async with Phone.at(f"{CLIENTS}.8", protocol=protocol, user="bob") as bob:
        answer = await register(bob, pool.proxies[holder])
        assert (answer.status, uri_in(answer.header("Contact"))) == (200, bob.uri)
        await known(pool, bob.uri)
        call = await alice.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
        assert call.status == 200
        assert (await call.request("INVITE", body=call.sdp)).message.status == 200
        assert await bob.incoming[0].bye() == 200
    await idle(*pool.proxies)


async def test_all_contacts_ring(pool: Pool, alice: Phone, stack: AsyncExitStack) -> None:
    """A user's phones ring together, wherever they registered; when one answers, the others are cancelled.

    It answers when the caller hears all of them: one whose 180 arrives in the same millisecond as the answer goes on
    ringing (docs/registrar.md).
    """
    picked_up = asyncio.Event()
    protocols: list[Protocol] = ["udp", "tcp", "udp"]
    phones = [
        await stack.enter_async_context(Phone.at(f"{CLIENTS}.{8 + at}", protocol=protocol, user="bob"))
        for at, protocol in enumerate(protocols)
    ]
    for phone, proxy in zip(phones, pool.proxies, strict=True):
        phone.script = answers.ring
        assert (await register(phone, proxy)).status == 200
    phones[0].script = answers.answer_when(picked_up)
    for proxy in pool.proxies:
        await until(lambda proxy=proxy: len(contacts(proxy)) == 3, f"{proxy.name} to know all")
    call = await alice.dial(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
    await until(lambda: sum(packet.message.status == 180 for packet in alice.log) == 3, "all to ring")
    picked_up.set()
    assert await call.result() == 200
    for phone in phones[1:]:
        await phone.expect("CANCEL")
    assert await call.bye() == 200
    assert len(phones[0].requests("BYE")) == 1
    assert sum(proxy.count("admitted") for proxy in pool.proxies) == 1
    await idle(*pool.proxies)


async def test_refreshed_elsewhere(pool: Pool, alice: Phone) -> None:
    """A client behind NAT that comes to another proxy the next time is reached by way of that one, no more of
    the first, which may have ended.
    """
    async with Phone.at(f"{CLIENTS}.8", user="bob") as bob:
        behind_nat = "sip:bob@192.0.2.8:5060"
        await register(bob, pool.proxies[1], contact=f"<{behind_nat}>", call_id="same", cseq=1)
        await known(pool, behind_nat)
        await register(bob, pool.proxies[2], contact=f"<{behind_nat}>", call_id="same", cseq=2)
        for proxy in pool.proxies:
            await until(lambda proxy=proxy: pool.proxies[2].ip in path(proxy), f"{proxy.name} to know the new way")
        pool.proxies[1].kill()
        Pool((pool.proxies[0], pool.proxies[2])).table(5, 5)
        call = await alice.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
        assert call.status == 200
        assert await call.bye() == 200


def path(proxy: Proxy) -> str:
    """Of the only contact."""
    (record,) = locations(proxy)
    (one,) = record["Contacts"]
    return str(one["Contact"]["Path"])


async def test_gone_everywhere(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A client that unregisters, one contact or all, is known nowhere any more, and calls go where the routes lead."""
    async with Phone.at(f"{CLIENTS}.8", user="bob") as bob:
        for gone in (bob.contact, "*"):
            await register(bob, pool.proxies[1], call_id=gone, cseq=1)
            await known(pool, bob.uri)
            answer = await register(bob, pool.proxies[2], ("Expires", "0"), contact=gone, call_id=gone, cseq=2)
            assert (answer.status, answer.all("Contact")) == (200, [])
            await known(pool)
    call = await alice.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
    assert call.status == 200
    assert len(pbx.incoming) == 1
    assert await call.bye() == 200


async def test_expiry(pool: Pool) -> None:
    """A registration lasts for as long as the client asks, and no longer than the pool allows, at every proxy."""
    await until(lambda: all(expires_at_most(proxy) == EXPIRES for proxy in pool.proxies), "the limit is in effect")
    async with Phone.at(f"{CLIENTS}.8", user="bob") as bob:
        asked = (await register(bob, pool.primary, ("Expires", "7200"))).header("Contact")
        assert asked.endswith(f";expires={EXPIRES}")
        await known(pool, bob.uri)
        for proxy in pool.proxies:
            (record,) = locations(proxy)
            assert EXPIRES - 30 < record["Contacts"][0]["Contact"]["Expires"] <= EXPIRES
        asked = (await register(bob, pool.primary, ("Expires", "120"), cseq=2)).header("Contact")
        assert asked.endswith(";expires=120")


def expires_at_most(proxy: Proxy) -> int:
    return int(proxy.control("cfg.get", "registrar", "max_expires"))


async def test_a_proxy_that_ends(pool: Pool, alice: Phone) -> None:
    """A client that any proxy can reach stays reachable when the one that it registered with ends."""
    async with Phone.at(f"{CLIENTS}.8", 5060, user="bob") as bob:
        await register(bob, pool.proxies[2])
        await known(pool, bob.uri)
        pool.proxies[2].kill()
        Pool(pool.proxies[:2]).table(0, 5)
        call = await alice.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
        assert call.status == 200
        assert await call.bye() == 200


async def test_a_proxy_that_starts(pool: Pool, alice: Phone, stack: AsyncExitStack) -> None:
    """It asks its peers, passes over those that do not answer or know nothing, and says when it knows all there is."""
    for number in range(60):
        phone = await stack.enter_async_context(Phone.at(f"{CLIENTS}.8", user=f"bob{number}"))
        assert (await register(phone, pool.primary, ("Expires", "300"), user=f"bob{number}")).status == 200
    fresh, silent = pool.proxies[2], pool.proxies[1]
    await until(lambda: len(locations(fresh)) == 60, "all are known")
    assert fresh.kamailio is not None
    assert silent.kamailio is not None
    fresh.kamailio.kill()
    silent.kamailio.freeze()
    try:
        fresh.start_kamailio()
        assert locations(fresh) == []
        for peer in (silent, pool.primary):
            fresh.control.set("peer", peer.ip, peer.name)
        fresh.set(key=KEY, registrar=1, expires=EXPIRES, learn=1)
        await until(lambda: fresh.control.number("ctl", "learned") == 1, "it knows all")
        assert len(locations(fresh)) == 60
        assert {one["Contacts"][0]["Contact"]["Expires"] <= 300 for one in locations(fresh)} == {True}
    finally:
        silent.kill()


async def test_alone(pool: Pool) -> None:
    """The first proxies of a pool have nobody to learn from, and do not wait."""
    for proxy in pool.proxies:
        proxy.set(learned=0, learn=1)
    for proxy in pool.proxies:
        await until(lambda proxy=proxy: proxy.control.number("ctl", "learned") == 1, f"{proxy.name} goes on", within=10)


async def test_health_checks_are_left_alone(pool: Pool, pbx: Phone) -> None:
    """The process that asks peers also checks the targets: each OPTIONS has a Call-ID of its own, and no token."""
    pool.primary.set(learned=0, learn=1)
    await until(lambda: pool.primary.control.number("ctl", "learned") == 1, "it has asked")
    pool.primary.set(period=1)
    await until(lambda: len(pbx.requests("OPTIONS")) >= 2, "two checks")
    checks = [packet.message for packet in pbx.requests("OPTIONS")]
    assert len({check.call_id for check in checks}) == len(checks)
    assert [check.having("X-VP-") for check in checks] == [()] * len(checks)


async def test_only_proxies_are_believed(pool: Pool, alice: Phone) -> None:
    """What a client or a stranger sends like a peer's copy is taken for what it is."""
    forged = ("X-VP-Token", f"{pool.primary.id}.10.l1x1." + "0" * 32)
    assert (await register(alice, pool.primary, forged, ("Path", "<sip:192.0.2.1;lr>"), user="alice")).status == 200
    await known(pool, alice.uri, aor="alice@pool.invalid")
    assert {path(proxy) for proxy in pool.proxies} == {"[not set]"}
    async with Phone.at(f"{STRANGERS}.1") as stranger:
        info = await stranger.request("INFO", pool.uri, headers=[forged, ("X-VP-Teach", "1")], resend=False)
        await until(lambda: pool.count("forged") == 2, "both are seen")
        assert info.responses == []


async def test_a_copy_is_believed_as_it_is(pool: Pool, stack: AsyncExitStack) -> None:
    """Who reads what a proxy tells a peer may send it on, but with another contact or Path it is not a peer's."""
    peer = await stack.enter_async_context(Phone.at(f"{STRANGERS}.9", 5060, user="peer"))
    pool.primary.control.set("peer", f"{STRANGERS}.9", "edge-00009")
    bob = await stack.enter_async_context(Phone.at(f"{CLIENTS}.8", user="bob"))
    for other in pool.members:
        pool.primary.control("htable.delete", "peer", other.ip)
    assert (await register(bob, pool.primary)).status == 200
    copy = (await peer.expect("REGISTER")).message
    stolen = [(name, value.replace(bob.uri, peer.uri) if name == "Contact" else value) for name, value in copy.headers]
    for number, headers in enumerate((stolen, [*copy.headers, ("Path", f"<sip:{STRANGERS}.9;lr>")])):
        fresh = [(name, via(peer.endpoint) if name == "Via" else value) for name, value in headers]
        await peer.start(Message(copy.start, tuple(fresh)), (pool.members[0].ip, 5060))
        await until(lambda number=number: pool.members[0].count("forged") == number + 1, "it is not believed")
    assert contacts(pool.members[0]) == []
    fresh = [(name, via(peer.endpoint) if name == "Via" else value) for name, value in copy.headers]
    await peer.start(Message(copy.start, tuple(fresh)), (pool.members[1].ip, 5060))
    await until(lambda: contacts(pool.members[1]) == [bob.uri], "it is believed as it is")


async def test_turned_off_and_on(pool: Pool, stack: AsyncExitStack) -> None:
    """A proxy that was not to know anything for a while asks its peers again."""
    pool.set(learn=1)
    other = pool.members[0]
    other.set(registrar=0, learn=0)
    await until(lambda: other.control.number("ctl", "learned") == 0, "it does not know all any more")
    other.control("htable.delete", "peer", pool.primary.ip)
    pool.primary.control("htable.delete", "peer", other.ip)
    bob = await stack.enter_async_context(Phone.at(f"{CLIENTS}.8", user="bob"))
    assert (await register(bob, pool.primary)).status == 200
    await until(lambda: contacts(pool.members[1]) == [bob.uri], "the third one knows")
    assert contacts(other) == []
    other.control.set("peer", pool.primary.ip, pool.primary.name)
    other.set(registrar=1, learn=1)
    await until(lambda: other.control.number("ctl", "learned") == 1, "it knows all", within=20)
    assert contacts(other) == [bob.uri]


async def test_no_more_users_than_may_be(pool: Pool, stack: AsyncExitStack) -> None:
    """A further one is told to come later; those that are there refresh; one that goes, or expires, makes room."""
    pool.set(users=2)
    for proxy in pool.proxies:
        proxy.control("cfg.seti", "registrar", "min_expires", 1)
    try:
        phone = await stack.enter_async_context(Phone.at(f"{CLIENTS}.8", user="bob"))
        for user, status in (("one", 200), ("two", 200), ("three", 503), ("one", 200)):
            assert (await register(phone, pool.primary, user=user)).status == status
        assert pool.primary.count("users") == 1
        assert (await register(phone, pool.primary, ("Expires", "0"), user="two", call_id="two")).status == 200
        assert (await register(phone, pool.primary, ("Expires", "1"), user="three")).status == 200
        for proxy in pool.proxies:
            await until(lambda proxy=proxy: set(proxy.control.dump("aor")) == {"one@pool.invalid"}, "the third expires")
    finally:
        pool.set(users=100000)
        for proxy in pool.proxies:
            proxy.control("cfg.seti", "registrar", "min_expires", 60)


@pytest.mark.parametrize("written", ["<{stolen}>", '"<{own}>" <{stolen}>'])
@pytest.mark.parametrize("scheme", ["sip", "SIP"])
async def test_a_contact_that_is_not_its_own(pool: Pool, alice: Phone, pbx: Phone, written: str, scheme: str) -> None:
    """Who registers somebody else's address is called itself, over its own flow, however it is written."""
    async with Phone.at(f"{CLIENTS}.8", user="bob") as mallory:
        stolen = f"{scheme}:00900123@{pbx.endpoint.address[0]}:5060"
        contact = written.format(stolen=stolen, own=mallory.uri.replace("sip", scheme))
        assert (await register(mallory, pool.primary, contact=contact)).status == 200
        await known(pool, stolen)
        call = await alice.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
        assert (call.status, pbx.incoming, len(mallory.incoming)) == (200, [], 1)


@pytest.mark.parametrize("broken", ["bob\t@", "bob@\t"], ids=["user", "host"])
async def test_a_contact_that_is_no_uri(pool: Pool, broken: str) -> None:
    """Who registers what cannot be called is not reached; a call to there is refused, and leaves nothing behind."""
    pool.table(5)
    async with Phone.at(f"{CLIENTS}.3", protocol="tcp", user="carol") as carol, Phone.at(f"{CLIENTS}.2") as bob:
        ip, port = bob.endpoint.address
        await register(bob, pool.primary, contact=f"<sip:{broken}{ip}:{port};ob>")
        assert (await carol.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060), within=5)).status == 480
    await idle(*pool.proxies)
    for proxy in pool.proxies:
        await until(lambda proxy=proxy: proxy.control("tm.stats")["current"] == 0, "no transaction is left")


async def test_redirected(pool: Pool) -> None:
    """In mode redirect a client is sent to a proxy below the threshold, and registers there; it is known to all."""
    pool.set(mode="redirect")
    async with Phone.at(f"{CLIENTS}.8", user="bob") as bob:
        first = await register(bob, pool.primary)
        assert first.status == 302
        target = uri_in(first.all("Contact")[0])
        assert (await register(bob, pool.by_ip(hop(target)[0]), uri=target, cseq=2)).status == 200
        assert pool.primary.ip not in target
        await known(pool, bob.uri)


async def test_authenticated(pool: Pool, alice: Phone) -> None:
    """With users of its own the pool asks once; then the client is known everywhere, and is called."""
    for proxy in pool.proxies:
        proxy.control.set("ha1", "MD5:bob", ha1("MD5", "bob", "secret"))
    pool.set(realm=REALM, digests="MD5")
    async with Phone.at(f"{CLIENTS}.8", user="bob") as bob:
        asked = await register(bob, pool.primary)
        assert asked.status == 401
        answer = credentials(challenges(asked)[0], "REGISTER", f"sip:{ALIAS}", "secret", user="bob")
        assert (await register(bob, pool.members[0], answer)).status == 200
        await known(pool, bob.uri)


async def test_called_by_a_gateway(pool: Pool) -> None:
    """A gateway's call to a registered client is one of the calls that it may have at a time."""
    pool.gateway("pstn-1", rights=Rights(max_calls=5))
    for proxy in pool.proxies:
        proxy.control.set("gwuse", "pstn-1", "0:7")
    async with Phone.at(f"{CLIENTS}.8", user="bob") as bob, Phone.at(f"{PSTN}.1") as trunk:
        await register(bob, pool.primary)
        await known(pool, bob.uri)
        call = await trunk.call(f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
        assert (call.status, len(bob.incoming)) == (200, 1)
        sizes = [proxy.control("dlg.profile_get_size", "gateway", "pstn-1") for proxy in pool.proxies]
        assert sum(int(size) for size in sizes) == 1
        arrived = f"pstn-1:{pool.primary.id}:{TICK}"
        assert sum(proxy.control.number("gwrcv", arrived) for proxy in pool.proxies) == 1
        assert await call.bye() == 200
    await idle(*pool.proxies)


@pytest.mark.parametrize("method", ["MESSAGE", "SUBSCRIBE"])
async def test_other_requests(pool: Pool, alice: Phone, pbx: Phone, method: str) -> None:
    """What is no call reaches a registered client as well, over its own flow, and costs no place."""
    async with Phone.at(f"{CLIENTS}.8", protocol="tcp", user="bob") as bob:
        await register(bob, pool.proxies[2])
        await known(pool, bob.uri)
        sent = await alice.request(method, f"sip:bob@{ALIAS}", to=(pool.primary.ip, 5060))
        assert (await sent.final()).message.status == 200
        assert (len(bob.requests(method)), pbx.requests(method)) == (1, [])
    assert pool.count("admitted") == 0
