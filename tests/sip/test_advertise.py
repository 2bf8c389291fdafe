"""A proxy that clients reach by another host than its own address: a node's, or a name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.tools import answers
from tests.tools.addresses import ADVERTISED, CLIENTS
from tests.tools.message import hop
from tests.tools.pool import Pool, contact, idle
from tests.tools.proxies import SIP_PORT, Proxy, fleet
from tests.tools.rtp import streams
from tests.tools.sip import Phone

OUTSIDE = f"{CLIENTS}.200"  # what clients are given
NAME = "edge-00001.sip.example.test"


class Translator(asyncio.DatagramProtocol):
    """An address in front of a proxy, as a node or a router translates it, for one client."""

    def __init__(self, proxy: Proxy) -> None:
        self._inside = (proxy.ip, SIP_PORT)
        self._client: tuple[str, int] | None = None
        self.passed = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # of this kind
        self._transport = transport

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        if source != self._inside:
            self._client = source
            self.passed += 1
            self._transport.sendto(data, self._inside)
        elif self._client is not None:
            self._transport.sendto(data, self._client)


@contextlib.asynccontextmanager
async def translated(proxy: Proxy) -> AsyncIterator[Translator]:
    transport, translator = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Translator(proxy), (OUTSIDE, SIP_PORT)
    )
    try:
        yield translator
    finally:
        transport.close()


@pytest.fixture(params=[OUTSIDE, NAME])
def advertising(request: pytest.FixtureRequest) -> Iterator[tuple[Proxy, str]]:
    with fleet(1, ADVERTISED, ADVERTISE=request.param) as (proxy,):
        yield proxy, request.param


async def test_clients_are_given_the_advertised_host(advertising: tuple[Proxy, str], alice: Phone, pbx: Phone) -> None:
    """It stands in the 302's Contact and in Record-Route; in SDP where it is an address: media needs one."""
    proxy, host = advertising
    pool = Pool([proxy])
    await pool.reset()
    pool.set(mode="redirect")
    redirected = await alice.call(pool.uri, follow=0)
    assert redirected.status == 302
    assert contact(redirected.transaction.responses[-1]).partition("@")[2].startswith(f"{host}:{SIP_PORT}")
    pool.set(mode="forward")
    pbx.script = answers.refuse(486)
    assert (await alice.call(pool.uri)).status == 486
    incoming = pbx.incoming[0]
    assert incoming.invite.header("Record-Route").startswith(f"<sip:{host};lr")
    media = {ip for ip, _ in streams(incoming.remote_sdp).values()}
    assert media == {host if host == OUTSIDE else proxy.ip}
    await idle(proxy)


async def test_a_call_runs_through_the_advertised_address(alice: Phone, pbx: Phone) -> None:
    """The route set leads through it and the proxy knows it as its own: ACK, re-INVITE and BYE arrive."""
    with fleet(1, ADVERTISED, ADVERTISE=OUTSIDE) as (proxy,):
        pool = Pool([proxy])
        await pool.reset()
        async with translated(proxy) as outside:
            call = await alice.call(pool.uri)
            assert (call.status, call.routes) == (200, [OUTSIDE])
            assert hop(pool.uri)[0] != OUTSIDE
            assert (await call.request("INVITE", body=call.sdp)).message.status == 200
            assert await call.bye() == 200
            assert outside.passed >= 4
        await idle(proxy)
