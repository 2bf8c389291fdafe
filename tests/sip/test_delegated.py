"""Authentication delegated to a registrar upstream: who has registered there may call, from where it has registered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.tools.addresses import CLIENTS, PSTN, TARGETS
from tests.tools.asterisk import Asterisk, asterisk
from tests.tools.dialog import fresh_tag
from tests.tools.digest import challenges, credentials
from tests.tools.message import Message, hop, uri_in
from tests.tools.pool import ALIAS, Pool, idle, to
from tests.tools.proxies import KEY, Proxy
from tests.tools.sessions import Call
from tests.tools.sip import Phone
from tests.tools.transport import Protocol
from tests.tools.wait import until

UPSTREAM = f"{TARGETS}.31"
PASSWORD = "correct-horse"
OWN = f"sip:alice@{ALIAS}"
SUPPORTED = ("Supported", "path")  # Asterisk asks for that
ASKS = ("WWW-Authenticate", 'Digest realm="upstream.test", nonce="c0ffee", algorithm=MD5, qop="auth"')
GUESS = ("Authorization", 'Digest username="alice", realm="upstream.test", nonce="c0ffee", uri="sip:a", response="0"')


@pytest.fixture(scope="module")
def upstream() -> Iterator[Asterisk]:
    """Its users have passwords."""
    with asterisk(UPSTREAM, ("alice", "bob"), password=PASSWORD) as running:
        yield running


@pytest.fixture
def pool(pool: Pool) -> Pool:
    """`pbx`, where its route leads, grants each registration a minute, unless told otherwise."""
    pool.set(delegated=1)
    return pool


async def register(phone: Phone, proxy: Proxy, *headers: tuple[str, str], at: str = ALIAS, cseq: int = 1) -> Message:
    """One REGISTER of alice, to the registrar of the domain `at`; its answer."""
    if phone.endpoint.protocol != "udp":
        await phone.endpoint.connect((proxy.ip, 5060))
    options: Any = {"to": (proxy.ip, 5060), "from_uri": OWN, "to_uri": OWN, "headers": headers, "cseq": cseq}
    return (await (await phone.request("REGISTER", f"sip:{at}", **options)).final()).message


async def call(phone: Phone, proxy: Proxy, *headers: tuple[str, str], own: str = OWN) -> Call:
    return await phone.call(f"sip:echo@{proxy.ip}:5060{transport(phone)}", from_uri=own, headers=headers)


def transport(phone: Phone) -> str:
    return "" if phone.endpoint.protocol == "udp" else ";transport=tcp"


async def known(pool: Pool, count: int) -> None:
    """Every proxy knows so many sources."""

    def all_know() -> bool:
        found = [[value for value in proxy.control.dump("src").values() if value[:2] != "0:"] for proxy in pool.proxies]
        return all(len(sources) == count for sources in found)

    await until(all_know, f"every proxy knows {count} sources")


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize("mode", ["forward", "redirect"])
async def test_registered(pool: Pool, pbx: Phone, mode: str, protocol: Protocol) -> None:
    """Before it has registered a client gets 403, and nothing is kept of its call; then it calls, by whatever
    proxy, and the target is told who it is.
    """
    pool.set(mode=mode)
    pool.table(0, 0, 10)
    claimed = ("P-Asserted-Identity", "<sip:president@example.test>")
    before = pool.primary.control("tm.stats")["total"]
    async with Phone.at(f"{CLIENTS}.7", protocol=protocol) as alice:
        for proxy in pool.proxies:
            assert (await call(alice, proxy)).status == 403
        assert pool.primary.control("tm.stats")["total"] == before
        assert pool.count("assigned") == pool.count("admitted") == 0
        assert pbx.log == []
        assert (await register(alice, pool.members[1])).status == 200
        await known(pool, 1)
        for proxy in pool.proxies:
            made = await call(alice, proxy, claimed)
            assert made.status == 200
            assert await made.bye() == 200
        assert (await call(alice, pool.primary, own=f"sip:bob@{ALIAS}")).status == 403
    assert [theirs.invite.all("P-Asserted-Identity") for theirs in pbx.incoming] == [[f"<{OWN}>"]] * 3
    await idle(*pool.proxies)


@pytest.mark.parametrize(("protocol", "status"), [("udp", 403), ("tcp", 200)])
async def test_from_another_port(pool: Pool, pbx: Phone, protocol: Protocol, status: int) -> None:
    """Over UDP, where an address can be forged, its port has to be that of the registration; a client that connects
    anew has another one. From another address nobody calls.
    """
    async with (
        Phone.at(f"{CLIENTS}.7", protocol=protocol) as alice,
        Phone.at(f"{CLIENTS}.7", protocol=protocol) as again,
        Phone.at(f"{CLIENTS}.8", protocol=protocol) as other,
    ):
        assert (await register(alice, pool.primary)).status == 200
        made = await call(again, pool.primary)
        assert made.status == status
        if status == 200:
            assert await made.bye() == 200
        assert (await call(other, pool.primary)).status == 403


@pytest.mark.parametrize("how", [[("Expires", "0")], [("Expires", "0"), ("Contact", "*")], []])
async def test_until_it_ends(pool: Pool, alice: Phone, pbx: Phone, how: list[tuple[str, str]]) -> None:
    """A client that unregisters calls no more, nor one whose registration has run out; at no proxy."""
    pbx.grants = 60 if how else 1
    assert (await register(alice, pool.primary)).status == 200
    if how:
        await known(pool, 1)
        assert (await register(alice, pool.members[0], *how, cseq=2)).status == 200
        await known(pool, 0)

    async def refused(proxy: Proxy) -> bool:
        made = await call(alice, proxy)
        return made.status == 403 or await made.bye() != 200

    for proxy in pool.proxies:
        await until(lambda proxy=proxy: refused(proxy), f"{proxy.name} refuses the call")


async def test_refused(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Whom the registrar refuses is not registered; its question and what it is answered pass through."""
    pbx.answers, pbx.answer_headers = {"REGISTER": 401}, {"REGISTER": (ASKS,)}
    asked = await register(alice, pool.primary, GUESS)
    assert (asked.status, asked.all("WWW-Authenticate")) == (401, [ASKS[1]])
    assert pbx.requests("REGISTER")[0].message.all("Authorization") == [GUESS[1]]
    assert (await call(alice, pool.primary)).status == 403


