"""The listening end of a link: dials one proxy's agent, takes in its reports, and has commands carried out there.

A `LinkClient` lives as long as its proxy does: `run` dials, and dials again when the link ends, with a growing pause.
Everything it has to tell goes to its `Listener`, in order, from the event loop's own thread: `connected`, reports,
`lost` (once per attempt that failed or link that ended). A report must be handled in microseconds: with a thousand
links there are two thousand a second.

Any frame shows that the other end lives. After two silent seconds a ping goes out, after three the link is lost.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import ssl
from asyncio import sslproto
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn, Protocol
from weakref import WeakKeyDictionary

import aiohttp
import msgspec

from switchboard.errors import (
    ConfigurationError,
    LinkError,
    LinkLostError,
    MessageError,
    ProtocolMismatchError,
    SwitchboardError,
)
from switchboard.link.codec import decode_from_agent, decode_hello, encode
from switchboard.link.messages import (
    MAX_MESSAGE_BYTES,
    Ack,
    Command,
    Hello,
    Report,
    RequestReport,
)
from switchboard.link.tls import Identity

HEARTBEAT_SECONDS = 2.0  # a ping after so much silence, and the link is lost after half as much again
DIAL_SECONDS = 3.0  # to connect, and again until the hello
CLOSE_SECONDS = 2.0
ACK_SECONDS = 5.0  # a whole table of 10,000 rows takes Kamailio well below one
PAUSE_MIN_SECONDS, PAUSE_MAX_SECONDS = 0.1, 5.0  # between dials; halved to whole at random, doubled each time

DIALS_AT_ONCE = 32  # a thousand handshakes begun together would all run into their time-outs
TLS_BUFFER_BYTES = 16 * 1024  # one TLS record; asyncio's own 256 KB for each connection are 250 MB for 1000 links
PIECE_BYTES = 4 * 1024  # of a frame, written at a time; far above what a link usually carries

_EXPIRED, _OTHER_NAME = 10, 62  # X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_HOSTNAME_MISMATCH

_REQUEST = encode(RequestReport())
_ids = itertools.count(1)
_gates: WeakKeyDictionary[aiohttp.ClientSession, asyncio.Semaphore] = WeakKeyDictionary()


def next_id() -> int:
    """Give a command its id: unique in this process, so that one encoded command can go to many links."""
    return next(_ids)


class _Pieces:
    """A transport that is written to in pieces: a TLS connection keeps room for the largest write it has ever had."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes | bytearray) -> None:
        for begin in range(0, len(data), PIECE_BYTES):
            self._transport.write(data[begin : begin + PIECE_BYTES])


class _Socket(aiohttp.ClientWebSocketResponse):
    """Every proxy is sent all its peers: written at once, that would be 40 MB for ever in a pool of 1000."""

    def __init__(self, reader: Any, writer: Any, *arguments: Any, **options: Any) -> None:
        writer.transport = _Pieces(writer.transport)
        super().__init__(reader, writer, *arguments, **options)


class Target(msgspec.Struct, frozen=True):
    """The agent to dial: where it listens (`host:port`) and what its certificate and its hello must say."""

    proxy: str
    link: str
    pool: str
    namespace: str


class Listener(Protocol):
    """Whoever wants to know about a link; called from the event loop, in order, and must not block."""

    def connected(self, link: LinkClient, hello: Hello) -> None: ...

    def reported(self, link: LinkClient, report: Report) -> None: ...

    def lost(self, link: LinkClient, error: SwitchboardError) -> None: ...


def link_session() -> aiohttp.ClientSession:
    """Make the HTTP session that all links of a process share."""
    sslproto.SSLProtocol.max_size = TLS_BUFFER_BYTES
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=None)
    session = aiohttp.ClientSession(connector=connector, timeout=timeout, ws_response_class=_Socket)
    _gates[session] = asyncio.Semaphore(DIALS_AT_ONCE)
    return session


