"""The certificates of a pool's encrypted listeners: Secrets of the user's, in the form that cert-manager gives them.

`tls.crt` (the listener's certificate, then those in between), `tls.key`, and `ca.crt`: who issues the certificates that
clients show, needed where a listener asks for them. All are in one volume, a directory for each Secret, so that a
change of a Secret is seen whole, or not yet. A proxy waits for a Secret that is not there: it does not start without.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from switchboard.pool.spec import PoolSpec

CERTIFICATE, KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"


def listen_arguments(spec: PoolSpec) -> str:
    """The listeners as a proxy's containers are told: `udp:5060 wss:8443/edge-tls/required udp:5070@HOST`.

    In a host the kubelet puts the pod's name and its node's, which are variables of the container as well.
    """
    return " ".join(
        "/".join(
            [
                f"{one.transport.lower()}:{one.port}",
                *([one.secret_name] if one.secret_name else []),
                *([one.client_certificates] if one.client_certificates != "none" else []),
            ]
        )
        + (f"@{_host(one.advertise)}" if one.advertise else "")
        for one in spec.listen
    )


def _host(template: str) -> str:
    return template.replace("{pod}", "$(POD_NAME)").replace("{node}", "$(NODE_NAME)")


def certificates_volume(spec: PoolSpec) -> dict[str, Any]:
    """The source of the volume: `<secret>/tls.crt` and so on; only the group reads it."""
    return directories(
        {name: [CERTIFICATE, KEY, *([AUTHORITY] if spec.verifies(name) else [])] for name in spec.secret_names}
    )


def directories(secrets: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    """The source of a volume with a directory for each Secret, which has these entries."""
    sources = [
        {"secret": {"name": name, "items": [{"key": key, "path": f"{name}/{key}"} for key in keys]}}
        for name, keys in secrets.items()
    ]
    return {"projected": {"defaultMode": 0o440, "sources": sources}}


def fault(files: Mapping[str, bytes], *, verifies: bool) -> str:
    """What is wrong with a Secret's files, "" if a listener can use them. Their dates are not looked at."""
    needed = [CERTIFICATE, KEY, *([AUTHORITY] if verifies else [])]
    missing = [name for name in needed if not files.get(name)]
    if missing:
        return f"it has no {' and no '.join(missing)}"
    try:
        certificate = x509.load_pem_x509_certificates(files[CERTIFICATE])[0]
    except ValueError:
        return f"{CERTIFICATE} is not a certificate in PEM"
    try:
        key = load_pem_private_key(files[KEY], password=None)
    except (ValueError, TypeError):
        return f"{KEY} is not a private key in PEM without a password"
    if _public(certificate.public_key()) != _public(key.public_key()):
        return f"{KEY} is not the key of {CERTIFICATE}"
    if verifies:
        try:
            x509.load_pem_x509_certificates(files[AUTHORITY])
        except ValueError:
            return f"{AUTHORITY} is not a certificate in PEM"
    return ""


def _public(key: Any) -> bytes:
    """A public key, of whatever kind, to compare."""
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded
