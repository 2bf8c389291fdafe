"""A SIP socket over any transport that keeps a record of every message that reached it, with where it came from."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp

from tests.tools.certificates import HOST
from tests.tools.message import Address, Message
from tests.tools.wait import WITHIN_SECONDS

CLOSE_SECONDS = 2.0
BUFFER_BYTES = 4 << 20  # a burst of calls is answered faster than a phone reads
Protocol = Literal["udp", "tcp", "tls", "ws", "wss"]


class SipTimeoutError(AssertionError):
    """A message that the test waits for did not come; the text shows what came instead."""


@dataclass(frozen=True)
class Packet:
    """One message as it arrived."""

    at: float  # the event loop's clock, in seconds
    source: Address
    message: Message
    raw: bytes


class Endpoint:
    """Sends and receives SIP at one address. Over TCP and TLS it connects to send; over TCP it accepts if `listening`.

    In a WebSocket it does as a browser does: it has no address to tell anybody, and all goes over one connection.
    """

    def __init__(self, protocol: Protocol, tls: ssl.SSLContext | None = None) -> None:
        self.protocol = protocol
        self.tls = tls
        self.address: Address = ("", 0)
        self.log: list[Packet] = []
        self.sent: list[tuple[Address, Message]] = []
        self.on_packet: Callable[[Packet], None] = lambda _packet: None
        self._arrived = asyncio.Condition()
        self._udp: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._streams: dict[Address, asyncio.StreamWriter] = {}
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._invalid = f"{secrets.token_hex(6)}.invalid"
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(
        cls,
        ip: str,
        port: int = 0,
        protocol: Protocol = "udp",
        *,
        listening: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> Endpoint:
        endpoint = cls(protocol, tls)
        loop = asyncio.get_running_loop()
        if protocol == "udp":
            endpoint._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(endpoint), (ip, port))
            endpoint.address = endpoint._udp.get_extra_info("sockname")[:2]
            endpoint._udp.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        elif listening:
            endpoint._server = await asyncio.start_server(endpoint._accepted, ip, port, ssl=tls)
            endpoint.address = endpoint._server.sockets[0].getsockname()[:2]
        else:
            endpoint.address = (ip, port)
        return endpoint

    @property
    def sent_by(self) -> str:
        """The host and port that it gives as its own."""
        ip, port = self.address
        host = f"[{ip}]" if ":" in ip else ip
        return self._invalid if self.protocol in ("ws", "wss") else f"{host}:{port}"

    async def connect(self, to: Address) -> Address:
        """Connects, if not connected already, and says from which address."""
        if self.protocol in ("ws", "wss"):
            if self._socket is None:
                await self._open_socket(to)
            return self.address
        if to not in self._streams:
            name = HOST if self.tls is not None else None
            local = (self.address[0], 0)
            reader, writer = await asyncio.open_connection(*to, local_addr=local, ssl=self.tls, server_hostname=name)
            self._streams[to] = writer
            self._start(self._read(reader, writer, to))
            if self._server is None:
                self.address = writer.get_extra_info("sockname")[:2]
        own: Address = self._streams[to].get_extra_info("sockname")[:2]
        return own

    async def send(self, message: Message, to: Address) -> None:
        self.sent.append((to, message))
        await self.send_raw(message.encode(), to)

    async def send_raw(self, data: bytes, to: Address) -> None:
        if self._udp is not None:
            self._udp.sendto(data, to)
            return
        await self.connect(to)
        if self._socket is not None:
            await self._socket.send_str(data.decode())
            return
        self._streams[to].write(data)
        await self._streams[to].drain()

    async def until(self, accept: Callable[[Packet], bool], within: float = WITHIN_SECONDS, since: int = 0) -> Packet:
        """The first packet from number `since` on that `accept` takes; waits at most `within` seconds for it."""
        seen = since

        def found() -> Packet | None:
            nonlocal seen
            for packet in self.log[seen:]:
                seen += 1
                if accept(packet):
                    return packet
            return None

        try:
            async with asyncio.timeout(within), self._arrived:
                while True:
                    packet = found()
                    if packet is not None:
                        return packet
                    await self._arrived.wait()
        except TimeoutError:
            raise SipTimeoutError(
                f"nothing fitting within {within} s at {self.address}; came:\n{self.seen()}"
            ) from None

    def seen(self) -> str:
        """What arrived, a line each, for messages of failed tests."""
        lines = []
        for packet in self.log:
            ip, port = packet.source
            about = f"{packet.message.header('CSeq')}, {packet.message.call_id}"
            lines.append(f"  {packet.at:.3f} {ip}:{port} {packet.message.start} ({about})")
        return "\n".join(lines)

    async def close(self) -> None:
        if self._udp is not None:
            self._udp.close()
        if self._server is not None:
            self._server.close()
        await asyncio.gather(*map(_close, list(self._streams.values())))
        if self._socket is not None:
            await self._socket.close()
        if self._session is not None:
            await self._session.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def hang_up(self, peer: Address) -> None:
        """Closes the connection with `peer`, as a client that loses its network does."""
        if self._socket is not None:
            await self._socket.close()
            self._socket = None
            return
        writer = self._streams.pop(peer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def received(self, data: bytes, source: Address) -> None:
        if not data.strip():  # keep-alive
            return
        packet = Packet(asyncio.get_running_loop().time(), source, Message.parse(data), data)
        self.log.append(packet)
        self.on_packet(packet)
        self._start(self._wake())

    async def _wake(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()

    async def _open_socket(self, to: Address) -> None:
        if self._session is None:
            connector = aiohttp.TCPConnector(local_addr=(self.address[0], 0))
            self._session = aiohttp.ClientSession(connector=connector)
        host = f"[{to[0]}]" if ":" in to[0] else to[0]
        url = f"{self.protocol}://{host}:{to[1]}/"
        socket = await self._session.ws_connect(url, protocols=["sip"], ssl=self.tls or True, server_hostname=HOST)
        assert socket.protocol == "sip", f"{url} speaks {socket.protocol}"
        self._socket = socket
        self.address = socket.get_extra_info("sockname")[:2]
        self._start(self._read_socket(socket, to))

    async def _read_socket(self, socket: aiohttp.ClientWebSocketResponse, to: Address) -> None:
        async for frame in socket:
            self.received(frame.data if isinstance(frame.data, bytes) else frame.data.encode(), to)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: Address = writer.get_extra_info("peername")[:2]
        self._streams[peer] = writer
        self._start(self._read(reader, writer, peer))

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Address) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?im)^(?:Content-Length|l)\s*:\s*(\d+)", head)
                body = await reader.readexactly(int(length.group(1))) if length else b""
                self.received(head.lstrip(b"\r\n") + body, peer)
        except (asyncio.IncompleteReadError, ConnectionError):
            if self._streams.get(peer) is writer:
                del self._streams[peer]
        finally:
            await _close(writer)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Translated(Endpoint):
    """Behind NAT: it gives an address of its own network for its own."""

    @property
    def sent_by(self) -> str:
        return "192.0.2.9:5060"


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._endpoint.received(data, addr[:2])

    def error_received(self, exc: Exception) -> None:
        """A port that nobody listens on: the same as silence for SIP over UDP."""


async def _close(writer: asyncio.StreamWriter) -> None:
    """Returns when the connection is closed; over TLS, too, where both sides say goodbye."""
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await writer.wait_closed()
    except (TimeoutError, OSError):
        writer.transport.abort()
