"""Who is believed: clients and gateways get in, strangers do not; only what a proxy of the pool has signed counts."""

from __future__ import annotations

import pytest

from tests.tools import answers
from tests.tools.addresses import CLIENTS, PEER, PSTN, STRANGERS, TARGETS, VOIP
from tests.tools.message import Headers
from tests.tools.pool import TICK, Pool, contact, idle, token
from tests.tools.sip import Phone
from tests.tools.transport import SipTimeoutError

STRANGER = f"{STRANGERS}.1"
GATEWAY = f"{PSTN}.1"


def without(headers: Headers, name: str) -> Headers:
    return tuple(pair for pair in headers if pair[0].lower() != name.lower())


async def test_stranger_over_udp(pool: Pool, pbx: Phone) -> None:
    """Over UDP a stranger gets no answer at all: there is nothing for a scanner to find."""
    async with Phone.at(STRANGER) as mallory:
        for method in ("INVITE", "REGISTER", "OPTIONS", "MESSAGE"):
            request = await mallory.request(method, pool.uri, resend=False)
            with pytest.raises(SipTimeoutError):
                await request.final(within=0.3)
        assert mallory.log == []
    assert pbx.incoming == []
    assert pool.primary.count("denied") >= 3


async def test_stranger_over_tcp(pool: Pool, pbx: Phone) -> None:
    """Over TCP a stranger is told 403, so that a wrongly configured client finds out."""
    async with Phone.at(STRANGER, protocol="tcp") as mallory:
        call = await mallory.call(pool.uri)
    assert call.status == 403
    assert pbx.incoming == []


async def test_gateway_gets_in(pool: Pool, pbx: Phone) -> None:
    """A configured gateway may call; the request carries its name on to the serving proxy."""
    async with Phone.at(GATEWAY) as gateway, Phone.at(PEER, 5060, user="peer") as peer:
        pool.primary.table([pool.peer(PEER, room=5)])
        call = await gateway.call(pool.uri)
        assert call.status == 200
        assert "pstn-1" in peer.incoming[0].invite.header("X-VP-Client")
        assert await call.bye() == 200


@pytest.mark.parametrize(
    ("gateway_mode", "pool_mode", "status"), [("redirect", "forward", 302), ("forward", "redirect", 200)]
)
async def test_gateway_mode(pool: Pool, pbx: Phone, gateway_mode: str, pool_mode: str, status: int) -> None:
    """A gateway's own mode overrides the pool's, for it alone."""
    pool.set(mode=pool_mode)
    pool.table(0, 5)
    pool.gateway("pstn-1", mode=gateway_mode)
    async with Phone.at(GATEWAY) as gateway, Phone.at(f"{VOIP}.1") as other:
        call = await gateway.call(pool.uri, follow=0)
        assert call.status == status
        assert (await other.call(pool.uri, follow=0)).status == (302 if pool_mode == "redirect" else 200)


