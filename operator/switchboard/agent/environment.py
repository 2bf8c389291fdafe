"""What the agent is told by its environment and its mounted files, read once into one object."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from switchboard.errors import ConfigurationError

AGENT_PORT = 7443
_LISTENER = re.compile(r"(udp|tcp|tls|ws|wss):(\d{1,5})(?:/([a-z0-9.-]+)(/required|/optional)?)?(?:@(\S+))?$")
_KEY = re.compile(r"[0-9a-f]{64}$")


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """The pod as docs/contracts.md describes it."""

    pool: str
    proxy: str
    namespace: str
    address: str  # the pod's IP address: the agent listens there
    sip_port: int  # where peers reach Kamailio
    advertise: str  # host:port that clients are given
    media: bool  # whether there is an rtpengine
    media_address: tuple[str, int]  # its ng protocol
    run: Path
    load: Path
    settings: Path
    tls: Path
    listen: Path  # the listeners' certificates, a directory for each Secret
    secrets: dict[str, bool]  # these Secrets, each with whether certificates of others are verified by its CA
    users: Path  # the Secret of the users who authenticate; not there where none do
    credentials: Path  # our passwords at gateways, a directory for each Secret
    database: Path  # the Secret of the database with the locations; not there where there is none
    key: str  # the pool key, for the tokens' MAC

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Environment:
        """Raise ConfigurationError, naming the variable or file, when something is missing or wrong."""
        mounts = Path(environ.get("ETC_DIR", "/etc/switchboard"))
        address = _required(environ, "POD_IP")
        listeners = _listeners(_required(environ, "LISTEN"))
        port = _sip_port(listeners)
        return cls(
            pool=_required(environ, "POOL"),
            proxy=_required(environ, "POD_NAME"),
            namespace=_required(environ, "POD_NAMESPACE"),
            address=address,
            sip_port=port,
            advertise=f"{bracketed(environ.get('ADVERTISE') or address)}:{port}",
            media=bool(environ.get("MEDIA_PORTS")),
            media_address=_ng_address(environ.get("NG_ADDRESS", "127.0.0.1:2223")),
            run=Path(environ.get("RUN_DIR", "/run/switchboard")),
            load=mounts / "load" / "load.json",
            settings=mounts / "settings" / "settings.json",
            tls=mounts / "tls",
            listen=mounts / "listen",
            secrets=_secrets(listeners, environ.get("TARGET_TLS", "")),
            users=mounts / "users",
            credentials=mounts / "credentials",
            database=mounts / "database",
            key=_pool_key(mounts / "token" / "key"),
        )


def bracketed(host: str) -> str:
    """`host` as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise ConfigurationError(f"environment variable {name} is not set; the operator sets it in each proxy pod")
    return value


def _listeners(listen: str) -> list[re.Match[str]]:
    listeners = []
    for one in listen.split():
        match = _LISTENER.match(one)
        if match is None or not 0 < int(match[2]) < 65536:
            raise ConfigurationError(f"environment variable LISTEN: {one!r} is not like udp:5060 or tls:5061/edge-tls")
        listeners.append(match)
    return listeners


def _sip_port(listeners: Iterable[re.Match[str]]) -> int:
    """The first port in the proxies' own network; UDP before TCP, because that is how they speak to each other."""
    ports: dict[str, int] = {}
    for one in listeners:
        if not one[5]:
            ports.setdefault(one[1], int(one[2]))
    if "udp" not in ports and "tcp" not in ports:
        raise ConfigurationError(
            "environment variable LISTEN has neither udp nor tcp without a host, over which proxies speak"
        )
    return ports.get("udp") or ports["tcp"]


def _secrets(listeners: Iterable[re.Match[str]], of_targets: str) -> dict[str, bool]:
    secrets = {of_targets: True} if of_targets else {}
    for one in listeners:
        if one[3]:
            secrets[one[3]] = secrets.get(one[3], False) or bool(one[4])
    return secrets


def _ng_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigurationError(f"environment variable NG_ADDRESS: {text!r} is not like 127.0.0.1:2223")
    return host.strip("[]"), int(port)


def _pool_key(path: Path) -> str:
    try:
        key = path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; mount the pool's token Secret there") from error
    if not _KEY.match(key):
        raise ConfigurationError(f"{path}: not 64 hex digits; delete the Secret, the operator makes a new one")
    return key
