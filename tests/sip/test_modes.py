"""302 or forwarding: by the client's network and User-Agent, and by whether it follows a 302."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from switchboard.pool.spec import ClientMode
from tests.tools.addresses import CLIENTS, PEER, VOIP
from tests.tools.pool import ALIAS, Pool, idle
from tests.tools.sessions import Call
from tests.tools.sip import Options, Phone
from tests.tools.wait import until

LATER = 2  # ticks, more than a client takes to follow


async def was(call: Call) -> str:
    """By which mode the call was served; it is over then."""
    assert call.status == 200, call.path
    assert await call.bye() == 200
    return "redirect" if 302 in [status for _, status in call.path] else "forward"


async def served(phone: Phone, pool: Pool, agent: str = "") -> str:
    return await was(await phone.call(pool.uri, headers=[("User-Agent", agent)] if agent else []))


async def register(phone: Phone, pool: Pool, cseq: int = 1, agent: str = "phone") -> int:
    """REGISTER at the primary, whatever it answers."""
    options: Options = {
        "to": (pool.primary.ip, 5060),
        "to_uri": f"sip:{phone.user}@{ALIAS}",
        "call_id": f"r@{agent}",
        "cseq": cseq,
        "headers": [("User-Agent", agent)],
    }
    request = await phone.request("REGISTER", f"sip:{ALIAS}", **options)
    return (await request.final()).message.status


def notes(pool: Pool) -> list[str]:
    """What the primary knows of clients that it has redirected."""
    return list(pool.primary.control.dump("sent").values())


def known(pool: Pool) -> list[str]:
    """In a word, of each: whether it follows, or stays where it is."""
    return [note.partition(" ")[0] for note in notes(pool)]


def later(pool: Pool) -> None:
    """Time goes by."""
    pool.set(tick=pool.primary.control.number("ctl", "tick") + LATER)


@pytest.fixture
def redirecting(pool: Pool) -> Pool:
    pool.set(mode="redirect")
    pool.table(0, 5, 5)
    return pool


# by rules


async def test_network(pool: Pool, pbx: Phone) -> None:
    """Each network's clients are served by the mode of the first rule that has them; all others by the pool's."""
    pool.table(0, 5)
    pool.modes(
        ClientMode(mode="forward", networks=("2001:db8::/32", f"{CLIENTS}.16/32")),
        ClientMode(mode="redirect", networks=(f"{CLIENTS}.8/32", f"{CLIENTS}.16/28")),
    )
    async with AsyncExitStack() as stack:
        expected = {8: "redirect", 9: "forward", 16: "forward", 17: "redirect"}
        phones = {last: await stack.enter_async_context(Phone.at(f"{CLIENTS}.{last}")) for last in expected}
        assert {last: await served(phone, pool) for last, phone in phones.items()} == expected
        pool.modes(ClientMode(mode="forward", networks=(f"{CLIENTS}.17/32",)))  # while it runs
        pool.set(mode="redirect")
        assert {last: await served(phones[last], pool) for last in (9, 17)} == {9: "redirect", 17: "forward"}
    await idle(*pool.proxies)


async def test_user_agent(redirecting: Pool, pbx: Phone) -> None:
    """Clients whose User-Agent has a rule's words in it, whatever their case, are forwarded; a rule with networks as
    well is for these programs there alone. Who names no program fits none.
    """
    redirecting.modes(
        ClientMode(mode="forward", user_agents=("SIP.js/", "soft phone")),
        ClientMode(mode="forward", networks=(f"{CLIENTS}.2/32",), user_agents=("desk",)),
    )
    async with Phone.at(f"{CLIENTS}.2") as two, Phone.at(f"{CLIENTS}.3") as three:
        agents = {"App sip.JS/0.21": "forward", "Soft Phone": "forward", "Softphone": "redirect", "": "redirect"}
        for phone, desk in ((two, "forward"), (three, "redirect")):
            expected = {**agents, "Desk 3": desk}
            assert {agent: await served(phone, redirecting, agent) for agent in expected} == expected
    await idle(*redirecting.proxies)


async def test_gateway(pool: Pool, pbx: Phone) -> None:
    """Rules are for clients: a gateway keeps its own mode, or else the pool's."""
    pool.table(0, 5)
    pool.modes(ClientMode(mode="redirect", networks=(f"{VOIP}.0/24",)), ClientMode(mode="forward", user_agents=("x",)))
    async with Phone.at(f"{VOIP}.1") as gateway:
        assert await served(gateway, pool) == "forward"
        pool.gateway("voip-1", mode="redirect")
        assert await served(gateway, pool, "x") == "redirect"
        later(pool)
        assert await served(gateway, pool, "x") == "redirect"
    assert notes(pool) == []
    await idle(*pool.proxies)


@pytest.mark.parametrize("registrar", [0, 1], ids=["the routes' registrar", "the pool's"])
async def test_registrations(pool: Pool, alice: Phone, pbx: Phone, registrar: int) -> None:
    """REGISTER, too, is answered by the client's mode and not the pool's."""
    pool.set(registrar=registrar, learned=1)
    pool.table(0, 5)
    for mode, agent, status in (("forward", "desk", 302), ("redirect", "soft", 200)):
        pool.set(mode=mode)
        pool.modes(
            ClientMode(mode="redirect", user_agents=("desk",)), ClientMode(mode="forward", user_agents=("soft",))
        )
        assert await register(alice, pool, agent=agent) == status


# clients that do not follow


