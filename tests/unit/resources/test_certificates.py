from __future__ import annotations

import ssl
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from switchboard.errors import ConfigurationError
from switchboard.resources import certificates, names
from switchboard.resources.certificates import Authorities, KeyPair, Term
from switchboard.resources.names import PoolRef

LIFETIME = timedelta(days=90)
# A real handshake looks at the real time; everything else at times given in.
START = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)

POOL = PoolRef(name="edge", namespace="voice", uid="1")


def term(serial: int, since: datetime = START) -> Term:
    return Term(serial=serial, since=since, lifetime=LIFETIME)


def authority(serial: int = 1, since: datetime = START) -> KeyPair:
    return certificates.issue_authority(certificates.generate_key(), term(serial, since))


def agent(signing: KeyPair, pool: PoolRef = POOL) -> KeyPair:
    return certificates.issue_agent(pool, signing, certificates.generate_key(), term(10))


def operator(signing: KeyPair, pool: PoolRef = POOL) -> KeyPair:
    return certificates.issue_operator(pool, signing, certificates.generate_key(), term(11))


def secret(pair: KeyPair, authorities: Authorities) -> dict[str, str]:
    """The data of the Secret that holds it."""
    plain = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": authorities.bundle()}
    return {key: b64encode(value).decode() for key, value in plain.items()}


class Handshake:
    """Mutual TLS between two ends in memory, each with its own certificate and trusted CAs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def _context(self, purpose: ssl.Purpose, pair: KeyPair, trusted: bytes) -> ssl.SSLContext:
        context = ssl.create_default_context(purpose, cadata=trusted.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        file = self._directory / "pair.pem"
        file.write_bytes(pair.certificate + pair.key)
        context.load_cert_chain(file)
        return context

    def names(self, server: KeyPair, client: KeyPair, server_name: str, trusted: bytes) -> tuple[str, str]:
        """The DNS names that each end proved: server's, client's."""
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        serving = self._context(ssl.Purpose.CLIENT_AUTH, server, trusted).wrap_bio(
            to_server, to_client, server_side=True
        )
        dialling = self._context(ssl.Purpose.SERVER_AUTH, client, trusted).wrap_bio(
            to_client, to_server, server_hostname=server_name
        )
        for end in (dialling, serving, dialling, serving):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
        return _dns(dialling), _dns(serving)


def _dns(end: ssl.SSLObject) -> str:
    certificate = end.getpeercert()
    assert certificate is not None
    alternatives: Any = certificate["subjectAltName"]
    ((kind, name),) = alternatives
    assert kind == "DNS"
    return str(name)


@pytest.fixture
def handshake(tmp_path: Path) -> Handshake:
    return Handshake(tmp_path)


def test_operator_and_agent_prove_who_they_are(handshake: Handshake) -> None:
    """A strict TLS stack accepts both ends, each by the one DNS name of its role, pool and namespace."""
    ca = authority()
    proved = handshake.names(agent(ca), operator(ca), names.agent_dns(POOL), ca.certificate)
    assert proved == ("agent.edge.voice.switchboard", "operator.edge.voice.switchboard")


def test_agents_dial_each_other(handshake: Handshake) -> None:
    """Without the operator the primary's agent is the client of its peers, with the same certificate."""
    ca = authority()
    dns = names.agent_dns(POOL)
    assert handshake.names(agent(ca), agent(ca), dns, ca.certificate) == (dns, dns)


def test_longest_names_still_make_certificates(handshake: Handshake) -> None:
    """The longest pool in the longest namespace has working certificates too."""
    longest = PoolRef(name="p" * 40, namespace="n" * 63, uid="1")
    ca = authority()
    dns = names.agent_dns(longest)
    assert handshake.names(agent(ca, longest), operator(ca, longest), dns, ca.certificate)[0] == dns


def test_the_operators_certificate_serves_nothing(handshake: Handshake) -> None:
    """Whoever got hold of the operator's certificate cannot pose as an agent."""
    ca = authority()
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake.names(operator(ca), operator(ca), names.operator_dns(POOL), ca.certificate)


def test_another_pools_certificate_is_worth_nothing(handshake: Handshake) -> None:
    """Each pool trusts its own CA alone."""
    ca, other = authority(1), authority(2)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake.names(agent(other), operator(ca), names.agent_dns(POOL), ca.certificate)


