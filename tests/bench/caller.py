"""Many calls from one UDP socket, at times and of lengths given beforehand, with each call's own record.

SIPp can do neither Poisson arrivals nor a share of redirects that is never followed.

    python -m tests.bench.caller < plan.json > calls.json

A program of its own, so that it can run in a network namespace and its CPU is told apart. It keeps those rules of
RFC 3261 that matter to a proxy: retransmission, ACK by hop or along the route set, a redirect followed with the same
Call-ID. SIGTERM ends all calls, and the records of those placed so far are printed.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
import socket
import sys
import time
from typing import Any, Literal, cast

import msgspec

T1_SECONDS = 0.5
GIVE_UP_SECONDS = 32.0
LAST_WORD_SECONDS = 8.0  # for BYEs after SIGTERM; a call that rings for ever is left open
MOST_REDIRECTS = 5
BUFFER_BYTES = 8 << 20

Outcome = Literal["open", "answered", "refused", "not followed", "failed"]
Address = tuple[str, int]

_CONTACT = re.compile(rb"\r\n(?:Contact|m)[ \t]*:[^<\r\n]*<(sips?:[^>]+)>", re.IGNORECASE)
_ROUTE = re.compile(rb"\r\nRecord-Route[ \t]*:[ \t]*([^\r\n]+)", re.IGNORECASE)
_TO = re.compile(rb"\r\n(?:To|t)[ \t]*:[ \t]*([^\r\n]+)", re.IGNORECASE)
_CALL = re.compile(rb"\r\n(?:Call-ID|i)[ \t]*:[ \t]*(\d+)-", re.IGNORECASE)
_CSEQ = re.compile(rb"\r\nCSeq[ \t]*:[ \t]*(\d+)[ \t]+(\w+)", re.IGNORECASE)
_HOST = re.compile(r"sips?:(?:[^@;>]*@)?([0-9.]+)(?::(\d+))?")


class Planned(msgspec.Struct, frozen=True, array_like=True):
    """`at` and `length` in seconds, `at` from the start; `follow`: whether a redirect of this call is followed."""

    at: float
    length: float
    follow: bool = True


class Plan(msgspec.Struct, frozen=True):
    """`refused_status`: what whoever is called refuses a call with; any other answer is a failure."""

    target: Address
    source: Address
    user: str
    refused_status: int
    calls: list[Planned]


class Record(msgspec.Struct, array_like=True):
    """What became of a call. Times are seconds of the machine's monotonic clock, the same in all its processes."""

    sent: float = 0.0
    provisional: float = 0.0  # first provisional answer, 100 included: from then on the client waits; 0: none
    final: float = 0.0  # 200, or the answer that refused it
    hung_up: float = 0.0  # its BYE was sent
    ended: float = 0.0  # its BYE was answered
    outcome: Outcome = "open"
    status: int = 0
    redirects: int = 0
    served_by: str = ""


class Call:
    """One call's state; `cseq` counts its INVITEs and its BYE."""

    __slots__ = ("bye", "cseq", "hop", "invite", "number", "planned", "record", "routes", "timer", "to", "uri")

    def __init__(self, number: int, planned: Planned) -> None:
        self.number = number
        self.planned = planned
        self.record = Record()
        self.cseq = 0
        self.uri = ""
        self.hop: Address = ("", 0)
        self.invite = b""
        self.bye = b""
        self.to = ""
        self.routes = ""
        self.timer: asyncio.TimerHandle | None = None


