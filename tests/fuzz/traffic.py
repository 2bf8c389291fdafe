"""Sends to one proxy from everybody's addresses, plays whoever is called, and waits for the proxy to keep pace."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import time
from collections.abc import Iterable
from random import Random
from typing import Self

from tests.fuzz import frames
from tests.fuzz.mutations import mutate
from tests.fuzz.seeds import PORT, Sender, Site
from tests.tools import message as sip
from tests.tools.listeners import PORTS
from tests.tools.message import Message
from tests.tools.transport import Protocol

PATIENCE_SECONDS = 10.0  # for an answer to OPTIONS; a proxy that takes longer is stuck or dead
REPEAT_SECONDS = 0.5
HANDSHAKE_SECONDS = 0.3  # for the answer to one that may be damaged
RECEIVE_BYTES = 65536


class StuckError(Exception):
    """The proxy does not answer any more."""


class Traffic:
    """UDP sockets of all senders; connections are made for each batch anew.

    `answer_every`: so many calls lie between one that is answered and the next; the others are refused. 0: none is.
    `trusting`: for connections by TLS.
    `unasked_bytes`: what strangers were sent over UDP, where nothing may ever come.
    """

    def __init__(self, site: Site, answer_every: int, trusting: ssl.SSLContext | None = None) -> None:
        self.unasked_bytes = 0
        self._trusting = trusting
        self._answer_every = answer_every
        self._byes: list[tuple[Sender, bytes]] = []
        self._proxy = (site.proxy, PORT)
        self._site = site
        self._asked = 0
        self._calls = 0
        self._connections: list[socket.socket] = []
        self._udp = {
            sender: _bound(site.address(sender)) for sender in ("client", "gateway", "peer", "target", "stranger")
        }
        self._selector = selectors.DefaultSelector()
        for sender, link in self._udp.items():
            self._selector.register(link, selectors.EVENT_READ, sender)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        self._selector.close()
        for link in self._udp.values():
            link.close()

    def send(self, sender: Sender, data: bytes) -> None:
        self._udp[sender].sendto(data, self._proxy)

    def stream(self, random: Random, protocol: Protocol, sender: Sender, messages: Iterable[bytes]) -> None:
        """Over a connection of its own, one after the other; a proxy may close it when it has had enough."""
        link = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        link.settimeout(PATIENCE_SECONDS)
        link.bind((self._site.address(sender), 0))
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            link.connect((self._site.proxy, PORTS[protocol]))
            if protocol in ("tls", "wss") and random.random() >= frames.DAMAGED:  # otherwise what comes is no TLS
                assert self._trusting is not None
                link = self._trusting.wrap_socket(link, server_hostname=self._site.proxy)
            if protocol in ("ws", "wss"):
                self._shake_hands(random, protocol, link)
                messages = (frames.frames(random, message) for message in messages)
            link.sendall(b"".join(messages))
        self._connections.append(link)

    def _shake_hands(self, random: Random, protocol: Protocol, link: socket.socket) -> None:
        ask = frames.handshake(self._site.proxy, PORTS[protocol])
        damaged = random.random() < frames.DAMAGED
        link.sendall(mutate(random, ask, [ask]) if damaged else ask)
        link.settimeout(HANDSHAKE_SECONDS if damaged else PATIENCE_SECONDS)
        with contextlib.suppress(TimeoutError):
            link.recv(RECEIVE_BYTES)
        link.settimeout(PATIENCE_SECONDS)

    def hang_up(self) -> None:
        for link in self._connections:
            link.close()
        self._connections.clear()

    def keep_pace(self) -> None:
        """Returns once the proxy has answered OPTIONS, sent after all else; calls are answered meanwhile."""
        for sender, bye in self._byes:
            self.send(sender, bye)
        self._byes.clear()
        self._asked += 1
        call_id = f"pace-{self._asked}"
        ip = self._site.client
        ask = "\r\n".join(
            [
                f"OPTIONS sip:{self._site.proxy}:{PORT} SIP/2.0",
                f"Via: SIP/2.0/UDP {ip}:{PORT};rport;branch=z9hG4bK{call_id}",
                f"From: <sip:pace@{ip}>;tag=1\r\nTo: <sip:{self._site.proxy}>\r\nCall-ID: {call_id}\r\nCSeq: 1 OPTIONS",
                "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
            ]
        ).encode()
        give_up = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up:
            self.send("client", ask)
            if self._answered(call_id.encode(), time.monotonic() + REPEAT_SECONDS):
                return
        raise StuckError(f"no answer to OPTIONS within {PATIENCE_SECONDS} s")

    def _answered(self, call_id: bytes, until: float) -> bool:
        found = False
        while not found and (left := until - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                for data in _received(self._udp[key.data]):
                    if key.data == "stranger":
                        self.unasked_bytes += len(data)
                    elif data.startswith(b"SIP/2.0 200") and b"Call-ID: " + call_id + b"\r\n" in data:
                        found = True
                    else:
                        with contextlib.suppress(IndexError, ValueError):  # too damaged to be answered
                            self._called(key.data, data)
        return found

    def _called(self, sender: Sender, data: bytes) -> None:
        """Most calls are refused; some are answered, and soon ended by whoever is called. A peer takes none."""
        request = Message.parse(data.lstrip())
        if request.is_response or request.method == "ACK" or (sender == "peer" and request.method == "INVITE"):
            return
        status = 200
        if request.method == "INVITE":
            self._calls += 1
            status = 200 if self._answer_every and self._calls % self._answer_every == 0 else 486
        contact = [("Contact", f"<sip:called@{self._site.address(sender)}:{PORT}>")]
        answer = sip.response(request, status, contact, request.body if status == 200 else "", tag="called")
        self.send(sender, answer.encode())
        if request.method == "INVITE" and status == 200:
            self._byes.append((sender, self._bye(sender, request).encode()))

    def _bye(self, sender: Sender, invite: Message) -> Message:
        headers = [
            ("Via", f"SIP/2.0/UDP {self._site.address(sender)}:{PORT};branch=z9hG4bKbye{self._calls}"),
            *(("Route", route) for route in invite.all("Record-Route")),
            ("From", f"{invite.header('To')};tag=called"),
            ("To", invite.header("From")),
            ("Call-ID", invite.call_id),
            ("CSeq", "1 BYE"),
            ("Max-Forwards", "70"),
        ]
        return sip.request("BYE", f"sip:alice@{self._site.client}:{PORT}", headers)


def _bound(ip: str) -> socket.socket:
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    link.bind((ip, PORT))
    link.settimeout(0)
    return link


def _received(link: socket.socket) -> Iterable[bytes]:
    with contextlib.suppress(BlockingIOError):
        while True:
            yield link.recv(RECEIVE_BYTES)
