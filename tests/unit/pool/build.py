"""Specs, readings and proxies for tests, with what a test does not care about filled in."""

from __future__ import annotations

from typing import Any

import msgspec

from switchboard.pool.parse import parse
from switchboard.pool.spec import Capacity, PoolSpec
from switchboard.pool.table import Proxy, Reading

CAPACITY = Capacity(calls=100)

# listeners, as they stand in a resource
UDP = {"transport": "UDP", "port": 5060}
TLS = {"transport": "TLS", "port": 5061, "secretName": "edge-tls"}
OUTSIDE = {"transport": "UDP", "port": 5070}  # for another network: with `advertise`


def resource(**spec: Any) -> dict[str, Any]:
    """A VoipProxyPool object; `spec` fields replace the ones here, None takes one out."""
    fields = {
        "replicas": 3,
        "capacity": {"calls": 100},
        "clients": {"networks": ["198.51.100.0/24"]},
        "proxy": {"image": "switchboard-proxy:1.0"},
        **spec,
    }
    return {"metadata": {"name": "edge"}, "spec": {name: value for name, value in fields.items() if value is not None}}


def a_spec(**spec: Any) -> PoolSpec:
    return parse(resource(**spec))


def a_reading(**fields: Any) -> Reading:
    """A proxy with 80 places of 100, 20 of them in use, that has seen tick 10."""
    known = {"boot": "b", "seq": 1, "tick": 10, "room": 60, "calls": 20, "workload": 0.2, "sampled_at": 100.0}
    return Reading(**{**known, **fields})


def a_proxy(name: str = "p", *, reading: Reading | None = None, **fields: Any) -> Proxy:
    """A ready proxy with a link."""
    known = {
        "address": "198.18.0.1",
        "port": 5060,
        "advertise": "198.18.0.1:5060",
        "created": float(ord(name[-1])),
        "ready": True,
        "link": "up",
    }
    return Proxy(**{**known, "name": name, "reading": reading or a_reading(), **fields})


def unreported(proxy: Proxy) -> Proxy:
    """The same without any report yet."""
    return msgspec.structs.replace(proxy, reading=None)
