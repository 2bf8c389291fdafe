"""What is malformed, unasked for or forged: strangers get nothing, and clients can take nothing from others by it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.fuzz.run import media_sessions
from tests.tools.addresses import CLIENTS, PSTN, STRANGERS
from tests.tools.message import Message
from tests.tools.pool import Pool, idle
from tests.tools.sessions import Incoming
from tests.tools.sip import Phone
from tests.tools.transport import Endpoint
from tests.tools.wait import until

STRANGER = f"{STRANGERS}.1"


def packet(proxy: str, ip: str, start: str, *lines: str, to_tag: str = "") -> bytes:
    """As short as SIP allows, so that an answer would be longer."""
    usual = [
        f"Via: SIP/2.0/UDP {ip};branch=z9hG4bKs",
        "From: <sip:a@b>;tag=1",
        f"To: <sip:{proxy}>{to_tag}",
        "Call-ID: s",
        f"CSeq: 1 {start.split(maxsplit=1)[0]}",
    ]
    return "\r\n".join([f"{start} SIP/2.0", *usual, *lines, "", ""]).encode()


def unasked(proxy: str) -> dict[str, bytes]:
    """Every kind of message that a stranger may send."""
    uri = f"sip:{proxy}"
    methods = ("INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "INFO", "SUBSCRIBE", "REFER", "X")
    kinds = {method: packet(proxy, STRANGER, f"{method} {uri}") for method in methods}
    kinds |= {f"{method} within": packet(proxy, STRANGER, f"{method} {uri}", to_tag=";tag=2") for method in methods}
    token = "X-VP-Token: edge-00002~00000000.10.c1x1.0123456789abcdef0123456789abcdef"
    more = {
        "at its last hop": ("Max-Forwards: 0",),
        "with a route": (f"Route: <sip:{proxy};lr>",),
        "with a forged route": (f"Route: <sip:0123456789abcdef@{proxy};lr;vp=0123456789abcdef>",),
        "with a forged token": (token,),
        "that has been everywhere": (token, "X-VP-Visited: edge-00001~00000000:edge-00002~00000000"),
        "with an answer to a question": ("X-VP-Known: z9hG4bKs yes 0123456789abcdef0123456789abcdef",),
        "without sense": ("Contact: ;;,,", "Content-Length: x"),
        "with a wish": ("Proxy-Require: x",),
        "with a wrong length": ("Content-Length: 9",),
    }
    kinds |= {f"OPTIONS {what}": packet(proxy, STRANGER, f"OPTIONS {uri}", *lines) for what, lines in more.items()}
    kinds |= {f"INVITE {what}": packet(proxy, STRANGER, f"INVITE {uri}", *lines) for what, lines in more.items()}
    kinds |= {"unknown scheme": packet(proxy, STRANGER, "OPTIONS a:b"), "no SIP": b"GET / HTTP/1.1\r\n\r\n"}
    return kinds


async def test_no_amplification(pool: Pool, alice: Phone) -> None:
    """Whatever a stranger sends over UDP, at a primary or a member, not one byte comes back: nobody else's address,
    written into such a packet, is sent more than was asked for.
    """
    stranger = await Endpoint.open(STRANGER, 5060)
    for proxy in pool.proxies[:2]:
        for data in unasked(proxy.ip).values():
            await stranger.send_raw(data, (proxy.ip, 5060))
        for _ in range(8):  # more than there are workers
            await (await alice.request("OPTIONS", f"sip:{proxy.ip}:5060")).final()
        assert proxy.count("denied") > 0
    await stranger.close()
    assert stranger.log == []


async def test_no_reflection(pool: Pool, alice: Phone) -> None:
    """An answer that a stranger makes up goes nowhere, whomever its second Via names."""
    stranger = await Endpoint.open(STRANGER, 5060)
    ip, port = alice.endpoint.address
    vias = [f"Via: SIP/2.0/UDP {pool.primary.ip};branch=z9hG4bKx", f"Via: SIP/2.0/UDP {ip}:{port};branch=z9hG4bKy"]
    lines = ["SIP/2.0 200 OK", *vias, "From: <sip:a@b>;tag=1", "To: <sip:c@d>;tag=2", "Call-ID: r", "CSeq: 1 INVITE"]
    await stranger.send_raw("\r\n".join([*lines, "Content-Length: 0", "", ""]).encode(), (pool.primary.ip, 5060))
    for _ in range(8):
        await (await alice.request("OPTIONS", f"sip:{pool.primary.ip}:5060")).final()
    await stranger.close()
    assert all(answer.message.call_id != "r" for answer in alice.log)
    assert pool.primary.count("denied") == 1


async def test_identity_behind_a_broken_header(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A header that cannot be read does not carry a forged identity past the proxy: such a request is refused."""
    await alice.request(
        "MESSAGE",
        pool.uri,
        headers=[("P-Asserted-Identity", "<sip:root@evil.test>"), ("To", ";tag=broken")],
        resend=False,
    )
    await until(lambda: pool.primary.count("malformed") == 1, "it is refused")
    assert pbx.log == []


