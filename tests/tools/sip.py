"""A SIP phone for tests: places calls (following a 302 or not), answers them by script, and records all it sees.

    async with Phone.at("127.0.0.50") as alice:
        call = await alice.call("sip:echo@127.0.0.2:5060")
        assert call.status == 200
        assert await call.bye() == 200

A phone does what a correct phone does (retransmissions, ACK, route sets, 481 for a stray CANCEL); what a test wants
otherwise is an argument. Whoever is called runs a script, an async function of the incoming call (see answers.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypedDict, Unpack

from tests.tools import message as sip
from tests.tools.dialog import Dialog, Transaction, fresh_tag, via
from tests.tools.message import Address, Message
from tests.tools.sessions import Call, Incoming, Session
from tests.tools.transport import Endpoint, Packet, Protocol
from tests.tools.wait import WITHIN_SECONDS, until

Script = Callable[[Incoming], Awaitable[None]]


class Options(TypedDict, total=False):
    """What a request may have that is not the usual."""

    to: Address  # where it is sent, where the URI does not say so
    headers: Iterable[tuple[str, str]]
    body: str
    max_forwards: int
    from_uri: str
    to_uri: str
    to_tag: str
    call_id: str
    from_tag: str
    cseq: int
    resend: bool  # False: sent once only


class Phone:
    """A SIP user agent at one address."""

    def __init__(self, endpoint: Endpoint, user: str) -> None:
        self.endpoint = endpoint
        self.user = user
        self.script: Script = Incoming.answer
        self.answers: dict[str, int] = {}  # method → status, where it is not the usual 200
        self.answer_headers: dict[str, sip.Headers] = {}  # method → headers of that answer
        self.grants = 60  # seconds, to whoever registers here
        self.incoming: list[Incoming] = []
        self.errors: list[BaseException] = []  # what went wrong in scripts; raised when the phone is closed
        self._transactions: dict[tuple[str, str], Transaction] = {}
        self._sessions: dict[tuple[str, str], Session] = {}  # (Call-ID, our tag)
        self._seen: set[tuple[str, str]] = set()  # requests that are not new any more: (branch, method)
        self._answered: dict[tuple[str, str], Message] = {}  # (branch, method) → the last response, for repetitions
        self._tasks: set[asyncio.Task[None]] = set()
        endpoint.on_packet = self._dispatch

    @classmethod
    @contextlib.asynccontextmanager
    async def at(
        cls,
        ip: str,
        port: int = 0,
        *,
        protocol: Protocol = "udp",
        listening: bool = False,
        user: str = "alice",
        tls: ssl.SSLContext | None = None,
    ) -> AsyncIterator[Phone]:
        phone = cls(await Endpoint.open(ip, port, protocol, listening=listening, tls=tls), user)
        try:
            yield phone
        finally:
            await phone.close()

    @property
    def log(self) -> list[Packet]:
        return self.endpoint.log

    @property
    def uri(self) -> str:
        transport = {"udp": "", "wss": "ws"}.get(self.endpoint.protocol, self.endpoint.protocol)
        return f"sip:{self.user}@{self.endpoint.sent_by}" + (f";transport={transport}" if transport else "")

    @property
    def contact(self) -> str:
        return f"<{self.uri}>"

    def requests(self, method: str) -> list[Packet]:
        """The requests of that method that arrived, repetitions included."""
        return [p for p in self.log if not p.message.is_response and p.message.method == method]

    async def expect(self, method: str, within: float = WITHIN_SECONDS, since: int = 0) -> Packet:
        """The first request of that method from packet number `since` on."""
        return await self.endpoint.until(
            lambda p: not p.message.is_response and p.message.method == method, within, since
        )

    async def expect_call(self, within: float = WITHIN_SECONDS, number: int = 0) -> Incoming:
        """The incoming call of that number, counted from 0."""
        await until(lambda: len(self.incoming) > number, f"call {number} arrives at {self.uri}", within)
        return self.incoming[number]

    # calling

    async def call(
        self, uri: str, *, follow: int = 5, within: float = WITHIN_SECONDS, **options: Unpack[Options]
    ) -> Call:
        """Places a call and waits for its end result: answered, and acknowledged, or refused."""
        call = await self.dial(uri, **options)
        await call.result(follow=follow, within=within)
        return call

    async def dial(self, uri: str, **options: Unpack[Options]) -> Call:
        """Sends the INVITE and returns at once."""
        call = Call(self, uri, options)
        await call.invite(uri, options.get("to"))
        return call

    async def request(self, method: str, uri: str, **options: Unpack[Options]) -> Transaction:
        """Sends a request outside of any dialog; its answer is `await transaction.final()`."""
        target = options.get("to") or sip.hop(uri)
        if self.endpoint.protocol != "udp":
            await self.endpoint.connect(target)
        to_tag = f";tag={options['to_tag']}" if "to_tag" in options else ""
        caller = options.get("from_uri") or f"sip:{self.user}@example.test"
        fixed = [
            ("Via", via(self.endpoint)),
            ("From", f"<{caller}>;tag={options.get('from_tag') or fresh_tag()}"),
            ("To", f"<{options.get('to_uri') or uri.partition(';')[0]}>{to_tag}"),
            ("Call-ID", options.get("call_id") or f"{fresh_tag()}@{self.endpoint.address[0]}"),
            ("CSeq", f"{options.get('cseq', 1)} {method}"),
            ("Contact", self.contact),
            ("Max-Forwards", str(options.get("max_forwards", 70))),
        ]
        message = sip.request(method, uri, [*fixed, *options.get("headers", ())], options.get("body", ""))
        return await self.start(message, target, resend=options.get("resend", True))

    async def start(self, request: Message, to: Address, *, resend: bool = True) -> Transaction:
        transaction = Transaction(self.endpoint, request, to, resend=resend)
        self._transactions[request.branch, request.method] = transaction
        await transaction.start()
        return transaction

    async def in_dialog(
        self, dialog: Dialog, method: str, headers: Iterable[tuple[str, str]] = (), body: str = ""
    ) -> Transaction:
        """Sends a request inside a dialog, along its route set."""
        return await self.start(dialog.compose(method, headers, body), dialog.next_hop)

    # what sessions and scripts use

    def adopt(self, session: Session, call_id: str, tag: str) -> None:
        """From now on, what belongs to this dialog reaches that session."""
        self._sessions[call_id, tag] = session

    async def reply(self, to: Packet, answer: Message) -> None:
        """Answers a request where it came from, and again whenever it is repeated."""
        self._answered[to.message.branch, to.message.method] = answer
        await self.endpoint.send(answer, to.source)

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def close(self) -> None:
        for transaction in self._transactions.values():
            transaction.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.endpoint.close()
        if self.errors:
            raise self.errors[0]

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.errors.append(error)

    def _dispatch(self, packet: Packet) -> None:
        self.background(self._response(packet) if packet.message.is_response else self._request(packet))

    async def _response(self, packet: Packet) -> None:
        answer = packet.message
        transaction = self._transactions.get((answer.branch, answer.method))
        if transaction is None:
            return
        session = self._sessions.get((answer.call_id, sip.parameter(answer.header("From"), "tag")))
        if session is not None and answer.method == "INVITE":
            await session.answered(transaction, answer)
        await transaction.take(packet)

    async def _request(self, packet: Packet) -> None:
        request = packet.message
        key = (request.branch, request.method)
        if key in self._seen and request.method != "ACK":
            if key in self._answered:
                await self.endpoint.send(self._answered[key], packet.source)
            return
        self._seen.add(key)
        session = self._sessions.get((request.call_id, sip.parameter(request.header("To"), "tag")))
        if session is not None:
            session.take(packet)
        if request.method == "INVITE" and session is None:
            call = Incoming(self, packet)
            self.incoming.append(call)
            await self.script(call)
        elif request.method == "CANCEL":
            await self._cancel(packet)
        elif request.method != "ACK":
            await self._answer_at_once(packet, session)

    async def _cancel(self, packet: Packet) -> None:
        branch = packet.message.branch
        cancelled = next((call for call in self.incoming if call.packet.message.branch == branch), None)
        await self.reply(packet, sip.response(packet.message, 200 if cancelled else 481, tag=fresh_tag()))
        if cancelled is not None:
            await cancelled.cancel()

    async def _answer_at_once(self, packet: Packet, session: Session | None) -> None:
        request = packet.message
        status = self.answers.get(request.method, 202 if request.method == "REFER" else 200)
        headers = [("Contact", self.contact)]
        if request.method == "REGISTER":
            headers = [("Contact", f"{contact};expires={self.grants}") for contact in request.all("Contact")]
        headers += self.answer_headers.get(request.method, ())
        body = session.sdp if session is not None and request.body and status == 200 else ""
        await self.reply(packet, sip.response(request, status, headers, body, tag=fresh_tag()))
