"""Who is at the other end of a link: certificates of the pool's own CA, whose DNS SAN names role, pool and namespace.

Nothing else in a certificate is looked at, and no host name or address: a pod's address says nothing about who has it.
A certificate that changes on disk (rotation) counts from the next handshake on; links that stand are left alone.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from switchboard.errors import ConfigurationError

RoleOnLink = Literal["operator", "agent"]
SUFFIX = ".switchboard"


class Identity(msgspec.Struct, frozen=True):
    """Who somebody is on a link; `san` is how a certificate says it."""

    role: RoleOnLink
    pool: str
    namespace: str

    @property
    def san(self) -> str:
        return f"{self.role}.{self.pool}.{self.namespace}{SUFFIX}"


class Credentials(msgspec.Struct, frozen=True):
    """What an end of a link shows (`certificate`, `key`) and whom it trusts (`authorities`, one or two CAs), in PEM."""

    certificate: bytes
    key: bytes
    authorities: bytes
    source: str  # where they came from, for messages: a directory or a Secret

    @classmethod
    def read(cls, directory: Path) -> Credentials:
        """Read `tls.crt`, `tls.key` and `ca.crt`, the files of a mounted Secret."""
        try:
            certificate, key, authorities = (
                (directory / name).read_bytes() for name in ("tls.crt", "tls.key", "ca.crt")
            )
        except OSError as error:
            raise ConfigurationError(
                f"{error.filename}: {error.strerror}; mount the pool's agent Secret there"
            ) from error
        return cls(certificate, key, authorities, str(directory))

    def parsed(self) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate(self.certificate)
        except ValueError as error:
            raise ConfigurationError(f"{self.source}: tls.crt is not a PEM certificate: {error}") from error

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the certificate, in hex: tells during a rotation which one a proxy has."""
        return self.parsed().fingerprint(hashes.SHA256()).hex()

    def require_valid(self, now: datetime) -> None:
        """Refuse a certificate that is out of date, before the other end does with fewer words."""
        certificate = self.parsed()
        if now >= certificate.not_valid_after_utc:
            raise ConfigurationError(
                f"{self.source}: the certificate expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; "
                "the operator issues a new one: see that it runs and may write the pool's Secrets"
            )
        if now < certificate.not_valid_before_utc:
            raise ConfigurationError(
                f"{self.source}: the certificate is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC "
                "on only; set this machine's clock"
            )

    def client_context(self) -> ssl.SSLContext:
        """For the end that dials; it must pass the SAN it expects as `server_hostname`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.hostname_checks_common_name = False
        self._load(context)
        return context

    def server_context(self) -> ssl.SSLContext:
        """For the end that listens: asks for a certificate, and leaves it to each path to insist (probes have none)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.num_tickets = 0  # a resumed session would outlive the certificate it was opened with
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            with _as_file(self.certificate + b"\n" + self.key) as path:
                context.load_cert_chain(path)
            context.load_verify_locations(cadata=self.authorities.decode())
        except (ssl.SSLError, ValueError) as error:
            raise ConfigurationError(
                f"{self.source}: certificate, key and CA do not go together ({error}); "
                "delete the Secret, the operator makes a new one"
            ) from error


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Lend `content` a path: `load_cert_chain` takes nothing else, and a key must not touch a disk."""
    descriptor = os.memfd_create("credentials")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class Keyring:
    """The credentials in a directory that may change under us, and contexts that always are of the current ones."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read()

    def _read(self) -> None:
        credentials = Credentials.read(self._directory)
        self._client = credentials.client_context()
        self._server = credentials.server_context()
        self.fingerprint = credentials.fingerprint
        self.credentials = credentials

    def reload(self) -> bool:
        """Look at the files again; true when they changed. Files that do not go together change nothing."""
        if Credentials.read(self._directory) == self.credentials:
            return False
        self._read()
        return True

    def client_context(self) -> ssl.SSLContext:
        self.credentials.require_valid(datetime.now(UTC))
        return self._client

    def server_context(self) -> ssl.SSLContext:
        """Stand for the current server context: each handshake is switched to what `reload` read last."""
        front = self.credentials.server_context()

        def switch(handshake: ssl.SSLObject, _name: str | None, _front: ssl.SSLContext) -> None:
            handshake.context = self._server

        front.sni_callback = switch
        return front


def identify(certificate: dict[str, object] | None) -> Identity | None:
    """Read the identity from a verified peer's certificate, as `getpeercert` gives it; none when it names none."""
    names = (certificate or {}).get("subjectAltName", ())
    for kind, name in names:  # type: ignore[attr-defined]  # typeshed types the certificate's fields as objects
        role, _, rest = name.removesuffix(SUFFIX).partition(".")
        pool, _, namespace = rest.rpartition(".")
        if kind == "DNS" and name.endswith(SUFFIX) and role in ("operator", "agent") and pool:
            return Identity(role, pool, namespace)
    return None
