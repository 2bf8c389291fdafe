"""Gateways have rights of their own: whom they may call, how often and with what; numbers and codecs on their side."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from switchboard.pool.spec import Rewriting, Rights
from tests.tools.addresses import CLIENTS, PSTN, VOIP
from tests.tools.pool import ALIAS, CLOSED, TICK, Pool, idle, to
from tests.tools.sip import Phone
from tests.tools.wait import until

GATEWAY = f"{PSTN}.1"
OTHER = f"{VOIP}.1"
VIDEO = (
    "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n"
    "m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\nm=video {port} RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
)
FOUR_CODECS = (
    "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8 0 9 18 101\r\n"
    "a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:9 G722/8000\r\na=rtpmap:18 G729/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\n"
)


def number(pool: Pool, user: str, proxy: int = 0) -> str:
    return f"sip:{user}@{pool.proxies[proxy].ip}:5060"


def refused(pool: Pool, gateway: str, reason: str) -> int:
    """How often, at all proxies together."""
    return sum(proxy.control.number("refused", f"{gateway}:{reason}") for proxy in pool.proxies)


def codecs(sdp: str) -> set[str]:
    """The names that an SDP's payload types have; those of its media lines alone."""
    types = {kind for line in sdp.splitlines() if line.startswith("m=") for kind in line.split()[3:]}
    static = {"0": "PCMU", "8": "PCMA", "9": "G722", "18": "G729"}
    named = dict(line[9:].split("/")[0].split(" ", 1) for line in sdp.splitlines() if line.startswith("a=rtpmap:"))
    return {(static | named)[kind] for kind in types}


async def test_prefixes(pool: Pool, pbx: Phone) -> None:
    """A gateway calls the numbers that are its right; for others it gets 403, which leaves nothing but a count."""
    pool.gateway("pstn-1", rights=Rights(prefixes=("+4930", "112")))
    async with Phone.at(GATEWAY) as gateway, Phone.at(OTHER) as other:
        for user, status in (("+493012", 200), ("112", 200), ("+4940", 403), ("11", 403), ("bob", 403)):
            call = await gateway.call(number(pool, user))
            assert call.status == status, user
            if status == 200:
                await call.bye()
        free = await other.call(number(pool, "+4940"))
        assert free.status == 200
        await free.bye()
    assert refused(pool, "pstn-1", "prefix") == 3
    assert len(pbx.incoming) == 3
    await idle(*pool.proxies)


@pytest.mark.parametrize("mode", ["forward", "redirect"])
async def test_prefixes_after_a_redirect(pool: Pool, pbx: Phone, mode: str) -> None:
    """Rights hold at whatever proxy the gateway speaks to: a 302 to a member opens no other numbers."""
    pool.gateway("pstn-1", mode=mode, rights=Rights(prefixes=("+4930",)))
    pool.table(0, 10)
    async with Phone.at(GATEWAY) as gateway:
        call = await gateway.call(number(pool, "+4930"))
        assert call.status == 200
        await call.bye()
        for proxy in range(2):
            assert (await gateway.call(number(pool, "0900", proxy))).status == 403


async def test_register(pool: Pool, pbx: Phone) -> None:
    """A gateway that may not register is told so; one that may is."""
    pool.gateway("pstn-1", rights=Rights(register=False))
    async with Phone.at(GATEWAY) as gateway, Phone.at(OTHER) as other:
        assert (await (await gateway.request("REGISTER", pool.uri)).final()).message.status == 403
        assert (await (await other.request("REGISTER", pool.uri)).final()).message.status == 200
    assert refused(pool, "pstn-1", "register") == 1


