"""The Secrets that a pool names, for its encrypted listeners, its users, its passwords at gateways and its database:
whether they are there, and fit to be used.

They are the user's, without our label, so no watch shows them. They are looked at now and then, and oftener while
something is wrong: a proxy that waits for one starts when the kubelet sees it, and the condition is to say so.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from types import MappingProxyType

from cryptography import x509

from switchboard.control.kube import Kube, Object
from switchboard.control.metrics import CERTIFICATE_EXPIRY, forget_expiry
from switchboard.control.recorder import Note
from switchboard.pool.conditions import Problem
from switchboard.pool.spec import Authentication, PoolSpec
from switchboard.resources.credentials import read_credentials
from switchboard.resources.database import read_database, wanted_secret
from switchboard.resources.listeners import CERTIFICATE, fault
from switchboard.resources.names import PoolRef
from switchboard.resources.users import read_users

LOOK_SECONDS, LOOK_AGAIN_SECONDS = 10.0, 3.0


class Listening:
    """`problem` is what was wrong at the last look; None: nothing."""

    def __init__(self, kube: Kube, note: Callable[[Note], None], clock: Callable[[], float]) -> None:
        self.problem: Problem | None = None
        self._kube, self._note, self._clock = kube, note, clock
        self._looked_for: PoolSpec | None = None
        self._next_look = 0.0

    async def look(self, pool: PoolRef, spec: PoolSpec) -> None:
        """At once when the spec has changed, else when it is time to."""
        if spec == self._looked_for and self._clock() < self._next_look:
            return
        before, self.problem = self.problem, await self._look(pool, spec)
        if self.problem is not None and self.problem != before:
            self._note(Note(self.problem.reason, self.problem.message, "Warning"))
        for name in set(self._looked_for.secret_names if self._looked_for else ()) - set(spec.secret_names):
            forget_expiry(pool.namespace, pool.name, _label(name))
        self._looked_for = spec
        self._next_look = self._clock() + (LOOK_SECONDS if self.problem is None else LOOK_AGAIN_SECONDS)

    async def _look(self, pool: PoolRef, spec: PoolSpec) -> Problem | None:
        for name in spec.secret_names:
            secret = await self._kube.get("v1", "Secret", pool.namespace, name)
            problem = judge(name, secret, verifies=spec.verifies(name))
            if problem is not None or secret is None:
                return problem
            expires = x509.load_pem_x509_certificates(b64decode(secret["data"][CERTIFICATE]))[0].not_valid_after_utc
            CERTIFICATE_EXPIRY.labels(pool.namespace, pool.name, _label(name)).set(expires.timestamp())
        if spec.authentication is not None and not spec.authentication.delegated:
            secret = await self._kube.get("v1", "Secret", pool.namespace, spec.authentication.secret_name)
            trunks = {one.name: one.username for one in spec.gateways if one.username}
            problem = judge_users(spec.authentication, secret, trunks)
            if problem is not None:
                return problem
        for name in spec.credentials_secrets:
            problem = judge_credentials(name, await self._kube.get("v1", "Secret", pool.namespace, name))
            if problem is not None:
                return problem
        if database := wanted_secret(spec.registrar):
            return judge_database(database, await self._kube.get("v1", "Secret", pool.namespace, database))
        return None


def _label(name: str) -> str:
    """How the metric of expiry tells the user's certificates from the pool's own."""
    return f"listen/{name}"


def judge(name: str, secret: Object | None, *, verifies: bool) -> Problem | None:
    """What is wrong with the Secret, None if nothing; `secret` is None where there is none of that name."""
    if secret is None:
        message = (
            f"Secret {name} with a certificate does not exist: create it, or have cert-manager do so; "
            f"proxies wait for it."
        )
        return Problem("CertificateMissing", message)
    wrong = fault(_files(secret), verifies=verifies)
    if not wrong:
        return None
    message = f"Secret {name} with a certificate cannot be used: {wrong}; proxies that run go on with the one before."
    return Problem("CertificateInvalid", message)


def judge_users(
    wanted: Authentication, secret: Object | None, trunks: Mapping[str, str] = MappingProxyType({})
) -> Problem | None:
    """What is wrong with the users' Secret, None if nothing; `trunks`: gateways and the users that they are."""
    where = f"Secret {wanted.secret_name} in spec.clients.auth"
    if secret is None:
        return Problem("UsersMissing", f"{where} does not exist: create it; proxies wait for it.")
    try:
        users = {user for _, user in read_users(_files(secret), wanted)}
    except ValueError as error:
        return Problem("UsersInvalid", f"{where} cannot be used: {error}; proxies go on with the users before.")
    unknown = [gateway for gateway, user in trunks.items() if user not in users]
    if unknown:
        message = f"{where} has no password for the username of spec.gateways {', '.join(unknown)}: add one."
        return Problem("UsersInvalid", message)
    return None


def judge_credentials(name: str, secret: Object | None) -> Problem | None:
    """What is wrong with the Secret of our password at a gateway, None if nothing."""
    where = f"Secret {name} in credentials of spec.gateways"
    return _judge(where, secret, read_credentials, missing="CredentialsMissing", invalid="CredentialsInvalid")


def judge_database(name: str, secret: Object | None) -> Problem | None:
    """What is wrong with the Secret of the database, None if nothing."""
    where = f"Secret {name} in spec.registrar.database"
    return _judge(where, secret, read_database, missing="DatabaseMissing", invalid="DatabaseInvalid")


def _judge(
    where: str, secret: Object | None, read: Callable[[Mapping[str, bytes]], object], *, missing: str, invalid: str
) -> Problem | None:
    """Whether it is there, and `read` takes its entries (ValueError: what is wrong)."""
    if secret is None:
        return Problem(missing, f"{where} does not exist: create it; proxies wait for it.")
    try:
        read(_files(secret))
    except ValueError as error:
        return Problem(invalid, f"{where} cannot be used: {error}; proxies go on with the one before.")
    return None


def _files(secret: Object) -> dict[str, bytes]:
    return {key: b64decode(value) for key, value in (secret.get("data") or {}).items()}
