"""A phone in a browser's page: JsSIP over a WebSocket, WebRTC (page/phone.js)."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from tests.tools.clients.chromium import Chromium, Page
from tests.tools.clients.counts import Counts
from tests.tools.wait import until

HERE = Path(__file__).parent


class WebPhone:
    """One page with a phone."""

    def __init__(self, page: Page, uri: str, server: str) -> None:
        self.uri = uri
        self._page = page
        self._server = server

    @classmethod
    @contextlib.asynccontextmanager
    async def at(cls, browser: Chromium, site: str, uri: str, server: str) -> AsyncIterator[WebPhone]:
        """`site`: where the page is; `server`: the URL of a WebSocket; `uri`: its address of record."""
        async with browser.page(site) as page:
            yield cls(page, uri, server)

    async def register(self) -> None:
        await self._do("register", self._server, self.uri)

    async def gruu(self) -> str:
        """The address of this instance alone, as the registrar has given it."""
        return str(await self._do("gruu"))

    async def call(self, uri: str, *, video: bool = False) -> None:
        """Returns once it is answered."""
        await self._do("call", uri, video)

    async def answer(self, *, video: bool = False) -> None:
        """Takes the call that comes, once it does."""
        await until(lambda: self._do("ringing"), f"{self.uri} is called")
        await self._do("answer", video)

    async def hold(self) -> None:
        await self._do("hold")

    async def resume(self) -> None:
        await self._do("resume")

    async def transfer(self, uri: str) -> None:
        """Returns once the other side has called there, and was answered."""
        await self._do("transfer", uri)

    async def hang_up(self) -> None:
        await self._do("hangUp")

    async def ended(self) -> None:
        """Returns once the other side has hung up."""
        await self._do("ended")

    async def counts(self) -> Counts:
        return msgspec.convert(await self._do("counts"), Counts)

    async def _do(self, function: str, *arguments: Any) -> Any:
        return await self._page.evaluate(f"phone.{function}({', '.join(map(json.dumps, arguments))})")


@functools.cache
def _built() -> Path:
    made = subprocess.run([str(HERE / "page.sh")], check=True, stdout=subprocess.PIPE, text=True)
    return Path(made.stdout.split()[-1])


@contextlib.asynccontextmanager
async def site(ip: str = "127.0.0.1") -> AsyncIterator[str]:
    """Where the page is, from a web server of its own."""
    application = web.Application()
    application.router.add_static("/", _built())
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, ip, 0).start()
        yield f"http://{ip}:{runner.addresses[0][1]}/index.html"
    finally:
        await runner.cleanup()