async def test_video(pool: Pool, pbx: Phone) -> None:
    """A gateway without video: an offer with it is refused with 488, at the start of a call and within it."""
    pool.gateway("pstn-1", rights=Rights(video=False))
    async with Phone.at(GATEWAY) as gateway, Phone.at(OTHER) as other:
        with_video = VIDEO.format(ip=GATEWAY, port=4002)
        assert (await gateway.call(pool.uri, body=with_video)).status == 488
        call = await gateway.call(pool.uri, body=VIDEO.format(ip=GATEWAY, port=0))
        assert call.status == 200
        assert (await call.request("INVITE", body=with_video)).message.status == 488
        assert (await call.request("INVITE", body=VIDEO.format(ip=GATEWAY, port=0))).message.status == 200
        theirs = pbx.incoming[0]
        assert (await theirs.request("INVITE", body=VIDEO.format(ip=OTHER, port=4002))).message.status == 488
        assert await call.bye() == 200
        free = await other.call(pool.uri, body=VIDEO.format(ip=OTHER, port=4002))
        assert free.status == 200
        await free.bye()
    assert refused(pool, "pstn-1", "video") == 3


async def test_calls_per_second(pool: Pool, pbx: Phone) -> None:
    """Over its own rate a gateway gets 503 with Retry-After; another gateway and the clients do not notice."""
    pool.gateway("pstn-1", rights=Rights(max_calls_per_second=2))
    async with Phone.at(GATEWAY) as gateway, Phone.at(OTHER) as other:
        calls = await asyncio.gather(*(gateway.call(pool.uri) for _ in range(12)))
        free = await asyncio.gather(*(other.call(pool.uri) for _ in range(12)))
        assert {await call.bye() for call in (*calls, *free) if call.status == 200} == {200}
    over = [call for call in calls if call.status == 503]
    assert len(over) >= 12 - 2 * 2, "a burst lies in two seconds at most"
    assert all(call.final.header("Retry-After") for call in over)
    assert all(call.status == 200 for call in free)
    assert refused(pool, "pstn-1", "rate") == len(over)


async def test_calls_per_second_at_a_member(pool: Pool, pbx: Phone) -> None:
    """The rate is the pool's: what a gateway sends to other proxies counts as well."""
    pool.gateway("pstn-1", rights=Rights(max_calls_per_second=2))
    async with Phone.at(GATEWAY) as gateway:
        calls = await asyncio.gather(*(gateway.call(number(pool, "echo", proxy % 3)) for proxy in range(12)))
        assert {await call.bye() for call in calls if call.status == 200} == {200}
    assert sum(call.status == 200 for call in calls) <= 4
    assert {call.status for call in calls} == {200, 503}


def known_use(pool: Pool, calls: int, closed: int = CLOSED) -> None:
    """What the agent writes at the primary of the calls of pstn-1 at all proxies."""
    pool.primary.control.set("gwuse", "pstn-1", f"{calls}:{closed}")


async def test_calls_at_a_time(pool: Pool, pbx: Phone) -> None:
    """A burst takes the calls that a gateway may have and not one more, wherever they are carried; what ended is free
    again with the next report, what never arrived when its tick closes.
    """
    pool.gateway("pstn-1", rights=Rights(max_calls=5))
    known_use(pool, 2)
    pool.table(1, 1, 10)
    async with Phone.at(GATEWAY) as gateway, Phone.at(OTHER) as other:
        calls = await asyncio.gather(*(gateway.call(number(pool, "echo", at % 3)) for at in range(9)))
        answered = [call for call in calls if call.status == 200]
        assert sorted(call.status for call in calls) == [200] * 3 + [503] * 6
        assert all(call.final.header("Retry-After") for call in calls if call.status == 503)
        sizes = [proxy.control("dlg.profile_get_size", "gateway", "pstn-1") for proxy in pool.proxies]
        assert sum(int(size) for size in sizes) == 3
        arrived = f"pstn-1:{pool.primary.id}:{TICK}"
        assert sum(proxy.control.number("gwrcv", arrived) for proxy in pool.proxies) == 3
        free = await asyncio.gather(*(other.call(pool.uri) for _ in range(6)))
        assert {call.status for call in free} == {200}
        await answered.pop().bye()
        known_use(pool, 2 + 2 - 3)  # one of them has ended, all three have arrived
        answered.append(await gateway.call(pool.uri))
        assert (await gateway.call(pool.uri)).status == 503
        pool.set(tick=TICK + 3)
        known_use(pool, 3, closed=TICK)
        answered.append(await gateway.call(pool.uri))
        assert {await call.bye() for call in (*answered, *free)} == {200}
    assert refused(pool, "pstn-1", "calls") == 7
    await idle(*pool.proxies)


