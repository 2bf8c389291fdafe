"""What a listener shows and asks for: versions, clients' certificates, and its own that changes while calls are up."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence

import aiohttp
import pytest

from tests.tools.addresses import CLIENTS
from tests.tools.certificates import HOST, Authority
from tests.tools.listeners import KNOWN_CLIENTS_PORT, PORTS, SECRET, uri
from tests.tools.pool import Pool, idle
from tests.tools.proxies import Proxy
from tests.tools.sip import Phone

CLIENT = f"{CLIENTS}.7"


@pytest.fixture
def proxies(listening: Sequence[Proxy], authority: Authority) -> Iterator[Sequence[Proxy]]:
    """In place of those with UDP and TCP alone; with the authority's certificate again afterwards."""
    yield listening
    listening[0].secrets({SECRET: authority.secret()})
    listening[0].control("tls.reload")


async def connect(proxy: Proxy, context: ssl.SSLContext, port: int) -> None:
    """A WebSocket over TLS, if there can be one."""
    connector = aiohttp.TCPConnector(local_addr=(CLIENT, 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        url = f"wss://{proxy.ip}:{port}/"
        async with session.ws_connect(url, protocols=["sip"], ssl=context, server_hostname=HOST):
            return


async def test_clients_that_must_show_a_certificate(pool: Pool, authority: Authority) -> None:
    """Without one there is no connection, nor with somebody else's; where it is not asked for, none is needed."""
    await connect(pool.primary, authority.client(authority.secret("phone")), KNOWN_CLIENTS_PORT)
    for wrong in (authority.client(), authority.client(Authority().secret("phone"))):
        with pytest.raises((aiohttp.ClientError, OSError)):
            await connect(pool.primary, wrong, KNOWN_CLIENTS_PORT)
        await connect(pool.primary, wrong, PORTS["wss"])


async def test_no_version_before_1_2(pool: Pool, trusting: ssl.SSLContext) -> None:
    """A client that knows TLS 1.1 at most is told so."""
    trusting.set_ciphers("ALL:@SECLEVEL=0")
    trusting.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        trusting.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(aiohttp.ClientConnectorError, match=r"(?i)alert protocol version"):
        await connect(pool.primary, trusting, PORTS["wss"])


async def test_a_certificate_changes_during_a_call(pool: Pool, pbx: Phone, trusting: ssl.SSLContext) -> None:
    """Connections that stand are left alone; those made from now on get the new certificate."""
    successor = Authority()
    async with Phone.at(f"{CLIENTS}.9", protocol="tls", tls=trusting) as carol:
        call = await carol.call(uri(pool.primary, "tls"))
        pool.primary.secrets({SECRET: successor.secret()})
        pool.primary.control("tls.reload")
        await connect(pool.primary, successor.client(), PORTS["wss"])
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await connect(pool.primary, trusting, PORTS["wss"])
        assert (await call.request("INVITE", body=call.sdp)).message.status == 200
        assert await call.bye() == 200
    await idle(*pool.proxies)
