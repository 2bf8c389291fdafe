"""RTP for tests: one stream of voice and one of video, counted in both directions, and the SDP that describes them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.tools.message import Address

KINDS = ("audio", "video")
PAYLOAD_TYPES = {"audio": 0, "video": 96}
PAYLOAD_BYTES = {"audio": 160, "video": 900}
HEADER = struct.Struct("!BBHII")


def describe(ip: str, audio: int = 16000, video: int = 16002, direction: str = "sendrecv") -> str:
    """An SDP with G.711 voice and VP8 video."""
    place = f"IN IP{6 if ':' in ip else 4} {ip}"
    lines = [
        "v=0",
        f"o=- {secrets.randbelow(10**9)} 1 {place}",
        "s=-",
        f"c={place}",
        "t=0 0",
        f"m=audio {audio} RTP/AVP 0",
        "a=rtpmap:0 PCMU/8000",
        f"a={direction}",
        f"m=video {video} RTP/AVP 96",
        "a=rtpmap:96 VP8/90000",
        f"a={direction}",
    ]
    return "\r\n".join(lines) + "\r\n"


def streams(sdp: str) -> dict[str, Address]:
    """Where an SDP wants its media: kind → address. A media line without its own c= takes the session's."""
    session, *sections = re.split(r"(?m)^(?=m=)", sdp)
    found: dict[str, Address] = {}
    for section in sections:
        kind, port = section[2:].split()[:2]
        place = re.search(r"(?m)^c=IN IP[46] (\S+)", section) or re.search(r"(?m)^c=IN IP[46] (\S+)", session)
        if place is not None:
            found[kind] = (place.group(1), int(port))
    return found


@dataclass
class Stream(asyncio.DatagramProtocol):
    """One RTP stream: its socket, what it sent and what reached it."""

    kind: str
    echo: bool = False  # send back what arrives
    transport: asyncio.DatagramTransport | None = None
    address: Address = ("", 0)
    sent: int = 0
    received: int = 0
    sources: set[Address] = field(default_factory=set)
    sequences: set[int] = field(default_factory=set)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if len(data) < HEADER.size or data[0] >> 6 != 2 or data[1] & 0x7F != PAYLOAD_TYPES[self.kind]:
            return  # RTCP and the like
        self.received += 1
        self.sources.add(addr[:2])
        self.sequences.add(HEADER.unpack_from(data)[2])
        if self.echo and self.transport is not None:
            self.sent += 1
            self.transport.sendto(data, addr)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens at the other end (any more)."""

    def send(self, to: Address) -> None:
        assert self.transport is not None
        header = HEADER.pack(0x80, PAYLOAD_TYPES[self.kind], self.sent & 0xFFFF, self.sent * 160, 0x5157)
        self.sent += 1
        self.transport.sendto(header + bytes(PAYLOAD_BYTES[self.kind]), to)


class Media:
    """A phone's microphone and camera, loudspeaker and screen."""

    def __init__(self, *, echo: bool = False) -> None:
        self.streams = {kind: Stream(kind, echo) for kind in KINDS}

    @classmethod
    @contextlib.asynccontextmanager
    async def at(cls, ip: str, *, echo: bool = False) -> AsyncIterator[Media]:
        media = cls(echo=echo)
        loop = asyncio.get_running_loop()
        for stream in media.streams.values():
            stream.transport, _ = await loop.create_datagram_endpoint(lambda stream=stream: stream, (ip, 0))  # type: ignore[misc]  # the default binds the loop's variable
            stream.address = stream.transport.get_extra_info("sockname")[:2]
        try:
            yield media
        finally:
            for stream in media.streams.values():
                if stream.transport is not None:
                    stream.transport.close()

    @property
    def sdp(self) -> str:
        audio, video = (self.streams[kind].address for kind in KINDS)
        return describe(audio[0], audio[1], video[1])

    async def send(self, remote_sdp: str, packets: int = 25, interval_seconds: float = 0.01) -> None:
        """Sends that many packets on each stream to where the other side's SDP wants them, if it does."""
        targets = streams(remote_sdp)
        for _ in range(packets):
            for kind, target in targets.items():
                self.streams[kind].send(target)
            await asyncio.sleep(interval_seconds)  # the pace of a codec, not synchronisation

    def counts(self) -> dict[str, tuple[int, int]]:
        """Packets sent and received, by kind."""
        return {kind: (stream.sent, stream.received) for kind, stream in self.streams.items()}
