"""The PostgreSQL database of a pool's locations: a Secret as operators of PostgreSQL make it, or by hand.

`host`, `port`, `dbname` (or `database`), `username` (or `user`) and `password`, or all of these in `uri`; besides,
`sslmode` and, to verify the server, `ca.crt`. What is wrong is told by entry, never by what stands there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from switchboard.pool.spec import Registrar

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
SSL_MODES: tuple[SslMode, ...] = get_args(SslMode)
PORT = 5432


class Database(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    port: int
    name: str
    user: str
    password: str
    ssl_mode: SslMode
    authority: str  # what the server's certificate is verified by, in PEM; "": nothing


def wanted_secret(registrar: Registrar) -> str:
    """The Secret's name; "" where locations are kept in no database."""
    return registrar.database_secret if registrar.enabled else ""


def read_database(files: Mapping[str, bytes]) -> Database:
    """Raise ValueError when the Secret's entries cannot be used."""
    try:
        given = {name: value.decode().strip() for name, value in files.items()}
    except UnicodeDecodeError:
        raise ValueError("an entry of it is not UTF-8") from None
    given = (_of_uri(given["uri"]) if "uri" in given and "host" not in given else {}) | given
    host, name = given.get("host", ""), given.get("dbname") or given.get("database", "")
    user, password = given.get("username") or given.get("user", ""), given.get("password", "")
    entries = {"host": host, "dbname": name, "username": user, "password": password}
    missing = [entry for entry, value in entries.items() if not value]
    if missing:
        raise ValueError(f"it has no uri, and no {' and no '.join(missing)}")
    port = given.get("port") or str(PORT)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError("its port is not a number from 1 to 65535")
    authority = given.get("ca.crt", "")
    mode = _ssl_mode(given.get("sslmode") or ("verify-full" if authority else "prefer"))
    if mode.startswith("verify") and not authority:
        raise ValueError("its sslmode asks for the server's certificate to be verified, and it has no ca.crt")
    return Database(
        host=host, port=int(port), name=name, user=user, password=password, ssl_mode=mode, authority=authority
    )


def _ssl_mode(given: str) -> SslMode:
    for mode in SSL_MODES:
        if given == mode:
            return mode
    raise ValueError(f"its sslmode is none of {', '.join(SSL_MODES)}")


def _of_uri(uri: str) -> dict[str, str]:
    """postgresql://user:password@host:port/dbname?sslmode=..."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise ValueError("its uri is not like postgresql://user:password@host:5432/dbname") from None
    if parts.scheme not in ("postgres", "postgresql"):
        raise ValueError("its uri is not like postgresql://user:password@host:5432/dbname")
    found = {
        "host": parts.hostname or "",
        "port": str(port or ""),
        "dbname": unquote(parts.path.lstrip("/")),
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
    }
    return {**found, **{name: values[0] for name, values in parse_qs(parts.query).items() if name == "sslmode"}}
