"""A name server for tests: answers what it was told, over UDP, as a program of its own.

    python3 -m tests.tools.dns --ip 198.18.200.53 '{"_sip._udp.trunk.test": [["SRV", 10, 1, 5060, "a.trunk.test"]],
                                                     "a.trunk.test": [["A", "198.18.200.1"]]}'

A name that it does not know does not exist (NXDOMAIN).
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import struct
from collections.abc import Sequence
from typing import Any, cast

TYPES = {"A": 1, "SRV": 33}
TTL_SECONDS = 60
RESPONSE, NXDOMAIN = 0x8400, 3

Zone = dict[str, Sequence[Sequence[Any]]]  # name → records: type, then what it has


def encode(name: str) -> bytes:
    """A domain name, label by label."""
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"


def decode(packet: bytes, at: int) -> tuple[str, int]:
    """A name without compression, and where it ends."""
    labels = []
    while length := packet[at]:
        labels.append(packet[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels).lower(), at + 1


def data(record: Sequence[Any]) -> bytes:
    """What a record has."""
    match record:
        case ["A", address]:
            return ipaddress.IPv4Address(address).packed
        case ["SRV", priority, weight, port, target]:
            return struct.pack("!HHH", priority, weight, port) + encode(target)
    raise ValueError(f"{record!r} is no A or SRV record")


def answer(query: bytes, zone: Zone) -> bytes:
    """The response to one query."""
    name, end = decode(query, 12)
    (wanted,) = struct.unpack_from("!H", query, end)
    records = [record for record in zone.get(name, ()) if TYPES[record[0]] == wanted]
    flags = RESPONSE if name in zone else RESPONSE | NXDOMAIN
    head = query[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0)
    body = b""
    for record in records:
        content = data(record)
        body += encode(name) + struct.pack("!HHIH", wanted, 1, TTL_SECONDS, len(content)) + content
    return head + query[12 : end + 4] + body


class Server(asyncio.DatagramProtocol):
    def __init__(self, zone: Zone) -> None:
        self._zone = zone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, packet: bytes, source: tuple[str, int]) -> None:
        self._transport.sendto(answer(packet, self._zone), source)


async def serve(ip: str, zone: Zone) -> None:
    """Until it is stopped."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: Server(zone), (ip, 53))
    print("listening", flush=True)  # noqa: T201  # whoever started it waits for this
    await loop.create_future()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ip", required=True)
    parser.add_argument("zone", type=json.loads)
    given = parser.parse_args()
    asyncio.run(serve(given.ip, given.zone))
