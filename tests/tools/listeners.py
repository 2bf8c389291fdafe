"""Proxies with a listener of every transport, and how they are called."""

from __future__ import annotations

from tests.tools.proxies import Proxy
from tests.tools.transport import Protocol

SECRET = "edge-tls"
PORTS: dict[Protocol, int] = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 8080, "wss": 8443}
KNOWN_CLIENTS_PORT = 8444  # WSS; clients must show a certificate
LISTEN = f"udp:5060 tcp:5060 tls:5061/{SECRET} ws:8080 wss:8443/{SECRET} wss:{KNOWN_CLIENTS_PORT}/{SECRET}/required"
FLOWS: list[Protocol] = ["tls", "ws", "wss"]  # clients that can be reached over their own connection alone


def uri(proxy: Proxy, protocol: Protocol) -> str:
    transport = {"udp": "", "wss": ";transport=ws"}.get(protocol, f";transport={protocol}")
    return f"sip:echo@{proxy.ip}:{PORTS[protocol]}{transport}"
