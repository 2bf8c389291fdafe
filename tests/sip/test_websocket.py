"""How a WebSocket begins: what the port for it takes, and what it answers to everybody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import aiohttp
import pytest

from tests.tools.addresses import CLIENTS, STRANGERS
from tests.tools.listeners import PORTS
from tests.tools.pool import Pool
from tests.tools.proxies import Proxy

CLIENT, STRANGER = f"{CLIENTS}.7", f"{STRANGERS}.7"
PAGE = "https://phone.example.com"
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "sip",
}


@pytest.fixture
def proxies(listening: Sequence[Proxy]) -> Sequence[Proxy]:
    """In place of those with UDP and TCP alone."""
    return listening


async def get(
    proxy: Proxy, path: str = "/", port: int = PORTS["ws"], source: str = CLIENT, headers: Mapping[str, str] = HANDSHAKE
) -> int:
    """The status of the answer to an HTTP request."""
    connector = aiohttp.TCPConnector(local_addr=(source, 0))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"http://{proxy.ip}:{port}{path}", headers=headers) as response,
    ):
        return response.status


@pytest.mark.parametrize("path", ["/", "/ws", "/ws?session=7"])
async def test_a_websocket_begins(pool: Pool, path: str) -> None:
    """At / and /ws, with sub-protocol sip."""
    assert await get(pool.primary, path) == 101


async def test_plain_http_is_told_what_the_port_is_for(pool: Pool) -> None:
    """A browser that is pointed at the port shows a line, not nothing."""
    assert await get(pool.primary, headers={}) == 426


@pytest.mark.parametrize("offered", ["msrp", "sipx", "xsip"])
async def test_no_other_protocol(pool: Pool, offered: str) -> None:
    assert await get(pool.primary, headers=HANDSHAKE | {"Sec-WebSocket-Protocol": offered}) == 400


async def test_one_of_several_protocols(pool: Pool) -> None:
    """A client may offer more than it needs."""
    assert await get(pool.primary, headers=HANDSHAKE | {"Sec-WebSocket-Protocol": "msrp, sip"}) == 101


async def test_nothing_else_is_served(pool: Pool) -> None:
    """No other path, and no WebSocket on a port for SIP over TCP."""
    assert await get(pool.primary, "/admin") == 404
    assert await get(pool.primary, port=PORTS["tcp"]) == 404


async def test_strangers_get_no_websocket(pool: Pool) -> None:
    """Who is in no network of the pool is refused before anything is set up for it, and counted."""
    assert await get(pool.primary, source=STRANGER) == 403
    assert pool.primary.count("denied") == 1


async def test_pages_that_may_connect(pool: Pool) -> None:
    """Where origins are named, a browser with another page is refused; what sends no origin is no browser."""
    assert await get(pool.primary, headers=HANDSHAKE | {"Origin": "https://elsewhere.example"}) == 101
    pool.primary.control.set("origin", PAGE, 1)
    pool.primary.set(origins=1)
    assert await get(pool.primary, headers=HANDSHAKE | {"Origin": "https://elsewhere.example"}) == 403
    assert await get(pool.primary, headers=HANDSHAKE | {"Origin": f"{PAGE}.elsewhere.example"}) == 403
    assert await get(pool.primary, headers=HANDSHAKE | {"Origin": PAGE}) == 101
    assert await get(pool.primary) == 101


async def test_a_proxy_that_is_not_configured_yet(pool: Pool) -> None:
    """The client is told to come again."""
    pool.primary.set(ready=0)
    assert await get(pool.primary) == 503
