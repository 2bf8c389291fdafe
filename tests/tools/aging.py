"""Certificates in the last third of their life, for tests of their renewal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509

from switchboard.resources import certificates
from switchboard.resources.certificates import Authorities, Term
from switchboard.resources.names import Manifest, PoolRef
from switchboard.resources.secrets import build_agent_tls, build_authority, build_operator_tls


def aged(pool: PoolRef) -> tuple[Manifest, ...]:
    """Secrets of a pool: an authority that is to be renewed, which has issued fresh certificates."""
    now = datetime.now(UTC)
    old = Term(serial=x509.random_serial_number(), since=now - timedelta(days=900), lifetime=timedelta(days=1000))
    new = Term(serial=x509.random_serial_number(), since=now - timedelta(hours=1), lifetime=timedelta(days=90))
    authority = certificates.issue_authority(certificates.generate_key(), old)
    authorities = Authorities(signing=authority)
    agent = certificates.issue_agent(pool, authority, certificates.generate_key(), new)
    operator = certificates.issue_operator(pool, authority, certificates.generate_key(), new)
    return (
        build_authority(pool, authorities),
        build_agent_tls(pool, agent, authorities),
        build_operator_tls(pool, operator, authorities),
    )


def renewed(authority: Manifest) -> bool:
    """Whether the Secret holds one authority alone, which is not to be renewed."""
    data = authority["data"]
    signing = Authorities.from_secret(data).signing
    alone = set(data) == {"tls.crt", "tls.key"}
    return alone and not certificates.needs_renewal(signing.certificate, datetime.now(UTC))
