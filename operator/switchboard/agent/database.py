"""Locations in a PostgreSQL database: each proxy writes what clients register with it, and a Kamailio that starts is
told all of them, so that registrations outlive all proxies of a pool at once.

Kamailio waits for none of it. It notes which contacts have changed (changed=>n); they are read and written here, in
order, and stay noted until the database has them, so that one that is away, or an agent that starts anew, loses none.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from switchboard.agent.environment import Environment, bracketed
from switchboard.agent.kamailio import Kamailio, Key, Refusal
from switchboard.agent.secrets import MountedSecret, database_in
from switchboard.errors import ConfigurationError, KamailioError
from switchboard.pool.spec import Registrar
from switchboard.resources.database import Database, wanted_secret

ROUND_SECONDS = 1.0
RESTORING_SECONDS = 0.1
PATIENCE_SECONDS = 5.0  # that a proxy which starts waits for a database; what that has is told to it when it comes
ANSWER_SECONDS = 5.0
EXPIRY_SECONDS = 60.0  # between looks for what has expired
RESTORE_SECONDS = 30.0  # after which a proxy goes on without what it has not been told yet
AT_ONCE = 500  # changes that are written together

_SCHEMA = """
CREATE TABLE IF NOT EXISTS switchboard_locations (
    pool text NOT NULL, aor text NOT NULL, key text NOT NULL,
    contact text NOT NULL, instance text NOT NULL, reg_id integer NOT NULL, path text NOT NULL,
    call_id text NOT NULL, cseq bigint NOT NULL, expires timestamptz NOT NULL,
    PRIMARY KEY (pool, aor, key))
"""
_READ = """
SELECT aor, call_id, cseq, extract(epoch FROM expires)::bigint, contact, instance, reg_id, path
FROM switchboard_locations WHERE pool = $1 AND expires > now()
"""
_WRITE = """
INSERT INTO switchboard_locations (pool, aor, key, contact, instance, reg_id, path, call_id, cseq, expires)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (pool, aor, key) DO UPDATE SET contact = excluded.contact, instance = excluded.instance,
    reg_id = excluded.reg_id, path = excluded.path, call_id = excluded.call_id, cseq = excluded.cseq,
    expires = excluded.expires
