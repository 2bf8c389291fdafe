"""TLS, WebSockets and encrypted WebSockets: calls out and in, in both modes, whatever the other side speaks."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence

import pytest

from tests.fuzz.run import media_sessions
from tests.sip.test_register import hop_of
from tests.sip.test_registrar import contacts
from tests.tools import answers
from tests.tools.addresses import ADVERTISED, CLIENTS, TARGETS
from tests.tools.browser import BrowserMedia
from tests.tools.certificates import HOST, Authority
from tests.tools.listeners import FLOWS, PORTS, SECRET, uri
from tests.tools.pool import ALIAS, Pool, contact, idle
from tests.tools.proxies import Proxy, fleet, rootfs
from tests.tools.rtp import KINDS, Media, streams
from tests.tools.sessions import Incoming
from tests.tools.sip import Phone, Script
from tests.tools.transport import Protocol
from tests.tools.wait import WITHIN_SECONDS, until


@pytest.fixture
def proxies(listening: Sequence[Proxy]) -> Sequence[Proxy]:
    """In place of those with UDP and TCP alone."""
    return listening


def context(protocol: Protocol, trusting: ssl.SSLContext) -> ssl.SSLContext | None:
    return trusting if protocol in ("tls", "wss") else None


@pytest.mark.parametrize("mode", ["forward", "redirect"])
@pytest.mark.parametrize("protocol", FLOWS)
async def test_a_call(pool: Pool, pbx: Phone, trusting: ssl.SSLContext, protocol: Protocol, mode: str) -> None:
    """A client calls a target that speaks UDP; both change the call and end it. In mode redirect it is forwarded."""
    pool.set(mode=mode)
    pool.table(0, 5)
    async with Phone.at(f"{CLIENTS}.9", protocol=protocol, tls=context(protocol, trusting)) as carol:
        first, second = [await carol.call(uri(pool.primary, protocol)) for _ in range(2)]
        assert first.path == second.path == [(pool.primary.ip, 200)]
        assert pbx.incoming[0].served_by == pool.members[0].ip
        assert (await first.request("INVITE", body=first.sdp)).message.status == 200
        assert await first.bye() == 200
        assert (await pbx.incoming[1].request("INVITE", body=pbx.incoming[1].sdp)).message.status == 200
        assert await pbx.incoming[1].bye() == 200
    await idle(*pool.proxies)


def options(pool: Pool, protocol: Protocol) -> bytes:
    """By which a client asks whether the pool is there; without a connection, at the port of its choice."""
    lines = [
        f"OPTIONS sip:{pool.primary.ip} SIP/2.0",
        f"Via: SIP/2.0/{protocol.upper()} {CLIENTS}.9;rport;branch=z9hG4bKalive",
        *("Max-Forwards: 70", "From: <sip:carol@example.test>;tag=1", "To: <sip:carol@example.test>"),
        *("Call-ID: alive", "CSeq: 1 OPTIONS", "Content-Length: 0"),
    ]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


@pytest.mark.parametrize("protocol", ["tcp", "tls"])
async def test_keep_alive(pool: Pool, trusting: ssl.SSLContext, protocol: Protocol) -> None:
    """A double CRLF is answered by a single one (RFC 5626 section 4.4.1), a single one by nothing; requests go on."""
    tls = context(protocol, trusting)
    reader, writer = await asyncio.open_connection(
        pool.primary.ip, PORTS[protocol], ssl=tls, server_hostname=HOST if tls else None, local_addr=(f"{CLIENTS}.9", 0)
    )
    async with asyncio.timeout(WITHIN_SECONDS):
        for _ in range(2):
            writer.write(b"\r\n\r\n")
            assert await reader.readexactly(2) == b"\r\n"
            writer.write(b"\r\n" + options(pool, protocol))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"SIP/2.0 200 ")
    writer.close()
    await writer.wait_closed()


async def test_keep_alive_over_udp(pool: Pool) -> None:
    """An empty packet, or one with a line's end, is answered by nothing; the request after it is."""
    with socket.socket(type=socket.SOCK_DGRAM) as carol:
        carol.setblocking(False)  # noqa: FBT003  # its name
        carol.bind((f"{CLIENTS}.9", 0))
        carol.connect((pool.primary.ip, PORTS["udp"]))
        for packet in (b"", b"\r\n", b"\r\n\r\n", b"\0\0\0\0", options(pool, "udp")):
            carol.send(packet)
        async with asyncio.timeout(WITHIN_SECONDS):
            assert (await asyncio.get_running_loop().sock_recv(carol, 2000)).startswith(b"SIP/2.0 200 ")