async def test_spoofed_headers(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """X-VP headers and identities that a client makes up reach neither another proxy nor the target."""
    made_up = [
        ("X-VP-Client", "ip=6.6.6.6;port=5060;proto=udp;gw=evil"),
        ("X-VP-Visited", ":".join(proxy.id for proxy in pool.members)),
        ("X-VP-Token", f"{pool.members[0].id}.{TICK}.1.{'0' * 32}"),
        ("P-Asserted-Identity", "<sip:root@evil.test>"),
        ("P-Preferred-Identity", "<sip:root@evil.test>"),
    ]
    pool.table(0, 5)
    call = await alice.call(pool.uri, headers=made_up)
    assert call.status == 200
    invite = pbx.incoming[0].packet.raw.decode()
    assert "6.6.6.6" not in invite
    assert "evil" not in invite
    assert "X-VP-" not in invite
    assert pbx.incoming[0].served_by == pool.members[0].ip
    assert await call.bye() == 200


async def test_spoofed_headers_between_proxies(pool: Pool, alice: Phone) -> None:
    """What goes on to another proxy is our own word about the client, not the client's."""
    async with Phone.at(PEER, 5060, user="peer") as peer:
        pool.primary.table([pool.peer(PEER, room=5)])
        call = await alice.call(pool.uri, headers=[("X-VP-Client", "ip=6.6.6.6"), ("X-VP-Visited", "evil~1")])
        assert call.status == 200
        invite = peer.incoming[0].packet.raw.decode()
        assert "6.6.6.6" not in invite
        assert "evil" not in invite
        await call.bye()


async def test_asserted_identity(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """An identity is asserted only when a configured gateway gives it; From, which anybody can write, makes none."""
    pool.table(0, 5)
    identity = [("P-Asserted-Identity", "<sip:+4930999@pstn.test>")]
    async with Phone.at(GATEWAY) as gateway:
        await (await gateway.call(pool.uri, headers=identity)).bye()
    await (await alice.call(pool.uri)).bye()
    given, made = (incoming.invite.header("P-Asserted-Identity") for incoming in pbx.incoming)
    assert given == "<sip:+4930999@pstn.test>"
    assert made == ""


async def test_forged_token(pool: Pool, alice: Phone) -> None:
    """A token with a wrong MAC, from a peer's address even, is not counted as an arrival and not believed."""
    async with Phone.at(PEER, 5060, user="peer") as peer:
        pool.primary.table([pool.peer(PEER, room=5)])
        peer.script = answers.silence
        call = await alice.dial(pool.uri)
        seen = (await peer.expect_call()).packet
        true = token(seen)
        forged = f"{true.rpartition('.')[0]}.{'f' * 32}"
        headers = [*without(seen.message.having("X-VP-"), "X-VP-Token"), ("X-VP-Token", forged)]
        # at an address outside of all networks, a peer's word is all it has
        member = pool.members[0]
        request = await peer.request("INVITE", f"sip:echo@{member.ip}:5060", headers=headers, resend=False)
        with pytest.raises(SipTimeoutError):
            await request.response(180, 200, within=0.5)
        assert member.control.dump("rcv") == {}
        assert member.count("forged") == 1
        await call.cancel()


async def test_forged_redirect(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A client that tampers with the parameters of a 302 gains nothing: its call is a fresh one."""
    pool.set(mode="redirect", primary="")  # so that what is not believed stays where it arrived
    pool.table(0, 5, 5)
    call = await alice.call(pool.uri, follow=0)
    target = contact(call.transaction.responses[-1])
    mac = max((value for value in target.replace(".", ";").split(";")), key=len)  # the longest part: 32 hex digits
    assert len(mac.rpartition("=")[2]) == 32, target
    forged = target.replace(mac, mac[:-4] + ("0000" if not mac.endswith("0000") else "1111"))
    again = await alice.call(forged)
    assert again.status == 200
    assert pool.members[0].count("forged") == 1
    assert pool.members[0].control.dump("rcv") == {}
    await again.bye()
    await idle(*pool.proxies)


async def test_replayed_redirect(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A 302 that a client uses for many calls counts as one arrival: it makes no room in anybody's table."""
    pool.set(mode="redirect", primary="")  # so that what is not believed stays where it arrived
    pool.table(0, 5)
    member = pool.members[0]
    call = await alice.call(pool.uri, follow=0)
    target = contact(call.transaction.responses[-1])
    for _ in range(3):
        again = await alice.call(target)
        assert again.status == 200
        assert await again.bye() == 200
    arrivals = member.control.dump("rcv")
    assert arrivals == {f"{pool.primary.id}:{TICK}": "1"}


async def test_token_for_another_run(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """What was assigned to a proxy before it restarted is not counted as received after."""
    pool.set(mode="redirect")
    row = pool.members[0].row(5, closed=TICK - 3)
    before = type(row)(f"{pool.members[0].name}~00000000", row.uri, row.advertise, 5, closed=TICK - 3)
    pool.primary.table([before])
    call = await alice.call(pool.uri)
    assert call.path[0] == (pool.primary.ip, 302)
    assert call.status == 200
    assert pool.members[0].control.dump("rcv") == {}
    await call.bye()


async def test_identity_cannot_be_taken(pool: Pool, pbx: Phone) -> None:
    """Another client that got hold of a 302 meant for somebody else gains no arrival by it."""
    pool.set(mode="redirect", primary="")  # so that what is not believed stays where it arrived
    pool.table(0, 5)
    async with Phone.at(f"{CLIENTS}.5") as owner, Phone.at(f"{CLIENTS}.6") as thief:
        call = await owner.call(pool.uri, follow=0)
        target = contact(call.transaction.responses[-1])
        stolen = await thief.call(target)
        assert stolen.status == 200
        assert pool.members[0].control.dump("rcv") == {}
        await stolen.bye()


async def test_in_dialog_from_target(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Targets are no clients: a fresh call from a target's address is a stranger's."""
    async with Phone.at(f"{TARGETS}.9") as target:
        request = await target.request("INVITE", pool.uri, resend=False)
        with pytest.raises(SipTimeoutError):
            await request.final(within=0.3)


async def test_no_open_relay(pool: Pool, pbx: Phone) -> None:
    """A request that pretends to belong to a dialog, with a Route through us, is not relayed: our MAC is missing."""
    async with Phone.at(STRANGER) as mallory:
        for route in (f"<sip:{pool.primary.ip};lr>", f"<sip:{pool.primary.ip};lr;vp={'0' * 16}>"):
            request = await mallory.request(
                "MESSAGE",
                f"sip:victim@{TARGETS}.1:5060",
                to=(pool.primary.ip, 5060),
                to_tag="made-up",
                headers=[("Route", route)],
                resend=False,
            )
            with pytest.raises(SipTimeoutError):
                await request.response(200, 299, within=0.3)
    assert pbx.log == []


NOISE = {
    "zeros": b"\0" * 64,
    "a word": b"INVITE",
    "no headers": b"INVITE sip:a@b SIP/2.0\r\n\r\n",
    "a stray answer": b"SIP/2.0 200 OK\r\n\r\n",
    "too much": b"x" * 60000,
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
async def test_noise(pool: Pool, alice: Phone, pbx: Phone, noise: bytes) -> None:
    """What is no SIP harms nobody: the next call is served."""
    for _ in range(20):
        await alice.endpoint.send_raw(noise, (pool.primary.ip, 5060))
    call = await alice.call(pool.uri)
    assert call.status == 200
    assert await call.bye() == 200
