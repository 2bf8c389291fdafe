"""What the operator's process is told by its environment: each setting with its unit, default and reason."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

import msgspec

from switchboard.errors import ConfigurationError


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Times that no one needs to change per installation are class constants of the modules that use them."""

    watch_namespaces: tuple[str, ...] = ()
    """WATCH_NAMESPACES, comma-separated; empty: all. A namespaced installation needs no cluster-wide rights."""

    identity: str
    """IDENTITY: who holds the Lease; default the host name, which in a pod is the pod's name."""

    lease_name: str = "switchboard-operator"
    """LEASE_NAME: operators that share it take turns; two installations in one cluster need two names."""

    lease_namespace: str = "switchboard-system"
    """LEASE_NAMESPACE: where the Lease is; default POD_NAMESPACE, so that it lies beside the operator."""

    lease_seconds: float = 3.0
    """LEASE_SECONDS: how long a dead operator is waited for. Kubernetes' own controllers wait for 15 s, but here a pool
    is without failover meanwhile; and a holder that loses the Lease to a slow API server costs one round of links."""

    resync_seconds: float = 30.0
    """RESYNC_SECONDS: every pool is reconciled at least this often, should an event have been missed."""

    http_port: int = 8080
    """HTTP_PORT: /metrics and /healthz; 0 takes a free one (tests)."""

    log_level: str = "INFO"
    """LOG_LEVEL: one of Python's level names."""


_PARSERS: dict[str, tuple[str, Callable[[str], object]]] = {
    "WATCH_NAMESPACES": (
        "watch_namespaces",
        lambda text: tuple(name.strip() for name in text.split(",") if name.strip()),
    ),
    "IDENTITY": ("identity", str),
    "LEASE_NAME": ("lease_name", str),
    "LEASE_NAMESPACE": ("lease_namespace", str),
    "LEASE_SECONDS": ("lease_seconds", float),
    "RESYNC_SECONDS": ("resync_seconds", float),
    "HTTP_PORT": ("http_port", int),
    "LOG_LEVEL": ("log_level", str),
}


def from_environment(environment: Mapping[str, str]) -> Settings:
    """The settings, or a ConfigurationError that names the variable at fault."""
    values: dict[str, object] = {"identity": socket.gethostname()}
    if environment.get("POD_NAMESPACE"):
        values["lease_namespace"] = environment["POD_NAMESPACE"]
    for variable, (field, parse) in _PARSERS.items():
        text = environment.get(variable, "")
        if not text:
            continue
        try:
            values[field] = parse(text)
        except ValueError:
            raise ConfigurationError(f"{variable}={text!r} is not a number; set it to one or leave it out") from None
    settings = msgspec.convert(values, Settings)
    if settings.lease_seconds < 1 or settings.resync_seconds < 1:
        raise ConfigurationError("LEASE_SECONDS and RESYNC_SECONDS must be at least 1")
    return settings
