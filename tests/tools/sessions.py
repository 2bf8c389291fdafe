"""The two ends of a call: `Call` on the side that places it, `Incoming` on the side that is called."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tests.tools import message as sip
from tests.tools.dialog import T1_SECONDS, Dialog, Transaction, dialog_of_callee, dialog_of_caller, fresh_tag
from tests.tools.message import Address, Message
from tests.tools.rtp import describe
from tests.tools.transport import Packet
from tests.tools.wait import WITHIN_SECONDS

if TYPE_CHECKING:
    from tests.tools.sip import Options, Phone

ANSWER_REPEATS = 6  # a 2xx is sent again until its ACK arrives


class Session:
    """What both ends have: a dialog, media, and the requests that the other end sent inside it."""

    def __init__(self, phone: Phone, sdp: str) -> None:
        self.phone = phone
        self.sdp = sdp
        self.remote_sdp = ""
        self.dialog: Dialog | None = None
        self.requests: list[Packet] = []
        self.acked = asyncio.Event()
        self.ended = asyncio.Event()  # a BYE came in

    def take(self, packet: Packet) -> None:
        """A request inside the dialog."""
        self.requests.append(packet)
        request = packet.message
        if request.method == "ACK":
            self.acked.set()
        elif request.method == "BYE":
            self.ended.set()
        elif request.method in ("INVITE", "UPDATE") and self.dialog is not None:
            self.dialog.target = sip.uri_in(request.header("Contact")) or self.dialog.target
        if request.body:
            self.remote_sdp = request.body

    async def answered(self, transaction: Transaction, answer: Message) -> None:
        """An answer to an INVITE of ours: each 2xx, repeated or not, is acknowledged."""
        if answer.body:
            self.remote_sdp = answer.body
        if self.dialog is not None and 200 <= answer.status < 300:
            self.dialog.target = sip.uri_in(answer.header("Contact")) or self.dialog.target
            ack = self.dialog.compose("ACK", cseq=transaction.request.cseq)
            await self.phone.endpoint.send(ack, self.dialog.next_hop)

    async def request(self, method: str, headers: Iterable[tuple[str, str]] = (), body: str = "") -> Packet:
        """Sends a request inside the dialog and waits for its final answer."""
        assert self.dialog is not None, "the call has no dialog yet"
        transaction = await self.phone.in_dialog(self.dialog, method, headers, body)
        return await transaction.final()

    async def bye(self) -> int:
        return (await self.request("BYE")).message.status


class Call(Session):
    """A call that a phone places."""

    def __init__(self, phone: Phone, uri: str, options: Options) -> None:
        super().__init__(phone, options.get("body") or describe(phone.endpoint.address[0]))
        self.uri = uri
        self.options = options
        self.call_id = options.get("call_id") or f"{fresh_tag()}@{phone.endpoint.address[0]}"
        self.tag = options.get("from_tag") or fresh_tag()
        self.cseq = options.get("cseq", 1) - 1
        self.path: list[tuple[str, int]] = []  # (proxy's address, its final answer), redirects included
        self.transaction: Transaction
        phone.adopt(self, self.call_id, self.tag)

    @property
    def status(self) -> int:
        return self.path[-1][1]

    @property
    def refused(self) -> bool:
        """It has a final answer above 2xx by now, awaited or not."""
        return any(packet.message.status >= 300 for packet in self.transaction.responses)

    @property
    def final(self) -> Message:
        """The final answer of the last INVITE."""
        return next(p.message for p in self.transaction.responses if p.message.status >= 200)

    @property
    def routes(self) -> list[str]:
        """The route set's hosts, the nearest first."""
        assert self.dialog is not None, "the call has no dialog"
        return [sip.hop(sip.uri_in(route))[0] for route in self.dialog.routes]

    async def invite(self, uri: str, to: Address | None) -> None:
        """Sends the INVITE; once more, with the next CSeq, when following a redirect."""
        self.cseq += 1
        own: Any = {"call_id": self.call_id, "from_tag": self.tag, "cseq": self.cseq, "body": self.sdp}
        usual: Any = {"to_uri": self.options.get("to_uri") or self.uri.partition(";")[0]}
        options: Any = {**self.options, **usual, **own, "to": to or sip.hop(uri)}
        self.transaction = await self.phone.request("INVITE", uri, **options)

    async def result(self, *, follow: int = 5, within: float = WITHIN_SECONDS) -> int:
        """The final status, after at most `follow` redirects."""
        while True:
            answer = (await self.transaction.final(within)).message
            self.path.append((self.transaction.to[0], answer.status))
            if not 300 <= answer.status < 400 or follow == 0:
                return answer.status
            follow -= 1
            await self.invite(sip.uri_in(answer.all("Contact")[0]), None)

    async def ringing(self, within: float = WITHIN_SECONDS) -> Packet:
        """The first provisional answer above 100."""
        packet = await self.transaction.response(101, 199, within)
        if self.dialog is None and sip.parameter(packet.message.header("To"), "tag"):
            self.dialog = dialog_of_caller(self.phone.endpoint, self.transaction.request, packet.message)
        return packet

    async def cancel(self, to: Address | None = None) -> int:
        """Cancels the INVITE; the call itself then ends with 487."""
        invite = self.transaction.request
        kept = [(k, v) for k, v in invite.headers if k in ("Via", "From", "To", "Call-ID", "Route")]
        fixed = [("CSeq", f"{invite.cseq} CANCEL"), ("Max-Forwards", "70")]
        request = sip.request("CANCEL", invite.uri, [*kept, *fixed])
        transaction = await self.phone.start(request, to or self.transaction.to)
        return (await transaction.final()).message.status

    async def answered(self, transaction: Transaction, answer: Message) -> None:
        if 200 <= answer.status < 300 and transaction is self.transaction:
            cseq = self.dialog.cseq if self.dialog is not None else 0
            self.dialog = dialog_of_caller(self.phone.endpoint, transaction.request, answer)
            self.dialog.cseq = max(cseq, self.dialog.cseq)
        await super().answered(transaction, answer)