def test_both_authorities_are_trusted_during_a_rotation(handshake: Handshake) -> None:
    """While one end has a certificate of the new CA and the other of the old one, they still talk."""
    old, new = authority(1), authority(2)
    trusted = Authorities(signing=old, following=new).bundle()
    dns = names.agent_dns(POOL)
    assert handshake.names(agent(old), operator(new), dns, trusted)[0] == dns
    assert handshake.names(agent(new), operator(old), dns, trusted)[0] == dns


def test_renewal_is_due_after_two_thirds_of_the_lifetime() -> None:
    """A certificate is renewed while a third of its lifetime is left."""
    certificate = authority().certificate
    due = START + timedelta(days=60)
    assert not certificates.needs_renewal(certificate, due - timedelta(seconds=1))
    assert certificates.needs_renewal(certificate, due)


def test_fingerprints_tell_certificates_apart() -> None:
    """The fingerprint is the SHA-256 that agents report: 64 hex digits, another for another certificate."""
    ca = authority()
    one, other = (certificates.fingerprint(agent(ca).certificate) for _ in range(2))
    assert len(one) == 64
    assert one != other
    assert int(one, 16)


def test_a_sound_certificate_stays() -> None:
    """Nothing is issued anew without need: that would have every proxy load it."""
    authorities = Authorities(signing=authority())
    data = secret(agent(authorities.signing), authorities)
    assert certificates.is_current(data, authorities, START)


def test_a_certificate_that_will_not_do_is_issued_anew() -> None:
    """Run out, of another CA, beside another bundle, without its key, damaged or missing: it is not current."""
    old, new = authority(1), authority(2)
    authorities = Authorities(signing=old)
    good = secret(agent(old), authorities)
    other_key = b64encode(certificates.generate_key()).decode()
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    wrong = [
        secret(agent(new), authorities),
        secret(agent(old), Authorities(signing=old, following=new)),
        good | {"tls.key": other_key},
        good | {"tls.key": b64encode(rsa_key).decode()},
        good | {"tls.crt": b64encode(b"not a certificate").decode()},
        good | {"tls.crt": "not base64!"},
        {"tls.crt": good["tls.crt"]},
        {},
    ]
    for data in wrong:
        assert not certificates.is_current(data, authorities, START)
    assert not certificates.is_current(good, authorities, START + timedelta(days=60))


def test_an_authority_of_another_kind_is_refused_in_words_that_help() -> None:
    """A CA key that is not ours to use is an error that says what to do."""
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(ConfigurationError, match="delete its Secret"):
        certificates.issue_authority(rsa_key, term(1))


def test_an_authority_is_replaced_in_three_steps() -> None:
    """Publish the new CA, sign with it once all know it, forget the old one once none is left; one step at a time."""
    old, new = authority(1), authority(2)
    late = START + timedelta(days=60)

    def step(now: Authorities, *, everywhere: bool) -> Authorities:
        return certificates.rotate(now, late, everywhere=everywhere, new=lambda: new)

    published = Authorities(signing=old, following=new)
    switched = Authorities(signing=new, previous=old.certificate)
    assert step(Authorities(signing=old), everywhere=False) == published
    assert step(published, everywhere=False) == published
    assert step(published, everywhere=True) == switched
    assert step(switched, everywhere=False) == switched
    assert step(switched, everywhere=True) == Authorities(signing=new)


def test_an_authority_with_time_left_stays() -> None:
    """Before two thirds of its lifetime are over, nobody makes a new CA."""
    now = Authorities(signing=authority())
    assert certificates.rotate(now, START, everywhere=True, new=lambda: pytest.fail("made a new CA")) == now


def test_every_step_issues_certificates_anew() -> None:
    """No certificate of one step is current in the next, so that its fingerprint proves which CAs a proxy knows."""
    old, new = authority(1), authority(2)
    steps = [
        Authorities(signing=old),
        Authorities(signing=old, following=new),
        Authorities(signing=new, previous=old.certificate),
        Authorities(signing=new),
    ]
    for before, after in pairwise(steps):
        data = secret(agent(before.signing), before)
        assert certificates.is_current(data, before, START)
        assert not certificates.is_current(data, after, START)
