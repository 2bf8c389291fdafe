"""A SIP socket, UDP or TCP, that keeps a record of every message that reached it, with where it came from."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from tests.tools.message import Address, Message
from tests.tools.wait import WITHIN_SECONDS

BUFFER_BYTES = 4 << 20  # a burst of calls is answered faster than a phone reads
Protocol = Literal["udp", "tcp"]


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
    """Sends and receives SIP at one address. Over TCP it connects to send, and accepts if `listening`."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.address: Address = ("", 0)
        self.log: list[Packet] = []
        self.sent: list[tuple[Address, Message]] = []
        self.on_packet: Callable[[Packet], None] = lambda _packet: None
        self._arrived = asyncio.Condition()
        self._udp: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._streams: dict[Address, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, ip: str, port: int = 0, protocol: Protocol = "udp", *, listening: bool = False) -> Endpoint:
        endpoint = cls(protocol)
        loop = asyncio.get_running_loop()
        if protocol == "udp":
            endpoint._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(endpoint), (ip, port))
            endpoint.address = endpoint._udp.get_extra_info("sockname")[:2]
            endpoint._udp.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        elif listening:
            endpoint._server = await asyncio.start_server(endpoint._accepted, ip, port)
            endpoint.address = endpoint._server.sockets[0].getsockname()[:2]
        else:
            endpoint.address = (ip, port)
        return endpoint

    async def connect(self, to: Address) -> Address:
        """Connects over TCP, if not connected already, and says from which address."""
        if to not in self._streams:
            reader, writer = await asyncio.open_connection(*to, local_addr=(self.address[0], 0))
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
        for writer in self._streams.values():
            writer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def hang_up(self, peer: Address) -> None:
        """Closes the connection with `peer`, as a client that loses its network does."""
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
            writer.close()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._endpoint.received(data, addr[:2])

    def error_received(self, exc: Exception) -> None:
        """A port that nobody listens on: the same as silence for SIP over UDP."""
