"""Passwords, as the Secrets in the pod's volumes have them now: of the users who authenticate, and our own at gateways
and at the database.

A volume changes as a whole, some time after its Secrets (a kubelet takes up to two minutes). What cannot be used
changes nothing: what was there before stays in effect. A proxy whose pod has no such volume was made before the pool
had them, and does without: it asks nobody, and answers no challenge. It is about to be replaced.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from switchboard.errors import ConfigurationError
from switchboard.pool.spec import Authentication, Gateway
from switchboard.resources.credentials import read_credentials
from switchboard.resources.database import Database, read_database
from switchboard.resources.users import Users, read_users

T = TypeVar("T")


class MountedSecret(Generic[T]):
    """`nothing`: what there is before anything could be used."""

    def __init__(self, directory: Path, nothing: T) -> None:
        self._directory = directory
        self._read_from: Path | None = None
        self._good = nothing
        self._problem = ""

    @property
    def changed(self) -> bool:
        """Whether the volume is not the one that was read."""
        return self._read_from is not None and self._volume() != self._read_from

    def read(self, parse: Callable[[Path], T] | None) -> T | None:
        """What `parse` makes of it, or made before where it cannot be used; None: it is not wanted, or not there."""
        self._problem, self._read_from = "", None
        if parse is None or not self._directory.is_dir():
            return None
        volume = self._read_from = self._volume()
        try:
            self._good = parse(volume)
        except (ValueError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self._problem = f"{reason}; what was there before stays in effect: mend the Secret"
        return self._good

    def require_usable(self) -> None:
        """ConfigurationError when what was read last could not be used."""
        if self._problem:
            raise ConfigurationError(self._problem)

    def _volume(self) -> Path:
        """One state of it, whatever becomes of it meanwhile."""
        return (self._directory / "..data").resolve()


def users_in(wanted: Authentication) -> Callable[[Path], Users]:
    """How they are read."""

    def parse(volume: Path) -> Users:
        with _told_of(wanted.secret_name):
            return read_users(_files(volume), wanted)

    return parse


def credentials_in(gateways: Iterable[Gateway]) -> Callable[[Path], dict[str, str]]:
    """By gateway `username:password`; each Secret has a directory of its own."""
    secrets = {one.name: one.credentials_secret for one in gateways if one.credentials_secret}

    def parse(volume: Path) -> dict[str, str]:
        found = {}
        for gateway, secret in secrets.items():
            if (volume / secret).is_dir():  # else the pod was made before
                with _told_of(secret):
                    found[gateway] = ":".join(read_credentials(_files(volume / secret)))
        return found

    return parse


def database_in(secret: str) -> Callable[[Path], Database]:
    """How the Secret of the database is read."""

    def parse(volume: Path) -> Database:
        with _told_of(secret):
            return read_database(_files(volume))

    return parse


@contextlib.contextmanager
def _told_of(secret: str) -> Iterator[None]:
    """What is wrong in it is told with its name."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"Secret {secret}: {error}") from None


def _files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
