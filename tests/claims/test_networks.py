"""The claim on networks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from tests.claims.exchange import Exchange
from tests.cluster.test_listeners import give
from tests.sip.test_register import hop_of
from tests.tools import answers
from tests.tools.certificates import Authority
from tests.tools.message import Address
from tests.tools.nat import HOST, home, inside
from tests.tools.sip import Phone
from tests.tools.transport import Protocol

ROUTER = "198.18.141.1"
PORTS: dict[Protocol, int] = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 8080, "wss": 8443}
LISTEN = [
    {"transport": name.upper(), "port": port, **({"secretName": "edge-tls"} if name in ("tls", "wss") else {})}
    for name, port in PORTS.items()
]


async def reached(exchange: Exchange, phone: Phone, protocol: Protocol) -> None:
    """It calls through the Service, and is called back along the Path by which it registered there."""
    to: Address = (exchange.service.partition("@")[2].partition(":")[0], PORTS[protocol])
    transport = {"udp": "", "wss": ";transport=ws"}.get(protocol, f";transport={protocol}")
    call = await phone.call(f"sip:bob@voice.example.test{transport}", to=to)
    assert call.status == 200, protocol
    assert await exchange.pbx.incoming[-1].bye() == 200
    registrar, headers = f"sip:voice.example.test{transport}", [("Supported", "path")]
    register = await (await phone.request("REGISTER", registrar, to=to, headers=headers)).final()
    assert register.message.status == 200, protocol
    path = exchange.pbx.requests("REGISTER")[-1].message.all("Path")
    back = await exchange.pbx.call(phone.uri, to=hop_of(path[0]), headers=[("Route", entry) for entry in path])
    assert back.status == 200, protocol
    assert await back.bye() == 200
    assert phone.incoming[-1].ended.is_set()


async def test_c11_any_network(exchange: Exchange, address: Callable[[], str]) -> None:
    """C11: clients here and behind a router that translates, over UDP, TCP, TLS, WS, WSS, call and are called."""
    authority = Authority()
    await give(exchange.pool, authority.secret())
    home("c11", ROUTER)
    exchange.pbx.script = answers.ring_then_answer
    await exchange.open(replicas=2, listen=LISTEN)
    for protocol in PORTS:
        tls = authority.client() if protocol in ("tls", "wss") else None
        async with Phone.at(address(), protocol=protocol, tls=tls) as phone:
            await reached(exchange, phone, protocol)
    service = exchange.service.partition("@")[2].partition(":")[0]
    proxies = (await exchange.addresses()).values()
    for translated in ("udp", "tcp"):
        async with AsyncExitStack() as stack:
            with inside("c11"):
                phone = await stack.enter_async_context(Phone.at(HOST, protocol=translated, user="carol"))
                for ip in (*proxies, service) if translated == "tcp" else ():
                    await phone.endpoint.connect((ip, PORTS["tcp"]))
            await reached(exchange, phone, translated)
