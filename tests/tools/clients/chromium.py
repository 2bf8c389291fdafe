"""A headless Chromium, driven by its DevTools protocol: pages are opened, and expressions evaluated in them.

    async with chromium(trusted=certificate) as browser, browser.page("http://127.0.0.1:8000/") as page:
        assert await page.evaluate("1 + 1") == 2

Its camera shows a moving picture, its microphone beeps.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.tools.clients.program import running
from tests.tools.foreign import RUN
from tests.tools.wait import WITHIN_SECONDS, until

LISTENING = "DevTools listening on "
FLAGS = (
    "--no-sandbox",  # it is in one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",  # a page that asks for the camera gets it
    "--disable-features=WebRtcHideLocalIpsWithMdns",  # it has no multicast to tell its made-up names by
    "--remote-debugging-port=0",
    f"--user-data-dir={RUN}/profile",
)


class BrowserError(Exception):
    """What a page, or the browser itself, refused."""


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session

    async def evaluate(self, expression: str, within: float = WITHIN_SECONDS) -> Any:
        """The expression's value, awaited where it is a promise; BrowserError with what it threw."""
        options = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        async with asyncio.timeout(within):
            answer = await self._browser.command("Runtime.evaluate", self._session, **options)
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"]
            raise BrowserError(f"{expression}: {thrown.get('exception', {}).get('description') or thrown['text']}")
        return answer["result"].get("value")

    async def open(self, url: str) -> None:
        """Returns once the page and its scripts are loaded."""
        await self._browser.command("Page.enable", self._session)
        loaded = self._browser.event("Page.loadEventFired", self._session)
        await self._browser.command("Page.navigate", self._session, url=url)
        async with asyncio.timeout(WITHIN_SECONDS):
            await loaded


class Chromium:
    """One running browser; `chromium()` starts it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._events: dict[tuple[str, str], asyncio.Future[None]] = {}

    async def command(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        of_session = {"sessionId": session} if session else {}
        await self._socket.send_json({"id": number, "method": method, "params": parameters, **of_session})
        answer = await self._answers[number]
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def event(self, method: str, session: str) -> asyncio.Future[None]:
        """Done when that happens next."""
        waiting = self._events[method, session] = asyncio.get_running_loop().create_future()
        return waiting

    @contextlib.asynccontextmanager
    async def page(self, url: str) -> AsyncIterator[Page]:
        target = (await self.command("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self.command("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, attached["sessionId"])
        await page.open(url)
        try:
            yield page
        finally:
            await self.command("Target.closeTarget", targetId=target)

    async def listen(self) -> None:
        """Takes what the browser says, until it is gone."""
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            elif waiting := self._events.pop((said["method"], said.get("sessionId", "")), None):
                waiting.set_result(None)
        for answer in self._answers.values():
            answer.set_result({"error": {"message": "the browser is gone"}})


@contextlib.asynccontextmanager
async def chromium(trusted: bytes) -> AsyncIterator[Chromium]:
    """`trusted`: a server's certificate (PEM) that it takes for good, as if its issuer were known."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as directory:
        run = Path(directory)
        trust = f"--ignore-certificate-errors-spki-list={_public_key(trusted)}"
        with running(run, "chromium-headless-shell", *FLAGS, trust) as process:
            await until(lambda: bool(_listening(run / "log", process)), "Chromium listens")
            url = _listening(run / "log", process)
            async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
                browser = Chromium(socket)
                listening = asyncio.create_task(browser.listen())
                yield browser
                listening.cancel()


def _listening(log: Path, process: subprocess.Popen[bytes]) -> str:
    """The URL for commands; "" until it is said."""
    text = log.read_text(errors="replace")
    if process.poll() is not None:
        raise BrowserError(f"Chromium does not start: {text[-3000:]}")
    url, ended, _ = text.partition(LISTENING)[2].partition("\n")
    return url if ended else ""


def _public_key(certificate: bytes) -> str:
    """Its hash, as Chromium's flag has it."""
    key = x509.load_pem_x509_certificate(certificate).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()
