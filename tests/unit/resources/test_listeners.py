"""What is wrong with a Secret for a listener, before Kamailio finds out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from switchboard.resources.listeners import fault
from tests.tools.certificates import Authority, Secret

SECRET = Authority().secret()
LOCKED = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")
)


def test_what_cert_manager_makes_is_right() -> None:
    """With a CA or without, as long as no client is verified by it."""
    assert fault(SECRET, verifies=True) == ""
    assert fault({"tls.crt": SECRET["tls.crt"], "tls.key": SECRET["tls.key"]}, verifies=False) == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda _: {}, "it has no tls.crt and no tls.key and no ca.crt"),
        (lambda files: {**files, "ca.crt": b""}, "it has no ca.crt"),
        (lambda files: {**files, "tls.crt": b"x"}, "tls.crt is not a certificate in PEM"),
        (lambda files: {**files, "tls.key": b"x"}, "tls.key is not a private key in PEM without a password"),
        (lambda files: {**files, "tls.key": LOCKED}, "tls.key is not a private key in PEM without a password"),
        (lambda files: {**files, "tls.key": Authority().secret()["tls.key"]}, "tls.key is not the key of tls.crt"),
        (lambda files: {**files, "ca.crt": b"x"}, "ca.crt is not a certificate in PEM"),
    ],
)
def test_what_is_wrong_is_named(change: Callable[[Secret], Secret], says: str) -> None:
    """By file, in words that say what to mend."""
    assert fault(change(SECRET), verifies=True) == says
