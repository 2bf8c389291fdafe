"""The Secrets of a pool, from material that `certificates` made."""

from __future__ import annotations

from base64 import b64encode

from switchboard.resources import names
from switchboard.resources.certificates import Authorities, KeyPair
from switchboard.resources.names import Manifest, PoolRef

TOKEN_KEY = "key"  # noqa: S105  the entry's name, not its value


def build_authority(pool: PoolRef, authorities: Authorities) -> Manifest:
    """`<pool>-ca`: kept by the operator, mounted nowhere."""
    return _secret(pool, names.authority(pool), "kubernetes.io/tls", authorities.as_secret())


def build_agent_tls(pool: PoolRef, certificate: KeyPair, authorities: Authorities) -> Manifest:
    """`<pool>-agent-tls`: mounted by every proxy. Certificate and trusted CAs change in one atomic step."""
    return _tls(pool, names.agent_tls(pool), certificate, authorities)


def build_operator_tls(pool: PoolRef, certificate: KeyPair, authorities: Authorities) -> Manifest:
    """`<pool>-operator-tls`: read by the operator through the API."""
    return _tls(pool, names.operator_tls(pool), certificate, authorities)


def build_token(pool: PoolRef, key: str) -> Manifest:
    """`<pool>-token`: the pool key, 64 hex digits, with which assignment tokens are signed."""
    return _secret(pool, names.token(pool), "Opaque", {TOKEN_KEY: key.encode()})


def _tls(pool: PoolRef, name: str, certificate: KeyPair, authorities: Authorities) -> Manifest:
    data = {"tls.crt": certificate.certificate, "tls.key": certificate.key, "ca.crt": authorities.bundle()}
    return _secret(pool, name, "kubernetes.io/tls", data)


def _secret(pool: PoolRef, name: str, kind: str, data: dict[str, bytes]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": names.metadata(pool, name, "proxy"),
        "type": kind,
        "data": {key: b64encode(value).decode() for key, value in data.items()},
    }
