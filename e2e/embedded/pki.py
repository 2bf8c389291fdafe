"""The cluster's certificate authority: everybody verifies the API server, nobody uses a shared password."""

import datetime as dt
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from e2e.embedded.state import State

LIFETIME = dt.timedelta(days=365)
USERS = {  # kubeconfig: (user, group); the names are those Kubernetes' own RBAC rules are bound to
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
    "node": ("system:node-program", "system:masters"),
}


@dataclass(frozen=True)
class _Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def issue(self, name: x509.Name, usage: x509.ObjectIdentifier, alternative: list[x509.GeneralName]) -> bytes:
        """A key and a certificate, PEM, one after the other."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(name, self.certificate.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if alternative:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        return _pem(key) + builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def make(state: State, addresses: list[str], server: str) -> None:
    """Writes CA, API server certificate, service account keys, and a kubeconfig for each user."""
    authority = _authority()
    pem = authority.certificate.public_bytes(serialization.Encoding.PEM)
    _write(state.pki / "ca.crt", pem)
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names.append("kubernetes.default.svc.cluster.local")
    alternative: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternative += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    serving = authority.issue(_name("kube-apiserver", ""), ExtendedKeyUsageOID.SERVER_AUTH, alternative)
    _write(state.pki / "apiserver.pem", serving)
    signing = ec.generate_private_key(ec.SECP256R1())
    _write(state.pki / "service-accounts.key", _pem(signing))
    for file, (user, group) in USERS.items():
        client = state.pki / f"{file}.pem"
        _write(client, authority.issue(_name(user, group), ExtendedKeyUsageOID.CLIENT_AUTH, []))
        target = state.kubeconfig if file == "admin" else state.pki / f"{file}.kubeconfig"
        _write(target, yaml.safe_dump(_kubeconfig(server, state.pki / "ca.crt", client)).encode())


def _authority() -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("switchboard embedded cluster", "")
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _Authority(key, builder.sign(key, hashes.SHA256()))


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
    )


def _name(common: str, organization: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organization:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def _kubeconfig(server: str, authority: Path, client: Path) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "embedded", "cluster": {"server": server, "certificate-authority": str(authority)}}],
        "users": [{"name": "me", "user": {"client-certificate": str(client), "client-key": str(client)}}],
        "contexts": [{"name": "embedded", "context": {"cluster": "embedded", "user": "me"}}],
        "current-context": "embedded",
    }


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
