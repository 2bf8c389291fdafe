"""Where calls go: routes by domain and prefix, by priority and weight, to targets and through gateways; what fails is
passed over, and is known to have failed before a call finds out.
"""

from __future__ import annotations

from collections import Counter

import pytest

from switchboard.pool.spec import Gateway, Rewriting, Rights, Route
from tests.sip.test_gateways import FOUR_CODECS, VIDEO, codecs, number, refused
from tests.tools import answers
from tests.tools.addresses import CLIENTS, PSTN, TARGETS
from tests.tools.pool import ALIAS, Pool, idle, to
from tests.tools.sessions import Incoming
from tests.tools.sip import Phone
from tests.tools.wait import until

GATEWAY = f"{PSTN}.1"


def target(number: int) -> str:
    return f"sip:{TARGETS}.{number}:5060"


def carrier(name: str, number: int, **fields: object) -> Gateway:
    """A gateway that calls go out through, at one of the targets' addresses."""
    return Gateway(name=name, kind="pstn", networks=("192.0.2.0/24",), targets=(target(number),), **fields)  # type: ignore[arg-type]  # any field


async def test_domain_before_prefix(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A route for the domain asked for comes before any without one; in any spelling; the prefix decides after that."""
    pool.routes(
        to(target(1), prefix="+4930"),
        to(target(2), domain=ALIAS),
        to(target(3), domain=ALIAS, prefix="+49"),
    )
    async with Phone.at(f"{TARGETS}.2", 5060) as two, Phone.at(f"{TARGETS}.3", 5060) as three:
        for uri in (f"sip:bob@{ALIAS.upper()}", f"sip:+49301@{ALIAS}", f"sip:+49301@{pool.primary.ip}"):
            call = await alice.call(uri, to=(pool.primary.ip, 5060))
            assert call.status == 200
            await call.bye()
        assert [len(phone.incoming) for phone in (two, three, pbx)] == [1, 1, 1]


async def test_priority(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Routes that fit equally well are alternatives: the lowest priority first, the next ones when it fails."""
    pool.routes(to(target(1), priority=3), to(target(2), priority=1), to(target(3), priority=2))
    async with Phone.at(f"{TARGETS}.2", 5060) as two, Phone.at(f"{TARGETS}.3", 5060) as three:
        two.script = three.script = answers.refuse(500)
        call = await alice.call(pool.uri)
        assert call.status == 200
        assert [len(phone.incoming) for phone in (two, three, pbx)] == [1, 1, 1]
        await call.bye()
    await idle(*pool.proxies)


async def test_weight(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Routes of one priority share the calls by weight; one of weight 0 gets none while another answers."""
    pool.routes(to(target(1), weight=3), to(target(2), weight=1), to(target(3), weight=0))
    pool.table(*(200 for _ in pool.proxies))
    async with Phone.at(f"{TARGETS}.2", 5060) as two, Phone.at(f"{TARGETS}.3", 5060) as three:
        for _ in range(60):
            call = await alice.call(pool.uri)
            await call.bye()
        shares = Counter({"pbx": len(pbx.incoming), "two": len(two.incoming), "three": len(three.incoming)})
    assert shares["three"] == 0
    assert 30 <= shares["pbx"] <= 56, shares  # 45 by weight; outside of that by chance once in 10,000 runs
    assert shares.total() == 60


async def test_never_twice(pool: Pool, alice: Phone) -> None:
    """A target that stands in two routes, or twice in one, is asked once for a call."""
    pool.routes(to(target(1), target(1)), to(target(1), target(2)), to(target(2), priority=2))
    async with Phone.at(f"{TARGETS}.1", 5060) as one, Phone.at(f"{TARGETS}.2", 5060) as two:
        one.script = two.script = answers.refuse(503)
        assert (await alice.call(pool.uri)).status == 503
        assert [len(phone.incoming) for phone in (one, two)] == [1, 1]
    await idle(*pool.proxies)


async def test_through_gateways(pool: Pool, alice: Phone) -> None:
    """A call goes out through one gateway and, when that fails, the next, each with the number as it writes it."""
    first = carrier("first", 1, outgoing=Rewriting(plus="remove", prefix="00"))
    second = carrier("second", 2, outgoing=Rewriting(plus="remove", strip=2, prefix="0"))
    pool.routes(
        Route(name="a", prefix="+49", gateway="first"),
        Route(name="b", prefix="+49", gateway="second", priority=2),
        gateways=[first, second],
    )
    async with Phone.at(f"{TARGETS}.1", 5060) as one, Phone.at(f"{TARGETS}.2", 5060) as two:
        one.script = answers.refuse(503)
        call = await alice.call(number(pool, "+49301234"))
        assert call.status == 200
        assert one.incoming[0].invite.uri.startswith("sip:0049301234@")
        assert two.incoming[0].invite.uri.startswith("sip:0301234@")
        assert await call.bye() == 200
    await idle(*pool.proxies)


async def test_codecs_of_each_gateway(pool: Pool, alice: Phone) -> None:
    """Each gateway that is tried is offered its own codecs, and the plain target after it all that there are."""
    pool.routes(
        Route(name="a", gateway="first"),
        Route(name="b", gateway="second", priority=2),
        to(target(3), priority=3),
        gateways=[carrier("first", 1, codecs=("G729",)), carrier("second", 2, codecs=("pcma", "PCMU"))],
    )
    async with (
        Phone.at(f"{TARGETS}.1", 5060) as one,
        Phone.at(f"{TARGETS}.2", 5060) as two,
        Phone.at(f"{TARGETS}.3", 5060) as three,
    ):
        one.script = two.script = answers.refuse(503)
        call = await alice.call(pool.uri, body=FOUR_CODECS.format(ip=f"{CLIENTS}.1"))
        assert call.status == 200
        assert codecs(one.incoming[0].invite.body) == {"G729"}
        assert codecs(two.incoming[0].invite.body) == {"PCMA", "PCMU"}
        assert len(codecs(three.incoming[0].invite.body)) == 5
        assert await call.bye() == 200
    await idle(*pool.proxies)


async def test_video_passes_over_a_gateway_without(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A call with video goes to the next gateway that may carry it; where there is none the caller is told 488."""
    plain = carrier("plain", 2, rights=Rights(video=False))
    pool.routes(Route(name="a", gateway="plain"), to(target(1), priority=2), gateways=[plain])
    with_video = VIDEO.format(ip=f"{CLIENTS}.1", port=4002)
    async with Phone.at(f"{TARGETS}.2", 5060) as voice:
        call = await alice.call(pool.uri, body=with_video)
        assert call.status == 200
        await call.bye()
        pool.routes(Route(name="a", gateway="plain"), gateways=[plain])
        assert (await alice.call(pool.uri, body=with_video)).status == 488
        assert [len(voice.incoming), len(pbx.incoming)] == [0, 1]
        call = await alice.call(pool.uri, body=VIDEO.format(ip=f"{CLIENTS}.1", port=0))
        assert call.status == 200
        await call.bye()
    assert refused(pool, "plain", "video") == 2
    await idle(*pool.proxies)


@pytest.mark.parametrize("mode", ["forward", "redirect"])
async def test_not_back_where_it_came_from(pool: Pool, mode: str) -> None:
    """A gateway's call never goes back to it, by its name or by its address: that would be a loop."""
    own = pool.gateway("pstn-1", mode=mode, targets=(target(1),))
    pool.table(0, 10)
    pool.routes(Route(name="a", gateway="pstn-1"), to(f"sip:{GATEWAY}:5060", priority=2), gateways=[own])
    async with Phone.at(GATEWAY, 5060) as gateway, Phone.at(f"{TARGETS}.1", 5060) as one:
        assert (await gateway.call(pool.uri)).status == 404
        assert [len(gateway.incoming), len(one.incoming)] == [0, 0]
    await idle(*pool.proxies)


async def test_between_a_gateway_and_a_registered_client(pool: Pool, pbx: Phone) -> None:
    """A call in from a gateway to a client that registered, and from that client out through the gateway."""
    own = pool.gateway("pstn-1", targets=(f"sip:{GATEWAY}:5060",))
    pool.routes(to(target(1)), Route(name="out", prefix="+", gateway="pstn-1"), gateways=[own])
    async with Phone.at(GATEWAY, 5060) as gateway, Phone.at(f"{CLIENTS}.8", user="bob") as bob:
        where = (pool.primary.ip, 5060)
        answer = await (
            await bob.request("REGISTER", f"sip:{ALIAS}", to=where, headers=[("Supported", "path")])
        ).final()
        assert answer.message.status == 200
        path = pbx.requests("REGISTER")[0].message.all("Path")

        async def to_bob(incoming: Incoming) -> None:
            """As a PBX does: the call goes on to where bob registered."""
            proxy = path[0].partition("@")[2].partition(":")[0].partition(";")[0]
            leg = await pbx.call(bob.uri, to=(proxy, 5060), headers=[("Route", entry) for entry in path])
            assert leg.status == 200
            await incoming.answer()

        pbx.script = to_bob
        inward = await gateway.call(number(pool, "bob"))
        assert (inward.status, len(bob.incoming)) == (200, 1)
        assert await inward.bye() == 200
        assert await bob.incoming[0].bye() == 200
        outward = await bob.call(number(pool, "+49301234"))
        assert (outward.status, len(gateway.incoming)) == (200, 1)
        assert await outward.bye() == 200
    await idle(*pool.proxies)


async def test_health_checks(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A target that does not answer OPTIONS, or with 503, is passed over before any call tries it; its first answer
    takes it back. A 404 is an answer.
    """
    pool.routes(to(target(2), target(3), target(1)))
    async with Phone.at(f"{TARGETS}.2", 5060) as two:
        two.answers["OPTIONS"] = 503
        pbx.answers["OPTIONS"] = 404
        pool.set(period=1, threshold=2)

        def failing() -> set[str]:
            health = pool.primary.control.dump("health")
            return {uri for uri, failed in health.items() if int(failed) >= 2}

        await until(lambda: failing() == {target(2), target(3)}, "both are known to fail")
        call = await alice.call(pool.uri)
        assert call.status == 200
        assert (len(two.incoming), len(pbx.incoming)) == (0, 1)
        await call.bye()
        del two.answers["OPTIONS"]
        await until(lambda: failing() == {target(3)}, "it is taken back")
        call = await alice.call(pool.uri)
        assert len(two.incoming) == 1
        await call.bye()
        pool.set(period=0)
    assert two.requests("OPTIONS")[0].message.header("From").startswith("<sip:health@edge-")


async def test_all_targets_fail_their_checks(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """When every target fails its checks they are tried all the same: a check can be wrong, an answer cannot."""
    pbx.answers["OPTIONS"] = 503
    pool.set(period=1, threshold=2)
    await until(lambda: pool.primary.control.number("health", target(1)) >= 2, "it is known to fail")
    call = await alice.call(pool.uri)
    assert call.status == 200
    assert await call.bye() == 200