async def test_another_domains_registrar(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """It tells nothing of users of ours: a partner's, to which a route leads, may accept anybody."""
    assert (await register(alice, pool.primary, at="partner.example.test")).status == 200
    assert (await call(alice, pool.primary)).status == 403
    assert (await register(alice, pool.primary)).status == 200
    await known(pool, 1)


async def test_the_registrar_that_is_left(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A registration counts at whichever target accepted it."""
    pool.routes(to(f"sip:{TARGETS}.9:5060", f"sip:{TARGETS}.1:5060"))
    assert (await register(alice, pool.primary)).status == 200
    await known(pool, 1)


async def test_guessing_is_limited(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """After 20 refusals of credentials in a minute a source's REGISTERs go nowhere, though they be right; others' do,
    and who has not been asked is not counted, so nobody can lock others out.
    """
    pbx.answers, pbx.answer_headers = {"REGISTER": 401}, {"REGISTER": (ASKS,)}
    assert (await register(alice, pool.primary)).status == 401
    for guess in range(20):
        assert (await register(alice, pool.primary, GUESS, cseq=2 + guess)).status == 401
    limited = await register(alice, pool.primary, GUESS, cseq=30)
    assert (limited.status, limited.header("Retry-After")) == (403, "60")
    assert len(pbx.requests("REGISTER")) == 21
    assert pool.count("unauthorized") == 21
    async with Phone.at(f"{CLIENTS}.8") as other:
        for guess in range(25):
            assert (await register(other, pool.members[0], GUESS, cseq=1 + guess)).status == 401
            pool.members[0].control("htable.flush", "asked")
    assert pool.count("unauthorized") == 21


async def test_anonymous(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Who hides from those called tells the pool who it is."""
    hidden = "sip:anonymous@anonymous.invalid"
    assert (await register(alice, pool.primary)).status == 200
    assert (await call(alice, pool.primary, own=hidden)).status == 403
    other = ("P-Preferred-Identity", f"<sip:bob@{ALIAS}>")
    assert (await call(alice, pool.primary, other, own=hidden)).status == 403
    made = await call(alice, pool.primary, ("P-Preferred-Identity", f"<{OWN}>"), own=hidden)
    assert made.status == 200
    assert await made.bye() == 200
    assert pbx.incoming[0].invite.having("P-Preferred") == ()
    assert pbx.incoming[0].invite.all("P-Asserted-Identity") == [f"<{OWN}>"]


async def test_gateways_and_the_registrar_itself(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A gateway does not register to call, nor does the registrar that calls a client along the Path."""
    assert (await register(alice, pool.primary)).status == 200
    async with Phone.at(f"{PSTN}.1") as trunk:
        made = await trunk.call(pool.uri)
        assert made.status == 200
        assert await made.bye() == 200
    path = pbx.requests("REGISTER")[0].message.all("Path")
    made = await pbx.call(alice.uri, to=hop(uri_in(path[0])), headers=[("Route", entry) for entry in path])
    assert made.status == 200
    assert await made.bye() == 200


async def test_a_proxy_that_starts_learns(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """From a peer that knows; a copy of what was before changes nothing."""
    pool.primary.set(learn=1, learned=1)
    fresh = pool.members[1]
    fresh.kill()
    fresh.start()
    assert (await register(alice, pool.primary)).status == 200
    fresh.networks([f"{CLIENTS}.0/24"])
    fresh.control.set("peer", pool.primary.ip, pool.primary.name)
    fresh.set(key=KEY, delegated=1, learn=1)
    await until(lambda: fresh.control.number("ctl", "learned") == 1, "it knows all")
    assert fresh.control.dump("src") == pool.primary.control.dump("src") != {}


async def asked(phone: Phone, pool: Pool, method: str, uri: str, cseq: int, *headers: tuple[str, str]) -> Any:
    """What comes of that request once Asterisk's question has been answered: a call, or an answer."""
    own = f"sip:{phone.user}@{ALIAS}"
    options: Any = {"to": (pool.primary.ip, 5060), "from_uri": own, "call_id": fresh_tag(), "from_tag": fresh_tag()}

    async def send(number: int, *more: tuple[str, str]) -> Any:
        if method == "INVITE":
            return await phone.call(uri, **options, headers=more, cseq=number)
        return (
            await (await phone.request(method, uri, **options, to_uri=own, headers=more, cseq=number)).final()
        ).message

    first = await send(cseq, *headers)
    question = first.final if method == "INVITE" else first
    if question.status != 401:
        return first
    name, value = credentials(challenges(question)[0], method, uri, PASSWORD, user=phone.user)
    return await send(cseq + 1, ("Authorization" if method == "INVITE" else name, value), *headers)


async def test_asterisk_is_the_registrar(pool: Pool, upstream: Asterisk) -> None:
    """Asterisk asks for passwords; two of its users register and call each other through the pool. One that has a
    password and is not registered is refused by the pool, and so is one that has unregistered.
    """
    pool.routes(to(f"sip:{UPSTREAM}:5060"))
    async with Phone.at(f"{CLIENTS}.31", user="alice") as alice, Phone.at(f"{CLIENTS}.32", user="bob") as bob:
        assert (await asked(alice, pool, "INVITE", f"sip:bob@{ALIAS}", 1)).status == 403
        for phone in (alice, bob):
            assert (await asked(phone, pool, "REGISTER", f"sip:{ALIAS}", 1, SUPPORTED)).status == 200
        assert upstream.command("pjsip show contacts").count("sip:") == 2
        made = await asked(alice, pool, "INVITE", f"sip:bob@{ALIAS}", 1)
        assert made.status == 200
        assert len(bob.incoming) == 1
        assert await made.bye() == 200
        gone = await asked(alice, pool, "REGISTER", f"sip:{ALIAS}", 3, SUPPORTED, ("Expires", "0"))
        assert gone.status == 200
        assert (await asked(alice, pool, "INVITE", f"sip:bob@{ALIAS}", 1)).status == 403
    await idle(*pool.proxies)
