"""A pool's secrets: the pool key, the certificate authority and the two certificates, made once and renewed in time.

The rules are in resources/certificates; here is where they meet the Secrets that exist. A Secret that is damaged or
gone is made anew: a lost authority starts over, which costs the links one reconnect and the calls nothing.
"""

from __future__ import annotations

import logging
import secrets
from base64 import b64decode
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography import x509

from switchboard.control.kube import Object
from switchboard.control.metrics import CERTIFICATE_EXPIRY
from switchboard.control.owned import Id, Owned
from switchboard.errors import ConfigurationError
from switchboard.link.tls import Credentials
from switchboard.resources import certificates, names
from switchboard.resources.certificates import Authorities, KeyPair, Term
from switchboard.resources.names import PoolRef
from switchboard.resources.secrets import TOKEN_KEY, build_agent_tls, build_authority, build_operator_tls, build_token

logger = logging.getLogger(__name__)

AUTHORITY_LIFE = timedelta(days=3 * 365)
CERTIFICATE_LIFE = timedelta(days=90)
BACKDATED = timedelta(minutes=5)  # for machines whose clock is behind
KEY_BYTES = 32


class Lifetimes(msgspec.Struct, frozen=True):
    """How long what is issued from now on is valid; renewed after two thirds."""

    authority: timedelta = AUTHORITY_LIFE
    certificate: timedelta = CERTIFICATE_LIFE


DEFAULT_LIFETIMES = Lifetimes()


async def ensure_secrets(
    owned: Owned,
    pool: PoolRef,
    observed: Mapping[Id, Object],
    shown: Collection[str],
    lifetimes: Lifetimes = DEFAULT_LIFETIMES,
) -> Credentials:
    """Brings the four Secrets up to date; `shown`: the fingerprints that the proxies' reports carry.

    Returns what the operator shows and trusts on this pool's links.
    """
    latest = owned.latest(observed)
    now = datetime.now(UTC)
    await owned.ensure(build_token(pool, _token(latest.get(("Secret", names.token(pool))))), observed)

    agent_secret = latest.get(("Secret", names.agent_tls(pool)))
    before = _authorities(latest.get(("Secret", names.authority(pool))))
    authorities = before or Authorities(signing=_new_authority(lifetimes, now))
    if before is not None and agent_secret is not None:
        everywhere = certificates.is_current(agent_secret["data"], before, now) and _everywhere(agent_secret, shown)
        authorities = certificates.rotate(
            before, now, everywhere=everywhere, new=lambda: _new_authority(lifetimes, now)
        )
        if authorities != before:
            logger.info("%s/%s: the certificate authority rotates", pool.namespace, pool.name)
    await owned.ensure(build_authority(pool, authorities), observed)

    agent = _current(agent_secret, authorities, now)
    if agent is None:
        agent = certificates.issue_agent(
            pool, authorities.signing, certificates.generate_key(), _term(lifetimes.certificate, now)
        )
    await owned.ensure(build_agent_tls(pool, agent, authorities), observed)

    operator = _current(latest.get(("Secret", names.operator_tls(pool))), authorities, now)
    if operator is None:
        operator = certificates.issue_operator(
            pool, authorities.signing, certificates.generate_key(), _term(lifetimes.certificate, now)
        )
    await owned.ensure(build_operator_tls(pool, operator, authorities), observed)
    _tell_expiry(pool, authority=authorities.signing, agent=agent, operator=operator)
    source = f"Secret {pool.namespace}/{names.operator_tls(pool)}"
    return Credentials(operator.certificate, operator.key, authorities.bundle(), source)


def _tell_expiry(pool: PoolRef, **pairs: KeyPair) -> None:
    for kind, pair in pairs.items():
        expires = x509.load_pem_x509_certificate(pair.certificate).not_valid_after_utc
        CERTIFICATE_EXPIRY.labels(pool.namespace, pool.name, kind).set(expires.timestamp())


def _everywhere(agent_secret: Object, shown: Collection[str]) -> bool:
    fingerprint = certificates.fingerprint(b64decode(agent_secret["data"]["tls.crt"]))
    return all(one == fingerprint for one in shown)


def _token(secret: Object | None) -> str:
    """The pool key that there is, or a new one; one that is damaged would let no token pass."""
    try:
        text = b64decode((secret or {})["data"][TOKEN_KEY]).decode()
        if len(bytes.fromhex(text)) == KEY_BYTES:
            return text
    except (KeyError, TypeError, ValueError):
        pass
    return secrets.token_hex(KEY_BYTES)


def _authorities(secret: Object | None) -> Authorities | None:
    try:
        found = Authorities.from_secret((secret or {})["data"])
        certificates.needs_renewal(found.signing.certificate, datetime.now(UTC))
    except (KeyError, TypeError, ValueError, ConfigurationError):
        return None
    return found


def _current(secret: Object | None, authorities: Authorities, now: datetime) -> KeyPair | None:
    data = (secret or {}).get("data") or {}
    if not certificates.is_current(data, authorities, now):
        return None
    return KeyPair(certificate=b64decode(data["tls.crt"]), key=b64decode(data["tls.key"]))


def _new_authority(lifetimes: Lifetimes, now: datetime) -> KeyPair:
    return certificates.issue_authority(certificates.generate_key(), _term(lifetimes.authority, now))


def _term(lifetime: timedelta, now: datetime) -> Term:
    return Term(serial=x509.random_serial_number(), since=now - BACKDATED, lifetime=lifetime + BACKDATED)
