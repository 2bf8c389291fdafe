"""The users who authenticate by digest: a Secret of the pool's owner, in forms that other servers have, too.

| entry | line by line |
|---|---|
| `passwords` | `user:password` |
| `htdigest` | `user:realm:HA1`, as Apache's htdigest writes it: 32 hex digits for MD5, 64 for SHA-256, each on a line |

At least one of them; empty lines and those that begin with `#` are passed over. What is wrong is told by entry and
line, never by what stands there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping

from switchboard.pool import quantities as q
from switchboard.pool.spec import Authentication, DigestAlgorithm

PASSWORDS, HTDIGEST = "passwords", "htdigest"

Users = Mapping[tuple[DigestAlgorithm, str], str]  # by algorithm and user: HA1, in hex

_HA1: Mapping[int, DigestAlgorithm] = {32: "MD5", 64: "SHA-256"}
_HEX = re.compile(r"[0-9a-f]+$")


def read_users(files: Mapping[str, bytes], wanted: Authentication) -> Users:
    """Raise ValueError when the Secret's entries cannot be used."""
    if PASSWORDS not in files and HTDIGEST not in files:
        raise ValueError(f"it has neither {PASSWORDS} nor {HTDIGEST}")
    users: dict[tuple[DigestAlgorithm, str], str] = {}
    places: dict[str, str] = {}
    for where, fields in _lines(files, PASSWORDS, 1):
        user, password = fields
        _named(user, where)
        _note(user, where, places)
        for algorithm in wanted.algorithms:
            users[algorithm, user] = ha1(algorithm, user, wanted.realm, password)
    for where, fields in _lines(files, HTDIGEST, 2):
        user, realm, digest = fields
        if realm == wanted.realm:
            _named(user, where)
            algorithm = _algorithm(digest.lower(), where)
            places.setdefault(user, where)
            users[algorithm, user] = digest.lower()
    for user, where in places.items():
        for algorithm in wanted.algorithms:
            if (algorithm, user) not in users:
                message = f"the user of {where} has no {algorithm}: add it, or take it out of algorithms"
                raise ValueError(message)
    return {key: value for key, value in users.items() if key[0] in wanted.algorithms}


def ha1(algorithm: DigestAlgorithm, user: str, realm: str, password: str) -> str:
    """What a password is to a digest (RFC 7616)."""
    text = f"{user}:{realm}:{password}".encode()
    if algorithm == "MD5":
        return hashlib.md5(text, usedforsecurity=False).hexdigest()  # RFC 3261's, for clients that know no other
    return hashlib.sha256(text).hexdigest()


def _named(user: str, where: str) -> None:
    """It stands in addresses, and is compared with what clients call themselves."""
    try:
        q.user(user)
    except ValueError as error:
        raise ValueError(f"{where} has no user name: it {error}") from None


def _note(user: str, where: str, places: dict[str, str]) -> None:
    if user in places:
        raise ValueError(f"{where} has the user of {places[user]} once more: keep one of them")
    places[user] = where


def _algorithm(digest: str, where: str) -> DigestAlgorithm:
    if len(digest) not in _HA1 or not _HEX.match(digest):
        raise ValueError(f"{where} has no HA1: it must be 32 hex digits (MD5) or 64 (SHA-256)")
    return _HA1[len(digest)]


def _lines(files: Mapping[str, bytes], entry: str, colons: int) -> Iterator[tuple[str, list[str]]]:
    """Each line's place and its fields."""
    try:
        text = files.get(entry, b"").decode()
    except UnicodeDecodeError:
        raise ValueError(f"{entry} is not UTF-8") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        where, fields = f"{entry}, line {number},", line.split(":", colons)
        if len(fields) != colons + 1 or not all(fields):
            form = "user:password" if colons == 1 else "user:realm:HA1"
            raise ValueError(f"{where} is not {form}")
        yield where, fields