@pytest.mark.parametrize("protocol", FLOWS)
async def test_over_ipv6(authority: Authority, trusting: ssl.SSLContext, pbx: Phone, protocol: Protocol) -> None:
    """A proxy of both families is between a client that has IPv6 alone and a target that has IPv4, with media."""
    listen = f"udp:5060 tls:5061/{SECRET} ws:8080 wss:8443/{SECRET}"
    own = f"{ADVERTISED}.1"
    with fleet(1, ADVERTISED, secrets={SECRET: authority.secret()}, LISTEN=listen, POD_IPS=f"{own},::1") as (proxy,):
        pool = Pool([proxy])
        await pool.reset()
        proxy.networks(["::1/128"])
        async with (
            Phone.at("::1", protocol=protocol, tls=context(protocol, trusting)) as carol,
            Media.at("::1") as mine,
            Media.at(f"{TARGETS}.1") as theirs,
        ):
            pbx.script = answering_with(theirs)
            call = await carol.call(f"sip:echo@{ALIAS}", to=("::1", PORTS[protocol]), body=mine.sdp)
            assert call.path == [("::1", 200)]
            incoming = pbx.incoming[0]
            assert {ip for ip, _ in streams(call.remote_sdp).values()} == {"::1"}
            assert {ip for ip, _ in streams(incoming.remote_sdp).values()} == {own}
            await talk(mine, call.remote_sdp, theirs, incoming.remote_sdp)
            assert (await incoming.request("INVITE", body=theirs.sdp)).message.status == 200
            assert {ip for ip, _ in streams(call.remote_sdp).values()} == {"::1"}
            assert await incoming.bye() == 200
        await idle(proxy)


async def test_called_over_ipv6(authority: Authority, trusting: ssl.SSLContext, pbx: Phone) -> None:
    """A registered client that has IPv6 alone is offered media there by a caller that has IPv4."""
    listen, own = f"udp:5060 tls:5061/{SECRET}", f"{ADVERTISED}.1"
    with fleet(1, ADVERTISED, secrets={SECRET: authority.secret()}, LISTEN=listen, POD_IPS=f"{own},::1") as (proxy,):
        pool = Pool([proxy])
        await pool.reset()
        proxy.networks(["::1/128"])
        async with (
            Phone.at("::1", protocol="tls", tls=trusting) as bob,
            Media.at("::1") as theirs,
            Media.at(f"{TARGETS}.1") as mine,
        ):
            bob.script = answering_with(theirs)
            headers = [("Supported", "path")]
            register = await bob.request("REGISTER", f"sip:{ALIAS}", to=("::1", PORTS["tls"]), headers=headers)
            assert (await register.final()).message.status == 200
            path = pbx.requests("REGISTER")[0].message.all("Path")
            route = [("Route", entry) for entry in path]
            call = await pbx.call(bob.uri, to=hop_of(path[0]), headers=route, body=mine.sdp)
            assert call.status == 200
            assert {ip for ip, _ in streams(bob.incoming[0].remote_sdp).values()} == {"::1"}
            assert {ip for ip, _ in streams(call.remote_sdp).values()} == {own}
            await talk(mine, call.remote_sdp, theirs, bob.incoming[0].remote_sdp)
            assert await bob.incoming[0].bye() == 200
        await idle(proxy)


async def test_by_name_a_tls_phone_is_redirected(authority: Authority, trusting: ssl.SSLContext) -> None:
    """Where proxies advertise names, a certificate can be for them: the 302 leads to the TLS port of one."""
    secrets, listen = {SECRET: authority.secret()}, f"udp:5060 tls:5061/{SECRET} wss:8443/{SECRET}"
    with fleet(1, ADVERTISED, secrets=secrets, LISTEN=listen, ADVERTISE="edge-00001.sip.example.test") as (proxy,):
        pool = Pool([proxy])
        await pool.reset()
        pool.set(mode="redirect")
        async with Phone.at(f"{CLIENTS}.9", protocol="tls", tls=trusting) as carol:
            call = await carol.call(uri(proxy, "tls"), follow=0)
        assert call.status == 302
        target = contact(call.transaction.responses[-1])
        assert target.startswith("sip:echo@edge-00001.sip.example.test:5061;transport=tls;")
        async with Phone.at(f"{CLIENTS}.9", protocol="wss", tls=trusting) as page:
            assert (await page.call(uri(proxy, "wss"), follow=0)).status != 302