async def test_calls_at_a_time_after_a_redirect(pool: Pool, pbx: Phone) -> None:
    """A call that follows a 302 is counted at the proxy that carries it, under the tick in which it was assigned."""
    pool.gateway("pstn-1", mode="redirect", rights=Rights(max_calls=2))
    known_use(pool, 0)
    pool.table(0, 10)
    async with Phone.at(GATEWAY) as gateway:
        calls = [await gateway.call(pool.uri) for _ in range(3)]
        assert [call.status for call in calls] == [200, 200, 503]
        assert {await call.bye() for call in calls[:2]} == {200}
    assert pool.members[0].control.number("gwrcv", f"pstn-1:{pool.primary.id}:{TICK}") == 2


async def test_nobody_knows_how_many_calls(pool: Pool, pbx: Phone) -> None:
    """Where calls are limited, none is taken as long as nobody can tell how many there are: at a primary that has not
    been told, and at a member that finds no primary.
    """
    pool.gateway("pstn-1", rights=Rights(max_calls=5))
    async with Phone.at(GATEWAY) as gateway, Phone.at(OTHER) as other:
        assert (await gateway.call(pool.uri)).status == 503
        pool.set(primary="")
        assert (await gateway.call(number(pool, "echo", 1))).status == 503
        free = await other.call(number(pool, "echo", 1))
        assert free.status == 200
        await free.bye()
    assert refused(pool, "pstn-1", "calls") == 2


REWRITING: list[tuple[Any, str, str]] = [
    (None, "0301234", "0301234"),
    (Rewriting(strip=1, prefix="49", plus="add"), "0301234", "+49301234"),
    (Rewriting(plus="add"), "49301234", "+49301234"),
    (Rewriting(plus="add"), "+49301234", "+49301234"),
    (Rewriting(plus="remove", prefix="00"), "+49301234", "0049301234"),
    (Rewriting(strip=2, prefix="9"), "+49301234", "+9301234"),
    (Rewriting(plus="add"), "bob", "bob"),
    (Rewriting(strip=9), "112", "112"),
]


@pytest.mark.parametrize("case", REWRITING)
@pytest.mark.parametrize("mode", ["forward", "redirect"])
async def test_incoming_numbers(pool: Pool, pbx: Phone, case: tuple[Any, str, str], mode: str) -> None:
    """A number that a gateway calls is written as the pool has it, once, however the call goes round."""
    rule, called, arrives = case
    pool.gateway("pstn-1", mode=mode, incoming=rule)
    pool.table(0, 10)
    async with Phone.at(GATEWAY) as gateway:
        call = await gateway.call(number(pool, called))
        assert call.status == 200
        assert pbx.incoming[0].invite.uri.startswith(f"sip:{arrives}@")
        assert await call.bye() == 200


async def test_rights_look_at_the_number_as_the_pool_has_it(pool: Pool, pbx: Phone) -> None:
    """Rights and routes are about numbers after they were rewritten, not as a gateway writes them."""
    pool.gateway("pstn-1", incoming=Rewriting(strip=1, prefix="49", plus="add"), rights=Rights(prefixes=("+4930",)))
    pool.routes(to(f"sip:{pbx.endpoint.address[0]}:5060", prefix="+4930"))
    async with Phone.at(GATEWAY) as gateway:
        call = await gateway.call(number(pool, "0301234"))
        assert call.status == 200
        await call.bye()
        assert (await gateway.call(number(pool, "0401234"))).status == 403


