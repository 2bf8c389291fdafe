"""The messages that are mutated: what clients, gateways, targets, other proxies and strangers really send, our own
tokens and signatures included, so that a mutation gets as deep into the configuration as its sender may.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.tools.proxies import KEY

Sender = Literal["client", "gateway", "peer", "target", "stranger"]
PORT = 5060
TICK = 10

OFFER = (
    "v=0\r\no=- 4711 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n"
    "m=audio 16000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
    "m=video 16002 RTP/AVP 96\r\nb=AS:512\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 profile-level-id=42e01f\r\n"
)
ENCRYPTED = (
    "v=0\r\no=- 4712 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n"
    "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef01234567\r\n"
    "a=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\r\na=setup:actpass\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtcp-mux\r\na=mid:0\r\na=rtpmap:111 opus/48000/2\r\n"
    "a=candidate:1 1 udp 2122260223 {ip} 9 typ host\r\n"
    "m=image 4000 udptl t38\r\na=T38FaxVersion:0\r\na=T38FaxUdpEC:t38UDPRedundancy\r\n"
)


@dataclass(frozen=True)
class Site:
    """Who is where: addresses, and the proxy that is tested, by its address and id."""

    proxy: str
    proxy_id: str
    client: str
    gateway: str
    peer: str
    peer_id: str
    target: str
    stranger: str

    def address(self, sender: Sender) -> str:
        return str(getattr(self, sender))


def mac(text: str) -> str:
    return hashlib.sha256((KEY + text).encode()).hexdigest()[:32]


def _route(site: Site, call_id: str) -> str:
    """Our own entry in a route set."""
    return f"<sip:{site.proxy};lr=on;vp={mac(f'route|{call_id}')[:16]}>"


def _sealed(call_id: str, text: str) -> str:
    """As what is hidden from a gateway is given to it (proxy/kamailio/hiding.lua)."""
    salt = mac(f"hidden|{call_id}|{text}")[:16]
    stream = b"".join(bytes.fromhex(mac(f"hidden stream|{salt}|{at}")) for at in range(1, len(text) + 1, 16))
    shifted = bytes((byte + key) % 256 for byte, key in zip(text.encode(), stream, strict=False))
    return base64.urlsafe_b64encode(bytes.fromhex(salt) + shifted).decode().rstrip("=")


def message(
    site: Site,
    sender: Sender,
    method: str,
    n: int,
    *more: str,
    uri: str = "",
    body: str = "",
    whose: str = "sip:alice@example.test",
    to: str = "",
    contact: str = "",
) -> str:
    """A request, with a Via, a Call-ID and tags of its own."""
    ip = site.address(sender)
    to_tag = ";tag=called" if "IN-DIALOG" in more else ""
    lines = [
        f"{method} {uri or f'sip:echo@{site.proxy}:{PORT}'} SIP/2.0",
        f"Via: SIP/2.0/UDP {ip}:{PORT};rport;branch=z9hG4bK{n:x}.{method.lower()}",
        "Max-Forwards: 70",
        f'From: "Alice" <{whose}>;tag=a{n}',
        f"To: <{to or f'sip:echo@{site.proxy}'}>{to_tag}",
        f"Call-ID: {n}@{ip}",
        f"CSeq: 1 {method}",
        f"Contact: {contact or f'<sip:alice@{ip}:{PORT}>'}",
        "User-Agent: Phone/1.0",
        "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK, REFER, NOTIFY",
        "Supported: replaces, timer, path, 100rel",
        *(line for line in more if line != "IN-DIALOG"),
    ]
    if body:
        lines.append("Content-Type: application/sdp")
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body])


def assigned(site: Site, n: int, sender: Sender, kind: str) -> list[str]:
    """Headers of a request that another proxy sends on, with a token that is believed."""
    unsigned = f"{site.peer_id}.{TICK}.{kind}1x{n}"
    target = "primary" if kind == "p" else site.proxy_id
    client = f"ip={site.client};port={PORT};proto=udp"
    signed = mac("|".join([unsigned, target, site.peer_id, client, f"{n}@{site.address(sender)}"]))
    return [f"X-VP-Token: {unsigned}.{signed}", f"X-VP-Visited: {site.peer_id}", f"X-VP-Client: {client}"]


def _redirected(site: Site, n: int) -> str:
    """The Contact of a 302 that a client follows."""
    unsigned = f"{site.peer_id}.{TICK}.c2x{n}"
    signed = mac("|".join([unsigned, site.proxy_id, site.peer_id, f"ip={site.client}", "voice.example.test"]))
    return f"sip:echo@{site.proxy}:{PORT};user=phone;vpd=voice.example.test;vpv={site.peer_id};vpt={unsigned}.{signed}"


def _known(site: Site, n: int) -> str:
    word = f"z9hG4bK{n:x} no"
    return f"X-VP-Known: {word} {mac(f'known|{word}')}"


def _response(site: Site, n: int) -> str:
    return "\r\n".join(
        [
            "SIP/2.0 200 OK",
            f"Via: SIP/2.0/UDP {site.proxy}:{PORT};branch=z9hG4bK{n:x}.0",
            f"Via: SIP/2.0/UDP {site.client}:{PORT};branch=z9hG4bK{n:x}.invite",
            f"From: <sip:alice@example.test>;tag=a{n}",
            f"To: <sip:echo@{site.proxy}>;tag=called",
            f"Call-ID: {n}@{site.client}",
            "CSeq: 1 INVITE",
            f"Contact: <sip:pbx@{site.target}:{PORT}>",
            "Content-Length: 0",
            "",
            "",
        ]
    )


Make = Callable[[Site, int], str]


def _within(sender: Sender, method: str, *more: str, body: str = "") -> Make:
    """A request inside a dialog, with the route that its sender was given."""

    def make(site: Site, n: int) -> str:
        route = f"Route: {_route(site, f'{n}@{site.address(sender)}')}"
        other = site.client if sender == "target" else site.target
        return message(
            site,
            sender,
            method,
            n,
            "IN-DIALOG",
            route,
            *more,
            uri=f"sip:other@{other}:{PORT}",
            body=body.format(ip=other),
        )

    return make


def _hidden(method: str, body: str = "") -> Make:
    """A request inside a dialog from a target that is not shown whom it speaks to, nor by which way."""

    def make(site: Site, n: int) -> str:
        call_id = f"{n}@{site.target}"
        back = _sealed(call_id, f"sip:other@{site.client}:{PORT}")
        way = _sealed(call_id, f"<sip:{site.peer};lr;vp={mac(f'route|{call_id}')[:16]}>")
        signed = mac(f"route-e|called|{call_id}")[:16]
        route = f"<sip:{site.proxy};lr=on;ftag=called;vp={signed};vph=e;vpr={way}>"
        uri = f"sip:vp-{back}@{site.proxy}"
        text = body.format(ip=site.target)
        return message(site, "target", method, n, "IN-DIALOG", f"Route: {route}", uri=uri, body=text)

    return make


SEEDS: tuple[tuple[Sender, Make], ...] = (
    ("client", lambda s, n: message(s, "client", "INVITE", n, body=OFFER.format(ip=s.client))),
    ("client", lambda s, n: message(s, "client", "INVITE", n, body=ENCRYPTED.format(ip=s.client))),
    ("client", lambda s, n: message(s, "client", "INVITE", n, uri=_redirected(s, n), body=OFFER.format(ip=s.client))),
    ("client", lambda s, n: message(s, "client", "INVITE", n, "P-Asserted-Identity: <sip:root@evil.test>")),
    (
        "client",
        lambda s, n: message(
            s, "client", "REGISTER", n, "Expires: 60", 'Authorization: Digest username="a", uri="sip:b"'
        ),
    ),
    ("client", lambda s, n: message(s, "client", "CANCEL", n)),
    ("client", lambda s, n: message(s, "client", "ACK", n)),
    ("client", lambda s, n: message(s, "client", "OPTIONS", n)),
    ("client", lambda s, n: message(s, "client", "SUBSCRIBE", n, "Event: presence", "Accept: application/pidf+xml")),
    ("client", lambda s, n: message(s, "client", "MESSAGE", n, f"Route: <sip:{s.proxy};lr>")),
    ("client", _within("client", "INVITE", body=OFFER)),
    ("client", _within("client", "BYE")),
    ("client", _within("client", "ACK")),
    ("client", _within("client", "REFER", "Refer-To: <sip:carol@example.test?Replaces=1%3Bto-tag%3D2%3Bfrom-tag%3D3>")),
    ("target", _within("target", "UPDATE", "Session-Expires: 90;refresher=uac", body=OFFER)),
    ("target", _within("target", "BYE", 'Reason: Q.850;cause=16;text="x"')),
    ("target", _hidden("INVITE", OFFER)),
    ("target", _hidden("BYE")),
    ("target", _response),
    (
        "target",
        lambda s, n: message(
            s,
            "target",
            "INVITE",
            n,
            f"Route: <sip:{mac('route|path')[:16]}@{s.proxy};lr;received=sip:{s.client}:5060>",
        ),
    ),
    ("gateway", lambda s, n: message(s, "gateway", "INVITE", n, body=OFFER.format(ip=s.gateway))),
    ("gateway", lambda s, n: message(s, "gateway", "OPTIONS", n)),
    (
        "peer",
        lambda s, n: message(s, "peer", "INVITE", n, *assigned(s, n, "peer", "c"), body=OFFER.format(ip=s.client)),
    ),
    ("peer", lambda s, n: message(s, "peer", "INVITE", n, *assigned(s, n, "peer", "p"))),
    ("peer", lambda s, n: message(s, "peer", "REGISTER", n, *assigned(s, n, "peer", "n"))),
    ("peer", lambda s, n: message(s, "peer", "INFO", n, _known(s, n))),
    ("peer", lambda s, n: message(s, "peer", "INVITE", n, body=OFFER.format(ip=s.client))),
    ("stranger", lambda s, n: message(s, "stranger", "INVITE", n, body=OFFER.format(ip=s.stranger))),
    ("stranger", lambda s, n: message(s, "stranger", "OPTIONS", n, f"Route: <sip:{s.proxy};lr;vp=0123456789abcdef>")),
    ("stranger", _response),
)
