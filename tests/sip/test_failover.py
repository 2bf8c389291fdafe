"""A target that is asked after another one has failed gets the call as the first one got it, whatever the client is."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.tools import answers
from tests.tools.addresses import CLIENTS, PROXIES, TARGETS
from tests.tools.digest import REALM, challenges, credentials
from tests.tools.message import Message, uri_in
from tests.tools.pool import ALIAS, Pool, idle, to
from tests.tools.proxies import Proxy
from tests.tools.rtp import streams
from tests.tools.sip import Phone
from tests.tools.transport import Endpoint, Translated

Targets = tuple[Phone, Phone]  # one that fails, and the next one
FORGED = [("P-Asserted-Identity", "<sip:president@example.test>"), ("X-VP-Client", "ip=6.6.6.6")]
GONE = f"{PROXIES}.77"
PASSWORD = "correct-horse"
OWN = f"sip:alice@{REALM}"


class WithGruu(Phone):
    """Its Contact is a GRUU (RFC 5627), which it has not registered for."""

    @property
    def contact(self) -> str:
        return f"<sip:carol@{ALIAS};gr=urn:uuid:1>"


@asynccontextmanager
async def client(kind: str) -> AsyncIterator[Phone]:
    endpoint = await (Translated if kind == "behind NAT" else Endpoint).open(
        f"{CLIENTS}.9", protocol="tcp" if kind == "tcp" else "udp"
    )
    carol = (WithGruu if kind == "with a GRUU" else Phone)(endpoint, "carol")
    try:
        yield carol
    finally:
        await carol.close()


@pytest.fixture
async def targets(pool: Pool) -> AsyncIterator[Targets]:
    """All that is called goes to the one, then to the other."""
    pool.routes(to(f"sip:{TARGETS}.3:5060", f"sip:{TARGETS}.4:5060"))
    async with AsyncExitStack() as stack:
        failing, other = [
            await stack.enter_async_context(Phone.at(f"{TARGETS}.{last}", 5060, user="trunk")) for last in (3, 4)
        ]
        failing.script = answers.refuse(503)
        yield failing, other
    await idle(*pool.proxies)


def assert_alike(targets: Targets, serving: Proxy) -> Message:
    """Both got the same, with media at the proxy and nothing that is for proxies alone. The second one's INVITE."""
    failing, other = targets
    assert [incoming.status for incoming in failing.incoming] == [503]
    first, second = failing.incoming[0].invite, other.incoming[0].invite
    assert second.body == first.body
    assert {ip for ip, _ in streams(second.body).values()} == {serving.ip}
    for name in ("Contact", "Record-Route", "Route", "P-Asserted-Identity", "Max-Forwards"):
        assert second.all(name) == first.all(name), name
    for forged in ("6.6.6.6", "president", "X-VP-", "Proxy-Auth"):
        assert forged not in str(second), forged
    return second


async def assert_served(targets: Targets, kind: str, entry: Proxy, serving: Proxy) -> None:
    """A call of such a client goes through, and the second target reaches the client within it and ends it."""
    async with client(kind) as carol:
        call = await carol.call(f"sip:echo@{entry.ip}:5060", headers=FORGED)
        assert call.status == 200
        second = assert_alike(targets, serving)
        assert second.all("P-Asserted-Identity") == []
        assert (";alias=" in uri_in(second.header("Contact"))) == (kind != "udp")
        incoming = targets[1].incoming[0]
        assert (await incoming.request("INVITE", body=incoming.sdp)).message.status == 200
        assert await incoming.bye() == 200
        await carol.expect("BYE")


@pytest.mark.parametrize(("kind", "at"), [*itertools.product(["udp", "tcp", "behind NAT"], [0, 1]), ("with a GRUU", 0)])
async def test_a_second_target(pool: Pool, targets: Targets, kind: str, at: int) -> None:
    """With the client's flow in the Contact, by which the other side reaches it within the call and ends it."""
    pool.table(*(5 if at == place else 0 for place in range(2)))
    await assert_served(targets, kind, pool.primary, pool.proxies[at])


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("kind", ["udp", "tcp", "behind NAT"])
async def test_who_calls(pool: Pool, targets: Targets, kind: str, at: int) -> None:
    """The second one, too, learns what user has proven to call."""
    pool.table(*(5 if at == place else 0 for place in range(2)))
    pool.asks("alice", password=PASSWORD)
    async with client(kind) as carol:
        asked = challenges((await carol.call(pool.uri, from_uri=OWN)).final)[0]
        answer = credentials(asked, "INVITE", pool.uri, PASSWORD)
        call = await carol.call(pool.uri, from_uri=OWN, headers=[answer, *FORGED])
        assert call.status == 200
        assert assert_alike(targets, pool.proxies[at]).all("P-Asserted-Identity") == [f"<{OWN}>"]
        assert await call.bye() == 200


@pytest.mark.parametrize("kind", ["udp", "tcp", "behind NAT"])
async def test_served_for_want_of_a_primary(pool: Pool, targets: Targets, kind: str) -> None:
    """A member whose primary does not answer serves the call itself."""
    member = pool.members[0]
    pool.peer(GONE, room=0)
    pool.set(primary=f"sip:{GONE}:5060")
    await assert_served(targets, kind, member, member)


@pytest.mark.parametrize("kind", ["udp", "behind NAT"])
async def test_served_after_a_hand_over(pool: Pool, targets: Targets, kind: str) -> None:
    """A new primary holds the call until the previous one has said that it does not know it, and serves it itself."""
    old, new, _ = pool.proxies
    new.set(role="primary", prev=old.uri)
    new.table([new.row(5, closed=7)])
    await assert_served(targets, kind, new, new)


@pytest.mark.parametrize("kind", ["udp", "behind NAT"])
async def test_sent_on_after_a_hand_over(pool: Pool, targets: Targets, kind: str) -> None:
    """A new primary has held the call, and the first proxy that it sends it to refuses it, knowing of no other."""
    old, new, serving = pool.proxies
    old.set(drain=1)
    old.table([])
    new.set(role="primary", prev=old.uri)
    new.table([old.row(5, closed=7), serving.row(1, closed=7)])
    await assert_served(targets, kind, new, serving)
    assert old.count("refused") == 1