class Caller(asyncio.DatagramProtocol):
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.calls = [Call(number, planned) for number, planned in enumerate(plan.calls)]
        self.done = asyncio.Event()
        self._open = len(self.calls)
        self._ending = False
        self.error: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.DatagramTransport
        self._host, self._port = plan.source
        self._run = secrets.token_hex(4)  # no two runs' calls are alike to a proxy that remembers
        self._body = (
            f"v=0\r\no=- 1 1 IN IP4 {self._host}\r\ns=-\r\nc=IN IP4 {self._host}\r\nt=0 0\r\n"
            "m=audio 16000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
        )

    # sending

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # which asyncio's own do not derive from

    def place(self, call: Call) -> None:
        if self._ending:
            return
        host, port = self.plan.target
        call.record.sent = time.monotonic()
        self._invite(call, f"sip:{self.plan.user}@{host}:{port}", (host, port))

    def _invite(self, call: Call, uri: str, hop: Address) -> None:
        call.cseq += 1
        call.uri, call.hop = uri, hop
        call.to = f"<sip:{self.plan.user}@{self.plan.target[0]}>"
        extra = f"Contact: <sip:c@{self._host}:{self._port}>\r\nContent-Type: application/sdp\r\n"
        call.invite = self._request(call, "INVITE", extra, self._body)
        self._send(call, call.invite, T1_SECONDS)

    def _request(self, call: Call, method: str, extra: str = "", body: str = "", branch: str = "") -> bytes:
        branch = branch or f"{method[0]}{call.number}.{call.cseq}"
        return (
            f"{method} {call.uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {self._host}:{self._port};rport;branch=z9hG4bK{self._run}{branch}\r\n"
            f"Max-Forwards: 70\r\nTo: {call.to}\r\n"
            f"From: <sip:c{self._run}{call.number}@{self._host}>;tag={self._run}{call.number}\r\n"
            f"Call-ID: {call.number}-{self._run}@{self._host}\r\nCSeq: {call.cseq} {method}\r\n"
            f"{extra}Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    def _send(self, call: Call, message: bytes, interval: float, waited: float = 0.0) -> None:
        """Sends now and again until `_answered`; gives up as RFC 3261 does."""
        if waited >= GIVE_UP_SECONDS:
            self._finish(call, "failed", 408)
            return
        self._transport.sendto(message, call.hop)
        call.timer = self._loop.call_later(interval, self._send, call, message, 2 * interval, waited + interval)

    def _answered(self, call: Call) -> None:
        if call.timer is not None:
            call.timer.cancel()
            call.timer = None

    # receiving

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if not data.startswith(b"SIP/2.0 "):
            return  # nobody has anything to ask of us
        status = int(data[8:11])
        number, cseq = _CALL.search(data), _CSEQ.search(data)
        if number is None or cseq is None or int(number[1]) >= len(self.calls):
            return
        call = self.calls[int(number[1])]
        if cseq[2] == b"INVITE" and int(cseq[1]) == call.cseq and not call.bye:
            self._invite_answered(call, status, data)
        elif cseq[2] == b"INVITE" and status >= 200:
            self._repeat_ack(call, int(cseq[1]), status, data)
        elif cseq[2] == b"BYE" and status >= 200 and call.record.outcome == "answered" and not call.record.ended:
            self._answered(call)
            call.record.ended = time.monotonic()
            self._close()

    def _invite_answered(self, call: Call, status: int, data: bytes) -> None:
        record = call.record
        self._answered(call)
        if status < 200:
            if not record.provisional:
                record.provisional = time.monotonic()
            return
        if record.outcome != "open":
            self._repeat_ack(call, call.cseq, status, data)
            return
        if status < 300:
            self._established(call, data)
            return
        self._transport.sendto(self._hop_ack(call, data), call.hop)
        if status in (301, 302):
            self._redirected(call, data)
        else:
            self._finish(call, "refused" if status == self.plan.refused_status else "failed", status)

    def _established(self, call: Call, data: bytes) -> None:
        record, contact, to = call.record, _CONTACT.search(data), _TO.search(data)
        if contact is None or to is None:
            self._finish(call, "failed", 0)
            return
        record.final, record.outcome, record.status = time.monotonic(), "answered", 200
        record.served_by = call.hop[0]
        call.to = to[1].decode()
        routes = [value.decode() for line in _ROUTE.findall(data) for value in line.split(b",")][::-1]
        call.routes = "".join(f"Route: {route.strip()}\r\n" for route in routes)
        call.uri = contact[1].decode()
        call.hop = _address(routes[0] if routes else call.uri) or call.hop
        if routes:
            record.served_by = call.hop[0]
        self._transport.sendto(self._request(call, "ACK", call.routes), call.hop)
        self._loop.call_later(0.0 if self._ending else call.planned.length, self.hang_up, call)

    def _redirected(self, call: Call, data: bytes) -> None:
        contact = _CONTACT.search(data)
        hop = _address(contact[1].decode()) if contact else None
        if not call.planned.follow:
            self._finish(call, "not followed", 302)
        elif contact is None or hop is None or call.record.redirects >= MOST_REDIRECTS:
            self._finish(call, "failed", 302)
        else:
            call.record.redirects += 1
            self._invite(call, contact[1].decode(), hop)

    def _hop_ack(self, call: Call, data: bytes) -> bytes:
        """The ACK of a refused INVITE: same transaction, the answer's To."""
        to = _TO.search(data)
        kept, call.to = call.to, to[1].decode() if to else call.to
        ack = self._request(call, "ACK", branch=f"I{call.number}.{call.cseq}")
        call.to = kept
        return ack

    def _repeat_ack(self, call: Call, cseq: int, status: int, data: bytes) -> None:
        """An answer that came again wants its ACK again."""
        if status >= 300 and cseq == call.cseq:
            self._transport.sendto(self._hop_ack(call, data), call.hop)
        elif status < 300 and call.routes is not None and call.record.outcome == "answered":
            current, call.cseq = call.cseq, cseq
            self._transport.sendto(self._request(call, "ACK", call.routes), call.hop)
            call.cseq = current

    def end(self) -> None:
        """Every call ends now; those not placed yet never are."""
        if self._ending:
            return
        self._ending = True
        self._loop.call_later(LAST_WORD_SECONDS, self.done.set)
        for call in self.calls:
            if call.record.sent:
                self.hang_up(call)
            else:
                self._close()

    def hang_up(self, call: Call) -> None:
        if call.record.outcome != "answered" or call.bye:
            return
        call.cseq += 1
        call.record.hung_up = time.monotonic()
        call.bye = self._request(call, "BYE", call.routes)
        self._send(call, call.bye, T1_SECONDS)

    def _finish(self, call: Call, outcome: Outcome, status: int) -> None:
        self._answered(call)
        call.record.outcome, call.record.status, call.record.final = outcome, status, time.monotonic()
        self._close()

    def broken(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error in a callback ends the program: a caller that goes on half-way measures nothing."""
        self.error = context.get("exception") or RuntimeError(context["message"])
        self.done.set()

    def _close(self) -> None:
        self._open -= 1
        if self._open <= 0:
            self.done.set()


def _address(uri: str) -> Address | None:
    found = _HOST.search(uri)
    return (found[1], int(found[2] or 5060)) if found else None


async def run(plan: Plan) -> list[Record]:
    """Places all calls and waits until all have ended; SIGTERM hangs up at once."""
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    sock.bind(plan.source)
    sock.setblocking(False)  # noqa: FBT003 - its only parameter
    transport, caller = await loop.create_datagram_endpoint(lambda: Caller(plan), sock=sock)
    started = loop.time()
    for call in caller.calls:
        loop.call_at(started + call.planned.at, caller.place, call)

    loop.set_exception_handler(caller.broken)
    loop.add_signal_handler(signal.SIGTERM, caller.end)
    await caller.done.wait()
    if caller.error is not None:
        raise caller.error
    transport.close()
    return [call.record for call in caller.calls if call.record.sent]


def main() -> int:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    records = asyncio.run(run(plan))
    sys.stdout.buffer.write(msgspec.json.encode(records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