async def test_codecs_of_the_calling_gateway(pool: Pool, pbx: Phone) -> None:
    """A call from a gateway offers its codecs alone, also within the call; others offer what they like."""
    pool.gateway("pstn-1", codecs=("PCMA", "telephone-event"))
    offer = FOUR_CODECS.format(ip=GATEWAY)
    async with Phone.at(GATEWAY) as gateway, Phone.at(OTHER) as other:
        call = await gateway.call(pool.uri, body=offer)
        assert call.status == 200
        theirs = pbx.incoming[0]
        assert codecs(theirs.invite.body) == {"PCMA", "telephone-event"}
        assert (await call.request("INVITE", body=offer)).message.status == 200
        assert codecs(theirs.remote_sdp) == {"PCMA", "telephone-event"}
        await call.bye()
        free = await other.call(pool.uri, body=offer)
        assert codecs(pbx.incoming[1].invite.body) == {"PCMA", "PCMU", "G722", "G729", "telephone-event"}
        await free.bye()
    await idle(*pool.proxies)


async def test_a_registered_number(pool: Pool) -> None:
    """Who has registered a number with the pool itself is called by how the gateway writes it, at whatever proxy, and
    is offered the gateway's codecs alone.
    """
    pool.set(registrar=1, expires=300, learned=1)
    pool.gateway("pstn-1", incoming=Rewriting(strip=1, prefix="49", plus="add"), codecs=("PCMA", "telephone-event"))
    async with Phone.at(f"{CLIENTS}.7", user="+4930123") as desk, Phone.at(GATEWAY) as gateway:
        own = f"sip:+4930123@{ALIAS}"
        where = (pool.primary.ip, 5060)
        asked = await desk.request("REGISTER", f"sip:{ALIAS}", to=where, from_uri=own, to_uri=own)
        assert (await asked.final()).message.status == 200
        for proxy in pool.proxies:
            await until(lambda proxy=proxy: proxy.control.dump("aor"), f"{proxy.name} knows")
        for proxy in pool.proxies:
            offer = FOUR_CODECS.format(ip=GATEWAY)
            call = await gateway.call(f"sip:030123@{ALIAS}", to=(proxy.ip, 5060), body=offer)
            assert call.status == 200
            assert await call.bye() == 200
    assert [codecs(theirs.invite.body) for theirs in desk.incoming] == [{"PCMA", "telephone-event"}] * 3
    await idle(*pool.proxies)


async def test_no_codec_in_common(pool: Pool, pbx: Phone) -> None:
    """An offer of a stream with none of the gateway's codecs is refused with 488, at the start of a call and within it;
    a stream that is no RTP has none.
    """
    pool.gateway("pstn-1", codecs=("G729", "telephone-event", "H264"))
    offer = FOUR_CODECS.format(ip=GATEWAY)
    fax = offer + "m=image 4004 udptl t38\r\n"
    async with Phone.at(GATEWAY) as gateway:
        without = "".join(line for line in offer.splitlines(keepends=True) if "G729" not in line).replace(" 18 ", " ")
        assert (await gateway.call(pool.uri, body=without)).status == 488
        call = await gateway.call(pool.uri, body=fax)
        assert call.status == 200
        assert (await call.request("INVITE", body=without)).message.status == 488
        assert (await call.request("INVITE", body=VIDEO.format(ip=GATEWAY, port=4002))).message.status == 488
        assert await call.bye() == 200
    assert refused(pool, "pstn-1", "codecs") == 3
    await idle(*pool.proxies)


async def test_a_change_drops_no_call(pool: Pool, pbx: Phone) -> None:
    """A right taken away holds for the next call; one that stands goes on."""
    async with Phone.at(GATEWAY) as gateway:
        call = await gateway.call(pool.uri)
        assert call.status == 200
        pool.gateway("pstn-1", rights=Rights(prefixes=("1",)))
        assert (await gateway.call(pool.uri)).status == 403
        assert (await call.request("INVITE", body=call.sdp)).message.status == 200
        assert await call.bye() == 200
    await idle(*pool.proxies)
