"""Client transactions, with their retransmissions, and dialogs, with their route sets (RFC 3261, 12 and 17)."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from tests.tools import message as sip
from tests.tools.message import Address, Message
from tests.tools.transport import Endpoint, Packet, SipTimeoutError
from tests.tools.wait import WITHIN_SECONDS

T1_SECONDS = 0.5
LONGEST_INTERVAL_SECONDS = 4.0
GIVE_UP_SECONDS = 32.0

_serial = itertools.count(1)


def fresh_tag() -> str:
    return f"{secrets.token_hex(4)}{next(_serial)}"


class Transaction:
    """One request on its way: sent again over UDP until it is answered; every response is kept."""

    def __init__(self, endpoint: Endpoint, request: Message, to: Address, *, resend: bool = True) -> None:
        self.endpoint = endpoint
        self.request = request
        self.to = to
        self.responses: list[Packet] = []
        self.sent_at = 0.0
        self._resend = resend and endpoint.protocol == "udp"
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.sent_at = asyncio.get_running_loop().time()
        await self.endpoint.send(self.request, self.to)
        if self._resend:
            self._task = asyncio.create_task(self._retransmit())

    async def take(self, packet: Packet) -> None:
        self.responses.append(packet)
        if packet.message.status >= 300 and self.request.method == "INVITE":
            await self.endpoint.send(_hop_ack(self.request, packet.message), self.to)
        async with self._changed:
            self._changed.notify_all()

    async def response(self, low: int, high: int, within: float = WITHIN_SECONDS) -> Packet:
        """The first response with a status from `low` to `high`."""
        try:
            async with asyncio.timeout(within), self._changed:
                while True:
                    for packet in self.responses:
                        if low <= packet.message.status <= high:
                            return packet
                    await self._changed.wait()
        except TimeoutError:
            raise SipTimeoutError(
                f"no answer from {low} to {high} within {within} s to\n  {self.request.start} sent to {self.to};"
                f" came:\n{self.endpoint.seen()}"
            ) from None

    async def final(self, within: float = WITHIN_SECONDS) -> Packet:
        return await self.response(200, 699, within)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _retransmit(self) -> None:
        interval, waited = T1_SECONDS, 0.0
        while waited < GIVE_UP_SECONDS and not self._answered():
            await asyncio.sleep(interval)
            waited += interval
            if not self._answered():
                await self.endpoint.send(self.request, self.to)
            interval = min(2 * interval, LONGEST_INTERVAL_SECONDS)

    def _answered(self) -> bool:
        if self.request.method == "INVITE":
            return bool(self.responses)
        return any(packet.message.status >= 200 for packet in self.responses)


def _hop_ack(request: Message, answer: Message) -> Message:
    """The ACK for a refused INVITE: same transaction, same route."""
    kept = [("Via", request.all("Via")[0]), *((k, v) for k, v in request.headers if k in ("Route", "From", "Call-ID"))]
    fixed = [("To", answer.header("To")), ("CSeq", f"{request.cseq} ACK"), ("Max-Forwards", "70")]
    return sip.request("ACK", request.uri, [*kept, *fixed])


@dataclass
class Dialog:
    """One end of a dialog: what it needs to send requests along the route set."""

    endpoint: Endpoint
    call_id: str
    local: str  # our From value, with tag
    remote: str  # their To value, with tag
    target: str  # the remote Contact's URI
    contact: str  # our own Contact header
    routes: list[str]
    cseq: int
    pinned: Address | None = None  # where everything goes, whatever the route set says

    @property
    def next_hop(self) -> Address:
        return self.pinned or sip.hop(sip.uri_in(self.routes[0]) if self.routes else self.target)

    def compose(self, method: str, headers: Iterable[tuple[str, str]] = (), body: str = "", cseq: int = 0) -> Message:
        if not cseq:
            self.cseq += 1
        fixed = [
            ("Via", via(self.endpoint)),
            *(("Route", route) for route in self.routes),
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{cseq or self.cseq} {method}"),
            ("Contact", self.contact),
            ("Max-Forwards", "70"),
        ]
        return sip.request(method, self.target, [*fixed, *headers], body)


def via(endpoint: Endpoint) -> str:
    return f"SIP/2.0/{endpoint.protocol.upper()} {endpoint.sent_by};rport;branch=z9hG4bK{fresh_tag()}"


def dialog_of_caller(endpoint: Endpoint, request: Message, answer: Message) -> Dialog:
    return Dialog(
        endpoint,
        request.call_id,
        request.header("From"),
        answer.header("To"),
        sip.uri_in(answer.header("Contact")),
        request.header("Contact"),
        answer.all("Record-Route")[::-1],
        request.cseq,
    )


def dialog_of_callee(endpoint: Endpoint, request: Message, tag: str, contact: str) -> Dialog:
    return Dialog(
        endpoint,
        request.call_id,
        f"{request.header('To')};tag={tag}",
        request.header("From"),
        sip.uri_in(request.header("Contact")),
        contact,
        request.all("Record-Route"),
        0,
    )