async def test_ignored(redirecting: Pool, alice: Phone, pbx: Phone) -> None:
    """A client that ignores its 302 is served when it calls again, and its next call is forwarded at once, whomever it
    calls. Another one behind its address, which follows, is redirected as ever.
    """
    tries = [await alice.call(redirecting.uri, follow=0) for _ in range(2)]  # so soon that it might still follow
    assert [call.status for call in tries] == [302, 302]
    later(redirecting)
    again = await alice.call(redirecting.uri, follow=0)
    assert await was(again) == "forward"
    await until(lambda: known(redirecting) == ["stays"], "the proxy that it was sent to has not seen it")
    other = await alice.call(f"sip:other@{redirecting.primary.ip}:5060", follow=0)
    assert await was(other) == "forward"
    assert redirecting.primary.count("stays") == 2
    async with Phone.at(f"{CLIENTS}.1", user="bob") as bob:
        assert await served(bob, redirecting) == "redirect"
    await idle(*redirecting.proxies)


@pytest.mark.parametrize("rooms", [(0, 5), (5, 0)], ids=["to a member", "to the primary itself"])
async def test_followed(redirecting: Pool, alice: Phone, pbx: Phone, rooms: tuple[int, int]) -> None:
    """A client that followed may be forwarded once when it calls again; then it is known to follow, and redirected."""
    redirecting.table(*rooms)
    assert await served(alice, redirecting) == "redirect"
    later(redirecting)
    assert await served(alice, redirecting) == "forward"
    await until(lambda: known(redirecting) == ["follows"], "it is known to follow")
    for _ in range(3):
        later(redirecting)
        assert await served(alice, redirecting) == "redirect"
    assert redirecting.primary.count("stays") == 1
    await idle(*redirecting.proxies)


async def test_ignored_by_the_primary_s_own_client(redirecting: Pool, alice: Phone, pbx: Phone) -> None:
    """The primary knows of clients that it sent to its own address without asking."""
    redirecting.table(5)
    assert (await alice.call(redirecting.uri, follow=0)).status == 302
    later(redirecting)
    assert await was(await alice.call(redirecting.uri, follow=0)) == "forward"
    assert known(redirecting) == ["stays"]
    await idle(*redirecting.proxies)


async def test_repeated(redirecting: Pool, alice: Phone, pbx: Phone) -> None:
    """An INVITE that is only repeated, because its 302 was lost, gets another 302. Which of them the client followed
    nobody knows then: when it comes back it is forwarded, and not taken for one that never follows.
    """
    call = await alice.call(redirecting.uri, follow=0)
    later(redirecting)
    for _ in range(2):
        again = await alice.start(call.transaction.request, call.transaction.to)
        assert (await again.final()).message.status == 302
    assert await was(await alice.call(redirecting.uri, follow=0)) == "forward"
    assert (await alice.call(redirecting.uri, follow=0)).status == 302
    assert "stays" not in known(redirecting)
    await idle(*redirecting.proxies)


async def test_same_call_again(redirecting: Pool, alice: Phone, pbx: Phone) -> None:
    """A client that tries its call again within the same Call-ID is one that came back, too."""
    call = await alice.call(redirecting.uri, follow=0)
    later(redirecting)
    again = await alice.call(redirecting.uri, follow=0, call_id=call.call_id, from_tag=call.tag, cseq=2)
    assert await was(again) == "forward"
    await idle(*redirecting.proxies)


async def test_unreachable(redirecting: Pool, alice: Phone, pbx: Phone) -> None:
    """A client whose 302 led to a proxy that does not answer is served by another one when it comes back; nothing is
    concluded from the silence.
    """
    away = redirecting.peer(PEER, 5)
    redirecting.primary.table([away, *redirecting.rows(0, 5)[1:]])
    assert (await alice.call(redirecting.uri, follow=0)).status == 302
    later(redirecting)
    assert await was(await alice.call(redirecting.uri, follow=0)) == "forward"
    assert (await alice.call(redirecting.uri, follow=0)).status == 302
    assert "stays" not in known(redirecting)
    await idle(*redirecting.proxies)


async def test_same_hash(redirecting: Pool, alice: Phone, pbx: Phone) -> None:
    """Two clients of one hash are not taken for each other: the later one's note stands."""
    assert (await alice.call(redirecting.uri, follow=0)).status == 302
    later(redirecting)
    [(key, note)] = redirecting.primary.control.dump("sent").items()
    client = " ".join(note.split()[-2:])
    other = "198.51.100.9 sip:else@example.test"
    for of_other in (note.replace(client, other), f"follows {other}", f"stays {other}"):
        redirecting.primary.control.set("sent", key, of_other)
        assert (await alice.call(redirecting.uri, follow=0)).status == 302
        whose = other if of_other.startswith("stays") else client
        await until(lambda whose=whose: notes(redirecting)[0].endswith(whose), "the note after the answer")
    assert redirecting.primary.count("stays") == 0


@pytest.mark.parametrize("registrar", [0, 1], ids=["the routes' registrar", "the pool's"])
async def test_registration_ignored(redirecting: Pool, alice: Phone, pbx: Phone, registrar: int) -> None:
    """A phone that does not follow the 302 to its REGISTER registers when it tries again, and at once from then on."""
    redirecting.set(registrar=registrar, learned=1)

    assert await register(alice, redirecting, 1) == 302
    later(redirecting)
    assert await register(alice, redirecting, 2) == 200
    await until(lambda: known(redirecting) == ["stays"], "the proxy that it was sent to has not seen it")
    assert await register(alice, redirecting, 3) == 200
