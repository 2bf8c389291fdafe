"""Beyond the plain UDP call: TCP on either side, an outbound proxy, other methods, a Kamailio that restarts."""

from __future__ import annotations

import pytest

from tests.tools import answers
from tests.tools.addresses import CLIENTS, SERVICE, TARGETS
from tests.tools.message import uri_in
from tests.tools.pool import ALIAS, Pool, contact, idle, to
from tests.tools.sip import Phone
from tests.tools.transport import Protocol


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
async def test_target_over_tcp(pool: Pool, protocol: Protocol) -> None:
    """A target that is reached over TCP talks to a client on UDP or TCP, and either ends the call."""
    pool.table(0, 5)
    pool.routes(to(f"sip:{TARGETS}.3:5060;transport=tcp"))
    async with (
        Phone.at(f"{CLIENTS}.9", protocol=protocol) as carol,
        Phone.at(f"{TARGETS}.3", 5060, protocol="tcp", listening=True, user="trunk") as trunk,
    ):
        trunk.script = answers.ring_then_answer
        first, second = [await carol.call(pool.uri) for _ in range(2)]
        assert (first.status, second.status) == (200, 200)
        assert (await first.request("INVITE", body=first.sdp)).message.status == 200
        assert await first.bye() == 200
        assert (await trunk.incoming[1].request("INVITE", body=trunk.incoming[1].sdp)).message.status == 200
        assert await trunk.incoming[1].bye() == 200
    await idle(*pool.proxies)


@pytest.mark.parametrize("host", [SERVICE, "a-name-of-yours.test"])
@pytest.mark.parametrize("mode", ["forward", "redirect"])
async def test_outbound_proxy(pool: Pool, alice: Phone, pbx: Phone, mode: str, host: str) -> None:
    """A client whose outbound proxy is the pool puts it into a Route header, by whatever name: that goes no further."""
    pool.set(mode=mode)
    pool.table(0, 5)
    route = [("Route", f"<sip:{host};lr>")]
    call = await alice.call(f"sip:echo@{ALIAS}", to=(pool.primary.ip, 5060), headers=route, follow=0)
    assert call.status == (200 if mode == "forward" else 302)
    if mode == "forward":
        assert pbx.incoming[0].invite.all("Route") == []
        assert await call.bye() == 200


@pytest.mark.parametrize("registrar", [0, 1])
async def test_outbound_proxy_in_mode_redirect(pool: Pool, alice: Phone, pbx: Phone, registrar: int) -> None:
    """A client that sends what follows a 302 to its outbound proxy again is served by forwarding."""
    pool.set(mode="redirect", registrar=registrar, expires=120, learned=1)
    pool.table(0, 5)
    where, route = (pool.primary.ip, 5060), [("Route", f"<sip:{pool.primary.ip}:5060;lr>")]
    redirected = await alice.call(f"sip:echo@{ALIAS}", to=where, headers=route, follow=0)
    call = await alice.call(uri_in(redirected.final.header("Contact")), to=where, headers=route, follow=0)
    assert call.status == 200
    assert pbx.incoming[0].packet.source[0] == pool.members[0].ip
    assert await call.bye() == 200
    first = await (await alice.request("REGISTER", f"sip:{ALIAS}", to=where, headers=route)).final()
    again = await alice.request(
        "REGISTER", contact(first), to=where, headers=route, to_uri=f"sip:alice@{ALIAS}", cseq=2
    )
    assert (await again.final()).message.status == 200
    await idle(*pool.proxies)


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
async def test_outbound_proxy_by_address(pool: Pool, pbx: Phone, protocol: Protocol) -> None:
    """So does a client that is given a proxy's own address: it registers and calls, and the Route goes no further."""
    where = (pool.primary.ip, 5060)
    route = [("Route", f"<sip:{pool.primary.ip}:5060;lr>")]
    async with Phone.at(f"{CLIENTS}.8", protocol=protocol) as bob:
        answer = await (await bob.request("REGISTER", f"sip:{ALIAS}", to=where, headers=route)).final()
        assert answer.message.status == 200
        call = await bob.call(f"sip:echo@{ALIAS}", to=where, headers=route)
        assert call.status == 200
        assert [r.message.all("Route") for r in (*pbx.requests("REGISTER"), *pbx.requests("INVITE"))] == [[], []]
        assert await call.bye() == 200
    await idle(*pool.proxies)


@pytest.mark.parametrize("method", ["MESSAGE", "SUBSCRIBE", "PUBLISH"])
async def test_other_requests(pool: Pool, alice: Phone, pbx: Phone, method: str) -> None:
    """Other requests follow the same choice to the route's target, and cost no credit and no place."""
    pool.table(0, 5)
    answer = await (await alice.request(method, pool.uri, headers=[("Event", "presence")])).final()
    assert answer.message.status == 200
    assert pbx.requests(method)[0].source[0] == pool.members[0].ip
    assert pool.count("assigned") == pool.count("admitted") == 0


async def test_kamailio_restarts(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A Kamailio that has crashed and starts anew is another run, closed until its agent has set it up again."""
    pool.table(0, 5, 5)
    member = pool.members[0]
    before = member.id
    assert member.kamailio is not None
    member.kamailio.kill()
    member.start_kamailio()
    assert member.id != before
    assert member.id.split("~")[0] == before.split("~")[0]
    async with Phone.at(f"{CLIENTS}.30", protocol="tcp") as bob:  # over UDP it would get no answer
        assert (await bob.call(f"sip:echo@{member.ip}:5060;transport=tcp")).status == 503
    call = await alice.call(pool.uri)
    assert call.status == 200
    assert pbx.incoming[0].served_by == pool.members[1].ip
    assert await call.bye() == 200


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize("registrar", [0, 1])
@pytest.mark.parametrize("method", ["INVITE", "REGISTER", "MESSAGE"])
async def test_sips(pool: Pool, pbx: Phone, protocol: Protocol, registrar: int, method: str) -> None:
    """Nobody is promised TLS on every hop: the answer says so, whatever the request, and nothing goes on."""
    pool.set(registrar=registrar)
    async with Phone.at(f"{CLIENTS}.9", protocol=protocol) as carol:
        for scheme in ("sips", "SIPS"):
            request = await carol.request(method, f"{scheme}:echo@{ALIAS}", to=(pool.primary.ip, 5060))
            answer = (await request.final()).message
            assert (answer.status, answer.header("Warning")) == (480, f'380 {pool.primary.ip} "SIPS Not Allowed"')
    assert pbx.requests(method) == []
    await idle(*pool.proxies)
