"""The pool's certificate authority, and the two certificates it signs: the agents' and the operator's.

Who somebody is, is a DNS SAN (`names.agent_dns`, `names.operator_dns`); nothing else is checked. Keys, serials and
times are given in, so the same arguments describe the same certificate; only ECDSA's own nonce differs.

Replacing the authority, without a moment in which anybody refuses anybody (`rotate`, one step a call):

1. the new CA is published beside the old one and signs nothing yet;
2. once every proxy shows a certificate issued since (it lies in one Secret with the CAs, so the CAs are known too),
   the new CA signs and the old one is still trusted;
3. once every proxy shows a certificate of the new CA, the old one is forgotten.

Each step changes the bundle of trusted CAs, and a certificate beside another bundle is not current (`is_current`): it
is issued anew, and its fingerprint in the reports tells which bundle a proxy knows.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from switchboard.errors import ConfigurationError
from switchboard.resources import names
from switchboard.resources.names import PoolRef

RENEW_AFTER = 2 / 3  # of the lifetime: the last third is left for a renewal that does not succeed at once


class KeyPair(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate and its key, both PEM."""

    certificate: bytes
    key: bytes


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """What tells one certificate from another of the same holder."""

    serial: int
    since: datetime  # with time zone; a little before now, for clocks that are behind
    lifetime: timedelta


class Authorities(msgspec.Struct, frozen=True, kw_only=True):
    """The CA that signs; during a rotation also the one that is to follow, or the one that went before."""

    signing: KeyPair
    following: KeyPair | None = None
    previous: bytes | None = None  # certificate alone: it signs no more

    def bundle(self) -> bytes:
        """All CAs to trust now, PEM."""
        following = self.following.certificate if self.following else b""
        return self.signing.certificate + following + (self.previous or b"")

    def as_secret(self) -> dict[str, bytes]:
        data = {"tls.crt": self.signing.certificate, "tls.key": self.signing.key}
        if self.following:
            data |= {"following.crt": self.following.certificate, "following.key": self.following.key}
        if self.previous:
            data["previous.crt"] = self.previous
        return data

    @classmethod
    def from_secret(cls, data: Mapping[str, str]) -> Authorities:
        """From a Secret's `data` (base64), as the API server returns it."""
        plain = {key: b64decode(value) for key, value in data.items()}
        following = None
        if "following.crt" in plain:
            following = KeyPair(certificate=plain["following.crt"], key=plain["following.key"])
        signing = KeyPair(certificate=plain["tls.crt"], key=plain["tls.key"])
        return cls(signing=signing, following=following, previous=plain.get("previous.crt"))


def generate_key() -> bytes:
    """A new private key (ECDSA P-256), PEM. The one function here that draws random numbers for others to pass in."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def issue_authority(key: bytes, term: Term) -> KeyPair:
    """A self-signed CA. Its name holds its serial, so that old and new are told apart during a rotation."""
    private = _load_key(key)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"switchboard pool CA {term.serial:x}")])
    builder = (
        _builder(private.public_key(), name, name, term)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    return _sign(builder, private, key)


def issue_agent(pool: PoolRef, authority: KeyPair, key: bytes, term: Term) -> KeyPair:
    """For a proxy's agent, which serves its links and, without the operator, dials its peers."""
    usages = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    return _issue(_Holder(role="agent", dns=names.agent_dns(pool), usages=usages), authority, key, term)


def issue_operator(pool: PoolRef, authority: KeyPair, key: bytes, term: Term) -> KeyPair:
    """For the operator, which dials agents and serves nothing with it."""
    usages = (ExtendedKeyUsageOID.CLIENT_AUTH,)
    return _issue(_Holder(role="operator", dns=names.operator_dns(pool), usages=usages), authority, key, term)


def needs_renewal(certificate: bytes, now: datetime) -> bool:
    """Whether two thirds of its lifetime are over."""
    parsed = _load(certificate)
    start, end = parsed.not_valid_before_utc, parsed.not_valid_after_utc
    return now >= start + RENEW_AFTER * (end - start)


def fingerprint(certificate: bytes) -> str:
    """SHA-256 over the certificate, as hex digits: what reports carry."""
    return _load(certificate).fingerprint(hashes.SHA256()).hex()


def is_current(secret: Mapping[str, str], authorities: Authorities, now: datetime) -> bool:
    """Whether a certificate's Secret (its `data`) may stay: this CA's signature, these trusted CAs, time left."""
    try:
        plain = {key: b64decode(secret[key]) for key in ("tls.crt", "tls.key", "ca.crt")}
        certificate = _load(plain["tls.crt"])
        certificate.verify_directly_issued_by(_load(authorities.signing.certificate))
        own_key = _load_key(plain["tls.key"]).public_key() == certificate.public_key()
    except (KeyError, ValueError, InvalidSignature, ConfigurationError):
        return False  # damaged or of another CA: issued anew
    return own_key and plain["ca.crt"] == authorities.bundle() and not needs_renewal(plain["tls.crt"], now)


def rotate(authorities: Authorities, now: datetime, *, everywhere: bool, new: Callable[[], KeyPair]) -> Authorities:
    """The next step of replacing the authority, or the same as before when it is not time for one.

    `everywhere`: every proxy of the pool shows the certificate that is now in its Secret, and that one is current.
    """
    if authorities.following is not None:
        if not everywhere:
            return authorities
        return Authorities(signing=authorities.following, previous=authorities.signing.certificate)
    if authorities.previous is not None:
        return Authorities(signing=authorities.signing) if everywhere else authorities
    if needs_renewal(authorities.signing.certificate, now):
        return Authorities(signing=authorities.signing, following=new())
    return authorities


class _Holder(msgspec.Struct, frozen=True, kw_only=True):
    role: str
    dns: str
    usages: tuple[x509.ObjectIdentifier, ...]


def _issue(holder: _Holder, authority: KeyPair, key: bytes, term: Term) -> KeyPair:
    issuer = _load(authority.certificate)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"switchboard {holder.role}")])
    signer = _load_key(authority.key)
    builder = (
        _builder(_load_key(key).public_key(), subject, issuer.subject, term)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(holder.usages), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(holder.dns)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return _sign(builder, signer, key)


def _builder(
    public: ec.EllipticCurvePublicKey, subject: x509.Name, issuer: x509.Name, term: Term
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(term.serial)
        .not_valid_before(term.since)
        .not_valid_after(term.since + term.lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(builder: x509.CertificateBuilder, signer: ec.EllipticCurvePrivateKey, key: bytes) -> KeyPair:
    certificate = builder.sign(signer, hashes.SHA256())
    return KeyPair(certificate=certificate.public_bytes(serialization.Encoding.PEM), key=key)


def _load(certificate: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(certificate)


def _load_key(key: bytes) -> ec.EllipticCurvePrivateKey:
    loaded = serialization.load_pem_private_key(key, password=None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise ConfigurationError("a pool's key is not an elliptic curve key; delete its Secret to have a new one made")
    return loaded
