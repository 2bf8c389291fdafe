"""Certificates for listeners, by an authority of the test's own: Secrets as cert-manager makes them."""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from e2e.embedded.node.volumes import publish

HOST = "edge.example.test"  # what the listeners' certificates are for
LIFE = timedelta(days=1)
Secret = Mapping[str, bytes]  # the files of one


class Authority:
    """Issues certificates; who trusts it trusts them."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        self._certificate = self._builder(self._name, self._key).add_extension(constraints, critical=True)
        self.pem = self._certificate.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def secret(self, host: str = HOST, *ips: str, uri: str = "") -> Secret:
        """A new certificate with its key, and the authority's own; it is for these addresses, or that URI, as well."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        others: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips]
        others += [x509.UniformResourceIdentifier(uri)] if uri else []
        names = x509.SubjectAlternativeName([x509.DNSName(host), *others])
        certificate = self._builder(name, key).add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        return {
            "tls.crt": certificate.public_bytes(Encoding.PEM),
            "tls.key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "ca.crt": self.pem,
        }

    def client(self, own: Secret | None = None) -> ssl.SSLContext:
        """A client that trusts this authority, and shows a certificate of its `own` where it has one."""
        context = ssl.create_default_context(cadata=self.pem.decode())
        if own is not None:
            self._show(context, own)
        return context

    def server(self, own: Secret) -> ssl.SSLContext:
        """A server that takes clients of this authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.pem.decode())
        self._show(context, own)
        return context

    @staticmethod
    def _show(context: ssl.SSLContext, own: Secret) -> None:
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(own["tls.crt"] + own["tls.key"])
            context.load_cert_chain(file.name)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + LIFE)
        )


def mount(directory: Path, secrets: Mapping[str, Secret]) -> None:
    """The volume of the listeners' certificates, as a kubelet writes it, and again when a Secret has changed."""
    directory.mkdir(parents=True, exist_ok=True)
    publish(
        directory,
        {f"{name}/{file}": (content, 0o444) for name, files in secrets.items() for file, content in files.items()},
    )
