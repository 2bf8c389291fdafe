"""A client's side of digest authentication (RFC 3261 section 22, RFC 8760), independent of the proxies'."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from tests.tools.message import Message

REALM = "voice.example.test"
_HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}
_PARAMETER = re.compile(r'(\w+)="?([^",]*)"?')


@dataclass(frozen=True)
class Challenge:
    """One of those that a 401 or 407 has."""

    realm: str
    nonce: str
    algorithm: str
    stale: bool


def challenges(answer: Message) -> list[Challenge]:
    """In the order of the answer's headers."""
    texts = [*answer.all("WWW-Authenticate"), *answer.all("Proxy-Authenticate")]
    found = [dict(_PARAMETER.findall(text)) for text in texts]
    return [Challenge(one["realm"], one["nonce"], one["algorithm"], one.get("stale") == "true") for one in found]


def ha1(algorithm: str, user: str, password: str, realm: str = REALM) -> str:
    return _HASHES[algorithm](f"{user}:{realm}:{password}".encode()).hexdigest()


def credentials(
    challenge: Challenge, method: str, uri: str, password: str, *, user: str = "alice", qop: bool = True
) -> tuple[str, str]:
    """The header by which that user answers; without `qop` as before RFC 2617."""

    def digest(text: str) -> str:
        return _HASHES[challenge.algorithm](text.encode()).hexdigest()

    parts = [challenge.nonce, *(["00000001", "c0ffee", "auth"] if qop else []), digest(f"{method}:{uri}")]
    response = digest(":".join([ha1(challenge.algorithm, user, password, challenge.realm), *parts]))
    name = "Authorization" if method == "REGISTER" else "Proxy-Authorization"
    value = (
        f'Digest username="{user}", realm="{challenge.realm}", nonce="{challenge.nonce}", uri="{uri}", '
        f'algorithm={challenge.algorithm}, response="{response}"'
    )
    return name, value + (', qop=auth, nc=00000001, cnonce="c0ffee"' if qop else "")