@pytest.mark.parametrize("serving", ["the primary", "another proxy"])
@pytest.mark.parametrize("protocol", FLOWS)
async def test_called_over_its_flow(
    pool: Pool, pbx: Phone, trusting: ssl.SSLContext, protocol: Protocol, serving: str
) -> None:
    """A registered client is called over the connection that it made, which no other proxy has."""
    pool.table(*((5, 0) if serving == "the primary" else (0, 5)))
    async with Phone.at(f"{CLIENTS}.8", protocol=protocol, tls=context(protocol, trusting)) as bob:
        where = (pool.primary.ip, PORTS[protocol])
        register = await bob.request("REGISTER", f"sip:{ALIAS}", to=where, headers=[("Supported", "path")])
        assert (await register.final()).message.status == 200
        path = pbx.requests("REGISTER")[0].message.all("Path")
        call = await pbx.call(bob.uri, to=hop_of(path[0]), headers=[("Route", entry) for entry in path])
        assert call.status == 200
        assert (await call.request("INVITE", body=call.sdp)).message.status == 200
        assert await bob.incoming[0].bye() == 200
        again = await pbx.call(bob.uri, to=hop_of(path[0]), headers=[("Route", entry) for entry in path])
        assert await again.bye() == 200
    await idle(*pool.proxies)


async def test_a_browser_calls(pool: Pool, pbx: Phone, trusting: ssl.SSLContext, listening: Sequence[Proxy]) -> None:
    """Its voice and video are encrypted (DTLS-SRTP) and go by ICE; the target sends and gets plain RTP."""
    run = listening[0].run.parent / "browser"
    async with (
        Phone.at(f"{CLIENTS}.9", protocol="wss", tls=trusting) as page,
        BrowserMedia.at(f"{CLIENTS}.9", run, rootfs()) as browser,
        Media.at(f"{CLIENTS}.9") as mine,
        Media.at(f"{TARGETS}.1") as theirs,
    ):
        pbx.script = answering_with(theirs)
        call = await page.call(uri(pool.primary, "wss"), body=await browser.offer(mine.sdp))
        assert call.status == 200
        assert_plain(pbx.incoming[0].remote_sdp)
        assert_encrypted(call.remote_sdp)
        await talk(mine, await browser.take_answer(call.remote_sdp), theirs, pbx.incoming[0].remote_sdp)
        held = await call.request("INVITE", body=call.sdp.replace("sendrecv", "sendonly"))
        assert_encrypted(held.message.body)
        assert_plain(pbx.incoming[0].remote_sdp)
        assert (await pbx.incoming[0].request("INVITE", body=theirs.sdp)).message.status == 200
        assert_encrypted(call.remote_sdp)
        assert await call.bye() == 200
    await idle(*pool.proxies)


@pytest.mark.parametrize("registrar", ["the PBX", "the pool"])
@pytest.mark.parametrize("serving", ["the primary", "another proxy"])
async def test_a_browser_is_called(
    pool: Pool, pbx: Phone, alice: Phone, trusting: ssl.SSLContext, *, serving: str, registrar: str
) -> None:
    """It is offered DTLS-SRTP and ICE, also by a proxy that does not hold its connection; who calls gets plain RTP."""
    pool.table(5, 5)
    run = pool.primary.run.parent / "browser"
    async with (
        Phone.at(f"{CLIENTS}.9", protocol="wss", tls=trusting) as page,
        BrowserMedia.at(f"{CLIENTS}.9", run, rootfs()) as browser,
        Media.at(f"{CLIENTS}.9") as theirs,
        Media.at(f"{TARGETS}.1") as mine,
    ):
        where = (pool.primary.ip, PORTS["wss"])
        if serving == "another proxy":
            pool.table(0, 5)
        if registrar == "the pool":
            pool.set(registrar=1, learned=1)
        user, supported = f"sip:page@{ALIAS}", [("Supported", "path")]
        register = await page.request("REGISTER", f"sip:{ALIAS}", to=where, to_uri=user, headers=supported)
        assert (await register.final()).message.status == 200
        plain: list[str] = []

        async def script(call: Incoming) -> None:
            plain.append(await browser.take_offer(call.remote_sdp))
            call.sdp = await browser.answer(theirs.sdp)
            await call.answer()

        page.script = script
        if registrar == "the pool":
            for proxy in pool.proxies:
                await until(lambda proxy=proxy: contacts(proxy, "page@pool.invalid") != [], proxy.name)
            call = await alice.call(user, to=(pool.primary.ip, 5060), body=mine.sdp)
        else:
            path = pbx.requests("REGISTER")[0].message.all("Path")
            route = [("Route", entry) for entry in path]
            call = await pbx.call(page.uri, to=hop_of(path[0]), headers=route, body=mine.sdp)
        assert call.status == 200
        assert_encrypted(page.incoming[0].invite.body)
        assert_plain(call.remote_sdp)
        await talk(mine, call.remote_sdp, theirs, plain[0])
        assert await call.bye() == 200
    await idle(*pool.proxies)


@pytest.mark.parametrize("winner", ["the browser", "the phone"])
@pytest.mark.parametrize("first", ["the browser", "the phone"])
async def test_a_browser_and_a_phone_of_one_user(
    pool: Pool, alice: Phone, trusting: ssl.SSLContext, *, first: str, winner: str
) -> None:
    """Both ring, each with an offer that it can take, whichever registered first; whoever answers has media,
    offers again within the call, and either side ends it.
    """
    pool.table(5)
    pool.set(registrar=1, learned=1)
    user = f"sip:page@{ALIAS}"
    async with (
        Phone.at(f"{CLIENTS}.9", protocol="wss", tls=trusting, user="page") as page,
        Phone.at(f"{CLIENTS}.8", user="page") as desk,
        BrowserMedia.at(f"{CLIENTS}.9", pool.primary.run.parent / "browser", rootfs()) as browser,
        Media.at(f"{CLIENTS}.8") as theirs,
        Media.at(f"{TARGETS}.1") as mine,
    ):
        for phone in (page, desk) if first == "the browser" else (desk, page):
            where = (pool.primary.ip, PORTS[phone.endpoint.protocol])
            register = await phone.request("REGISTER", f"sip:{ALIAS}", to=where, to_uri=user)
            assert (await register.final()).message.status == 200
        picked_up = asyncio.Event()
        plain: list[str] = []

        async def in_browser(call: Incoming) -> None:
            await call.reply(180)
            await picked_up.wait()
            plain.append(await browser.take_offer(call.remote_sdp))
            call.sdp = await browser.answer(theirs.sdp)
            await call.answer()

        async def at_desk(call: Incoming) -> None:
            await call.reply(180)
            await picked_up.wait()
            plain.append(call.remote_sdp)
            call.sdp = theirs.sdp
            await call.answer()

        page.script, desk.script = answers.ring, answers.early_media(asyncio.Event())
        answering, ringing = (page, desk) if winner == "the browser" else (desk, page)
        answering.script = in_browser if winner == "the browser" else at_desk
        call = await alice.dial(user, to=(pool.primary.ip, 5060), body=mine.sdp)
        await until(lambda: sum(packet.message.status in {180, 183} for packet in alice.log) == 2, "both to ring")
        picked_up.set()
        assert await call.result() == 200
        await ringing.expect("CANCEL")
        assert_encrypted(page.incoming[0].invite.body)
        assert_plain(desk.incoming[0].invite.body)
        assert_plain(call.remote_sdp)
        await talk(mine, call.remote_sdp, theirs, plain[0])
        incoming = answering.incoming[0]
        assert (await call.request("INVITE", body=mine.sdp)).message.status == 200
        (assert_encrypted if winner == "the browser" else assert_plain)(incoming.remote_sdp)
        assert (await incoming.request("INVITE", body=incoming.sdp)).message.status == 200
        assert_plain(call.remote_sdp)
        assert await (call if first == "the browser" else incoming).bye() == 200
    await idle(*pool.proxies)
    await until(lambda: media_sessions(pool.primary) == 0, "no media session is left")


def answering_with(media: Media) -> Script:
    async def script(call: Incoming) -> None:
        call.sdp = media.sdp
        await answers.ring_then_answer(call)

    return script


def assert_plain(sdp: str) -> None:
    assert sdp.count(" RTP/AVP ") == len(streams(sdp)) == len(KINDS)
    for word in ("a=crypto", "a=fingerprint", "a=candidate", "a=ice-", "a=rtcp-mux"):
        assert word not in sdp


def assert_encrypted(sdp: str) -> None:
    assert sdp.count(" UDP/TLS/RTP/SAVPF ") == len(streams(sdp)) == len(KINDS)
    for word in ("a=fingerprint:sha-256", "a=candidate:", "a=ice-ufrag:", "a=setup:", "a=rtcp-mux"):
        assert word in sdp
    assert "a=crypto" not in sdp


async def talk(mine: Media, mine_to: str, theirs: Media, theirs_to: str) -> None:
    """Both send until something of each kind has arrived at both: what comes before the keys are agreed is lost."""

    async def heard() -> bool:
        await asyncio.gather(mine.send(mine_to, 5), theirs.send(theirs_to, 5))
        return all(received for _, received in (*mine.counts().values(), *theirs.counts().values()))

    await until(heard, "voice and video at both ends")