async def test_unreadable_offer(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """An offer that rtpengine cannot read costs its own call alone: no proxy stops taking calls for it, and no media
    session stays behind.
    """
    pool.table(5, 5, 5)
    for body in ("v=0\r\nm=audio x y z\r\n", alice_offer(alice).replace("s=-\r\n", "a=sendrecv\r\ns=-\r\n")):
        assert (await alice.call(pool.uri, body=body)).status == 503
    assert [proxy.control.dump("brk") for proxy in pool.proxies] == [{}, {}, {}]
    assert [media_sessions(proxy) for proxy in pool.proxies] == [0, 0, 0]
    call = await alice.call(pool.uri)
    assert call.status == 200
    assert await call.bye() == 200
    await idle(*pool.proxies)


def alice_offer(phone: Phone) -> str:
    ip = phone.endpoint.address[0]
    return f"v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


async def test_unreadable_answer(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A target's answer that cannot be read counts as none: the call ends in time, and its place is given back."""
    pool.table(0, 5)

    async def script(call: Incoming) -> None:
        lines = [
            f"{name}: {value}" for name, value in call.invite.headers if name in ("Via", "From", "Call-ID", "CSeq")
        ]
        broken = ["SIP/2.0 486 Busy Here", *lines, f"To: {call.invite.header('To')}", "To: ;tag=broken"]
        text = "\r\n".join([*broken, "Content-Length: 0", "", ""])
        await pbx.endpoint.send_raw(text.encode(), call.packet.source)

    pbx.script = script
    assert (await alice.call(pool.uri)).status == 408
    assert pool.members[0].count("malformed") >= 1
    await idle(*pool.proxies)


async def test_large_request(pool: Pool, pbx: Phone) -> None:
    """A request too large to be passed on from proxy to proxy is refused; no proxy is taken for dead because of it."""
    pool.table(0, 5, 5)
    async with Phone.at(f"{CLIENTS}.7") as bob:
        request = await bob.request("MESSAGE", pool.uri, body="x" * 31_000, resend=False)
        assert (await request.final()).message.status == 400
        fitting = await bob.request("MESSAGE", pool.uri, body="x" * 28_000, resend=False)
        assert (await fitting.final()).message.status == 200
    assert pool.primary.control.dump("sus") == {}
    assert Message.parse(pbx.log[-1].raw).body == "x" * 28_000


async def test_flood(pool: Pool, pbx: Phone) -> None:
    """From one address a proxy looks at so many requests in a second: the others get no answer and leave nothing
    behind, and nobody else notices; neither does a gateway, which has limits of its own.
    """
    pool.set(rate=20)
    async with Phone.at(f"{CLIENTS}.8") as noisy, Phone.at(f"{CLIENTS}.9") as quiet, Phone.at(f"{PSTN}.1") as gateway:
        noise = [await noisy.request("OPTIONS", f"sip:{pool.primary.ip}:5060", resend=False) for _ in range(200)]
        steady = [await gateway.request("OPTIONS", f"sip:{pool.primary.ip}:5060", resend=False) for _ in range(100)]
        call = await quiet.call(pool.uri)
        assert call.status == 200
        assert {(await request.final()).message.status for request in steady} == {200}
        answered = sum(bool(request.responses) for request in noise)
        assert 20 <= answered <= 2 * 20, "a burst lies in two seconds at most"
        assert pool.primary.count("rate") == 200 - answered
        pool.set(rate=0)
        assert (await noisy.call(pool.uri)).status == 200
        assert await call.bye() == 200


async def test_scanner(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """A scanner, known by its User-Agent, gets no answer, even in a client's network; a change of the list is in effect
    at once; everybody else, and whoever names no program, is served.
    """
    pool.set(agents="friendly-scanner|sipvicious")
    uri = f"sip:{pool.primary.ip}:5060"
    for agent, found in (("Friendly-Scanner 1.0", True), ("x SIPVicious", True), ("Phone/1.0", False), ("", False)):
        headers = [("User-Agent", agent)] if agent else []
        request = await alice.request("OPTIONS", uri, headers=headers, resend=False)
        assert (await (await alice.request("OPTIONS", uri)).final()).message.status == 200
        await until(lambda found=found, request=request: found or request.responses, "an answer")
        assert bool(request.responses) != found, agent
    await until(lambda: pool.primary.count("user_agent") == 2, "both are counted")
    pool.set(agents="phone/")
    await alice.request("OPTIONS", uri, headers=[("User-Agent", "Phone/1.0")], resend=False)
    await until(lambda: pool.primary.count("user_agent") == 3, "the new list is in effect")
    pool.set(agents="")
    answer = await (await alice.request("OPTIONS", uri, headers=[("User-Agent", "sipvicious")])).final()
    assert answer.message.status == 200


@pytest.mark.timeout(240)  # browsers' connections that broke are noticed by their pings
@pytest.mark.parametrize(("messages", "more"), [(20_000, ()), (10_000, ("--users",)), (10_000, ("--hiding",))])
def test_mutated_messages(messages: int, more: tuple[str, ...]) -> None:
    """Thousands of damaged messages, from clients, gateways, targets, proxies and strangers: no process of the proxy
    dies or hangs, memory is as before, no place, dialog, transaction, connection or media session is left; strangers
    get no byte. The same with passwords, a registrar, TLS and WebSockets; and with gateways that are shown nothing.
    """
    command = [sys.executable, "-m", "tests.fuzz", "--messages", str(messages), "--answer-every", "0", *more]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    assert json.loads(run.stdout)["messages"] == messages
