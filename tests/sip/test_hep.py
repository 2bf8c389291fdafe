"""Copies of the SIP messages for a HEP collector, from which a whole call can be seen at once."""

from __future__ import annotations

import asyncio

from tests.tools.addresses import TRACED
from tests.tools.pool import Pool, idle
from tests.tools.proxies import fleet
from tests.tools.sip import Phone
from tests.tools.wait import until

COLLECTOR = f"{TRACED}.200"


class Collector(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.packets: list[bytes] = []

    def datagram_received(self, data: bytes, _source: tuple[str, int]) -> None:
        self.packets.append(data)


async def test_a_collector_sees_both_sides_of_a_call(alice: Phone, pbx: Phone) -> None:
    """Each message as the proxy got it and as it sent it on, in HEP version 3, all under one Call-ID."""
    loop = asyncio.get_running_loop()
    transport, collector = await loop.create_datagram_endpoint(Collector, (COLLECTOR, 9060))
    try:
        with fleet(1, TRACED, HEP_COLLECTOR=f"{COLLECTOR}:9060") as (proxy,):
            pool = Pool([proxy])
            await pool.reset()
            call = await alice.call(pool.uri)
            assert await call.bye() == 200
            await idle(proxy)
            ours = f"Call-ID: {call.call_id}".encode()

            def seen(method: bytes) -> int:
                return sum(method in packet and ours in packet for packet in collector.packets)

            for method in (b"INVITE sip:", b"ACK sip:", b"BYE sip:"):
                await until(lambda method=method: seen(method) == 2, f"{method!r} in and out")
            assert all(packet.startswith(b"HEP3") for packet in collector.packets)
    finally:
        transport.close()