class LinkClient:
    def __init__(
        self,
        session: aiohttp.ClientSession,
        context: Callable[[], ssl.SSLContext],
        target: Target,
        listener: Listener,
    ) -> None:
        self.target = target
        self.hello: Hello | None = None  # while the link stands
        self._session = session
        self._context = context
        self._listener = listener
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._pending: dict[int, asyncio.Future[Ack]] = {}

    async def run(self) -> NoReturn:
        """Keep the link up until cancelled."""
        pause = PAUSE_MIN_SECONDS
        while True:
            try:
                async with self._dialled() as socket:
                    pause = PAUSE_MIN_SECONDS
                    await self._listen(socket)
            except SwitchboardError as error:
                if isinstance(error, ProtocolMismatchError | ConfigurationError):
                    pause = PAUSE_MAX_SECONDS  # dialling again at once will not change it
                self._listener.lost(self, error)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  # jitter, not a secret
            pause = min(2 * pause, PAUSE_MAX_SECONDS)

    async def send(self, command: Command, frame: bytes | None = None, *, timeout_seconds: float = ACK_SECONDS) -> Ack:
        """Have `command` carried out; `frame` is its encoding, when the caller sends the same one to many.

        The ack's `error` is set when it did not come into effect. LinkLostError: nobody knows whether it did.
        """
        if self._socket is None:
            raise LinkLostError(f"{self._name}: there is no link")
        ack: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        self._pending[command.id] = ack
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._socket.send_bytes(frame or encode(command))
                return await ack
        except TimeoutError:
            what = type(command).__name__.lower()
            raise LinkLostError(f"{self._name}: no answer to `{what}` within {timeout_seconds:g} s") from None
        except ConnectionError as error:
            raise LinkLostError(f"{self._name}: {error}") from error
        finally:
            del self._pending[command.id]

    async def post(self, frame: bytes) -> None:
        """Send an encoded command whose ack nobody waits for: a tick to a thousand members."""
        if self._socket is None:
            raise LinkLostError(f"{self._name}: there is no link")
        try:
            await self._socket.send_bytes(frame)
        except ConnectionError as error:
            raise LinkLostError(f"{self._name}: {error}") from error

    async def request_report(self) -> None:
        """Ask for a report now; it comes like any other, with reason `request`."""
        await self.post(_REQUEST)

    @property
    def _name(self) -> str:
        return f"proxy {self.target.proxy} at {self.target.link}"

    @asynccontextmanager
    async def _dialled(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Dial, check who answers, and take the link down again in the end, whatever happened."""
        socket = await self._dial()
        reason = "the listener went away"
        try:
            self.hello = await self._greeted(socket)
            self._socket = socket
            self._listener.connected(self, self.hello)
            yield socket
        except MessageError as error:
            reason = str(error)
            raise
        finally:
            self._socket = self.hello = None
            for ack in self._pending.values():
                if not ack.done():
                    ack.set_exception(LinkLostError(f"{self._name}: the link ended before the answer"))
            with suppress(TimeoutError):  # it does not even take the goodbye
                await asyncio.wait_for(socket.close(message=reason.encode()[:120]), CLOSE_SECONDS)

    async def _dial(self) -> aiohttp.ClientWebSocketResponse:
        san = Identity("agent", self.target.pool, self.target.namespace).san
        try:
            async with _gates[self._session], asyncio.timeout(DIAL_SECONDS):
                return await self._session.ws_connect(
                    f"wss://{self.target.link}/v1/link",
                    ssl=self._context(),
                    server_hostname=san,
                    heartbeat=HEARTBEAT_SECONDS,
                    max_msg_size=MAX_MESSAGE_BYTES,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS / 2),
                )
        except aiohttp.ClientConnectorCertificateError as error:
            raise ConfigurationError(f"{self._name}: {_certificate_trouble(error.certificate_error, san)}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise LinkLostError(f"{self._name}: cannot dial its agent: {_words(error)}") from error

    async def _greeted(self, socket: aiohttp.ClientWebSocketResponse) -> Hello:
        try:
            frame = await socket.receive(timeout=DIAL_SECONDS)
        except TimeoutError:
            raise LinkLostError(f"{self._name}: no hello within {DIAL_SECONDS:g} s") from None
        if frame.type not in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
            raise self._ended(socket, frame)
        hello = decode_hello(frame.data)
        target = self.target
        said = f"{hello.proxy} of pool {hello.namespace}/{hello.pool}"
        meant = f"{target.proxy} of pool {target.namespace}/{target.pool}"
        if said != meant:
            raise MessageError(
                f"{target.link}: its agent says it is proxy {said}, not {meant}; "
                "the address has a new owner: take it from the pod again"
            )
        return hello

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> NoReturn:
        receive, reported = socket.receive, self._listener.reported
        while True:
            frame = await receive()
            if frame.type not in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
                raise self._ended(socket, frame)
            message = decode_from_agent(frame.data)
            if isinstance(message, Report):
                reported(self, message)
            elif isinstance(message, Ack):
                ack = self._pending.get(message.id)
                if ack is not None and not ack.done():  # it may have been given up
                    ack.set_result(message)
            else:
                raise MessageError(f"{self._name}: a second hello within one session")

    def _ended(self, socket: aiohttp.ClientWebSocketResponse, frame: aiohttp.WSMessage) -> LinkError:
        """Say in words why no further message comes."""
        if frame.type is aiohttp.WSMsgType.CLOSE and frame.data != aiohttp.WSCloseCode.OK:
            return LinkLostError(f"{self._name}: its agent closed the link: {frame.extra} ({frame.data})")
        if isinstance(frame.data, aiohttp.WebSocketError):
            return MessageError(f"{self._name}: {frame.data}")
        if isinstance(frame.data, aiohttp.ServerTimeoutError):
            return LinkLostError(f"{self._name}: silent for {1.5 * HEARTBEAT_SECONDS:g} s")
        return LinkLostError(f"{self._name}: the connection ended{_because(socket.exception())}")


def _certificate_trouble(error: Exception, san: str) -> str:
    code = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else None
    if code == _EXPIRED:
        return (
            "its agent's certificate expired; the operator issues a new one: see that it may write the pool's Secrets"
        )
    if code == _OTHER_NAME:
        return f"its agent's certificate is not for {san}; the address has a new owner: take it from the pod again"
    return f"its agent's certificate is not one of this pool's CA: {_words(error)}"


def _words(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error  # its own text has an SSL context's address in it
    return str(error) or type(error).__name__


def _because(error: BaseException | None) -> str:
    return f": {_words(error)}" if error else ""
