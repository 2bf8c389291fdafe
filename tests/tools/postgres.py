"""A PostgreSQL server of the test's own, at one address; it can go away and come back.

async with postgres("127.0.0.9", run) as server:
secret(**server.secret)
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg

from tests.tools.wait import until

USER, PASSWORD, NAME = "switchboard", "correct horse:battery/staple", "locations"
AS_SOMEBODY = ("unshare", "--user", "--map-user=1000", "--map-group=1000")  # it refuses to be root


class Postgres:
    def __init__(self, ip: str, directory: Path) -> None:
        self.ip = ip
        self._data = directory / "data"
        self._directory = directory
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def secret(self) -> dict[str, str]:
        """What a Secret has of it."""
        return {"host": self.ip, "port": "5432", "dbname": NAME, "username": USER, "password": PASSWORD}

    def make(self) -> None:
        password = self._directory / "password"
        password.write_text(PASSWORD)
        options = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={password}", "--no-sync"]
        subprocess.run(
            [*AS_SOMEBODY, str(_programs() / "initdb"), *options, str(self._data)], check=True, stdout=subprocess.PIPE
        )

        with (self._data / "pg_hba.conf").open("a") as access:
            access.write("host all all 0.0.0.0/0 scram-sha-256\n")

    async def start(self) -> None:
        """Returns once it answers."""
        self._server = self._start()
        await until(self._answers, f"PostgreSQL at {self.ip} answers")

    def _start(self) -> subprocess.Popen[bytes]:
        options = ["-h", self.ip, "-p", "5432", "-k", "", "-c", "fsync=off", "-D", str(self._data)]
        command = [*AS_SOMEBODY, str(_programs() / "postgres"), *options]
        with (self._directory / "log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd="/")

    def stop(self) -> None:
        """At once, with all connections."""
        if self._server is not None:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait()
            self._server = None

    async def rows(self, query: str = "SELECT * FROM switchboard_locations ORDER BY aor, key") -> Sequence[Any]:
        """What it has."""
        connection = await self._connect(NAME)
        try:
            found: Sequence[Any] = await connection.fetch(query)
            return found
        finally:
            await connection.close()

    async def create(self) -> None:
        connection = await self._connect("postgres")
        await connection.execute(f"CREATE DATABASE {NAME}")
        await connection.close()

    async def _connect(self, name: str) -> Any:
        return await asyncpg.connect(host=self.ip, user=USER, password=PASSWORD, database=name, timeout=5)

    async def _answers(self) -> bool:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncio.TimeoutError):
            await (await self._connect("postgres")).close()
            return True
        return False


@contextlib.asynccontextmanager
async def postgres(ip: str, directory: Path) -> AsyncIterator[Postgres]:
    """`directory`: its own, empty, and whoever runs it may get there."""
    server = Postgres(ip, directory)
    server.make()
    try:
        await server.start()
        await server.create()
        yield server
    finally:
        server.stop()


def _programs() -> Path:
    """The newest version's."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    assert found, "PostgreSQL's server is missing: apt-get install postgresql"
    return found[-1].parent