"""
_DELETE = "DELETE FROM switchboard_locations WHERE pool = $1 AND aor = $2 AND key = $3"
_DELETE_EXPIRED = "DELETE FROM switchboard_locations WHERE pool = $1 AND expires < now()"

_AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ConfigurationError)

_log = logging.getLogger(__name__)


class Contact(msgspec.Struct, frozen=True, rename={"call_id": "Call-ID", "reg_id": "Reg-Id"}):
    """As Kamailio shows it."""

    address: str = msgspec.field(name="Address")
    expires: int = msgspec.field(name="Expires")  # seconds from now
    cseq: int = msgspec.field(name="CSeq")
    path: str = msgspec.field(name="Path")
    instance: str = msgspec.field(name="Instance")
    call_id: str
    reg_id: int

    @property
    def key(self) -> str:
        """As registrar.lua makes it (key_of)."""
        return f"{_given(self.instance)};{self.reg_id}" if _given(self.instance) else self.address


class Locations:
    """`up`: whether the database answers; None where there is none."""

    def __init__(self, environment: Environment, kamailio: Kamailio) -> None:
        self.up: bool | None = None
        self._directory: Path = environment.database
        self._secret = MountedSecret[Database | None](environment.database, None)
        self._pool = f"{environment.namespace}/{environment.pool}"
        self._address = bracketed(environment.address)
        self._kamailio = kamailio
        self._connection: Any = None
        self._boot = ""  # the run of Kamailio that it is about
        self._since = 0.0
        self._expected: int | None = None  # contacts that this run is told; None: not read yet
        self._restored = False
        self._looked_for_expired = 0.0
        self._said = ""

    def settled(self, boot: str) -> bool:
        """Whether that run of Kamailio knows what the database has, or has waited for it long enough."""
        if not self._directory.is_dir():
            return True  # a pod that was made before the pool had a database
        waited = self._boot == boot and time.monotonic() - self._since > PATIENCE_SECONDS
        return self._boot == boot and (self._restored or (waited and self._expected is None and not self.up))

    async def run(self, applied: Callable[[], tuple[str, Registrar | None]]) -> None:
        """Until cancelled. `applied`: the run of Kamailio that is there, and what it is told of registering."""
        try:
            while True:
                boot, registrar = applied()
                if boot and registrar is not None:
                    await self._look(boot, wanted_secret(registrar))
                await asyncio.sleep(RESTORING_SECONDS if self.up and not self._restored else ROUND_SECONDS)
        finally:
            await self._close()

    async def _look(self, boot: str, secret: str) -> None:
        if boot != self._boot:
            self._boot, self._since, self._expected, self._restored = boot, time.monotonic(), None, False
        try:
            if self._secret.changed or not secret:
                await self._close()
            if not secret or (self._connection is None and not await self._connect(secret)):
                self.up = None
                return
            await self._go_on()
            self.up, self._said = True, ""
        except KamailioError:
            return  # the sampler says so
        except _AWAY as error:
            self.up = False
            self._say(f"the database of the locations: {str(error) or type(error).__name__}")
            await self._close()

    def _say(self, what: str) -> None:
        if what != self._said:
            self._said = what
            _log.warning("%s; calls and registrations go on, it is tried again", what)

    async def _connect(self, secret: str) -> bool:
        """Whether there is anything to connect to."""
        where = self._secret.read(database_in(secret))
        try:
            self._secret.require_usable()
        except ConfigurationError as error:
            if where is None:
                raise
            _log.warning("%s", error)
        if where is None:
            return False
        self._connection = await asyncpg.connect(
            host=where.host,
            port=where.port,
            user=where.user,
            password=where.password,
            database=where.name,
            ssl=_tls(where),
            timeout=ANSWER_SECONDS,
            command_timeout=ANSWER_SECONDS,
        )
        await self._connection.execute(_SCHEMA)
        return True

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_AWAY):
                await connection.close(timeout=1.0)

    async def _go_on(self) -> None:
        if self._expected is None:
            learned, taught = await self._kamailio.get([("ctl", "learned"), ("learn", "all")])
            if learned == 1:  # what a peer has taught is all there is
                self._expected = 0 if int(taught or 0) > 1 else await self._restore()
        if self._expected is not None and not self._restored:
            (back,) = await self._kamailio.get([("learn", "back")])
            late = time.monotonic() - self._since > RESTORE_SECONDS
            self._restored = self._expected == 0 or int(back or 0) >= self._expected or late
        await self._write_changes()
        if time.monotonic() - self._looked_for_expired > EXPIRY_SECONDS:
            await self._connection.execute(_DELETE_EXPIRED, self._pool)
            self._looked_for_expired = time.monotonic()

    async def _restore(self) -> int:
        """How many contacts Kamailio is to be told; it tells them to itself (registrar.lua, restore)."""
        rows = await self._connection.fetch(_READ, self._pool)
        entries: dict[Key, int | str] = {
            ("restore", str(number)): "\n".join(map(str, (self._address, *row))) for number, row in enumerate(rows, 1)
        }
        await self._kamailio.set({**entries, ("ctl", "restore"): len(rows)})
        return len(rows)

    async def _write_changes(self) -> None:
        changed, written = (int(value or 0) for value in await self._kamailio.get(_COUNTS))
        while written < changed:
            upto = min(changed, written + AT_ONCE)
            await self._kamailio.set({("ctl", "reading"): upto})  # before: what changes from now on is noted anew
            numbers: list[Key] = [("changed", str(number)) for number in range(written + 1, upto + 1)]
            marks = {str(value) for value in await self._kamailio.get(numbers) if value is not None}
            await self._write(tuple(mark.split("\n", 1)) for mark in sorted(marks))
            await self._kamailio.set({("ctl", "written"): upto})
            await self._kamailio.delete(numbers)
            written = upto

    async def _write(self, marks: Iterable[tuple[str, ...]]) -> None:
        keys: dict[str, set[str]] = {}
        for aor, key in marks:
            keys.setdefault(aor, set()).add(key)
        there = await self._contacts(list(keys))
        rows, gone = [], []
        for aor, wanted in keys.items():
            found = {contact.key: contact for contact in there.get(aor, ())}
            rows += [self._row(aor, found[key]) for key in wanted & found.keys()]
            gone += [(self._pool, aor, key) for key in wanted - found.keys()]
        async with self._connection.transaction():
            await self._connection.executemany(_WRITE, rows)
            await self._connection.executemany(_DELETE, gone)

    async def _contacts(self, aors: list[str]) -> dict[str, list[Contact]]:
        """Those that have not expired."""
        results = await self._kamailio.batch([("ul.lookup", ("location", aor)) for aor in aors])
        found = {}
        for aor, result in zip(aors, results, strict=True):
            if not isinstance(result, Refusal):
                contacts = [one["Contact"] for one in result["Contacts"]]
                found[aor] = [msgspec.convert(one, Contact) for one in contacts if isinstance(one["Expires"], int)]
        return found

    def _row(self, aor: str, contact: Contact) -> tuple[object, ...]:
        expires = datetime.now(UTC) + timedelta(seconds=contact.expires)
        path, instance = _given(contact.path), _given(contact.instance)
        of_contact = (contact.address, instance, contact.reg_id, path, contact.call_id, contact.cseq, expires)
        return self._pool, aor, contact.key, *of_contact


_COUNTS: list[Key] = [("cnt", "changed"), ("ctl", "written")]


def _given(text: str) -> str:
    """What Kamailio has of it."""
    return "" if text == "[not set]" else text


def _tls(database: Database) -> ssl.SSLContext | str:
    if not database.authority:
        return database.ssl_mode
    try:
        context = ssl.create_default_context(cadata=database.authority)
    except ssl.SSLError:
        raise ConfigurationError("the ca.crt of its Secret is no certificate in PEM") from None
    context.check_hostname = database.ssl_mode == "verify-full"
    return context