class Incoming(Session):
    """A call that reached a phone; scripts say what becomes of it."""

    def __init__(self, phone: Phone, packet: Packet) -> None:
        super().__init__(phone, describe(phone.endpoint.address[0], audio=17000, video=17002))
        self.packet = packet
        self.remote_sdp = packet.message.body
        self.tag = fresh_tag()
        self.status = 0  # of the final answer given
        self.cancelled = asyncio.Event()
        self.dialog = dialog_of_callee(phone.endpoint, packet.message, self.tag, phone.contact)
        phone.adopt(self, packet.message.call_id, self.tag)

    @property
    def invite(self) -> Message:
        return self.packet.message

    @property
    def served_by(self) -> str:
        """The address of the proxy that brought the call."""
        return self.packet.source[0]

    async def reply(self, status: int, headers: Iterable[tuple[str, str]] = (), sdp: str = "") -> None:
        if self.status:
            return
        self.status = status if status >= 200 else 0
        own = [] if status >= 300 else [("Contact", self.phone.contact)]
        await self.phone.reply(self.packet, sip.response(self.invite, status, [*own, *headers], sdp, tag=self.tag))

    async def answer(self) -> None:
        """200 with SDP, sent again until the ACK is here."""
        await self.reply(200, sdp=self.sdp)
        for repeat in range(ANSWER_REPEATS):
            try:
                async with asyncio.timeout(T1_SECONDS * 2**repeat):
                    await self.acked.wait()
            except TimeoutError:
                again = sip.response(self.invite, 200, [("Contact", self.phone.contact)], self.sdp, tag=self.tag)
                await self.phone.endpoint.send(again, self.packet.source)
            else:
                return

    async def cancel(self) -> None:
        await self.reply(487)
        self.cancelled.set()

    async def reliably(self, status: int, sdp: str = "", within: float = WITHIN_SECONDS) -> Packet:
        """A provisional answer under 100rel; returns the PRACK that acknowledges it."""
        since = len(self.phone.log)
        await self.reply(status, [("Require", "100rel"), ("RSeq", "1")], sdp)
        return await self.phone.expect("PRACK", within, since)
