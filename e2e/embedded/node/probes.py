"""Probes and hooks: asking a container whether it has started, is ready, lives; telling it that its end is near."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping

import aiohttp

from e2e.embedded.node.model import Container, Handler, HttpGet, Probe
from e2e.embedded.node.process import Process


class Asker:
    """Carries out one container's handlers, from the node, as a kubelet does."""

    def __init__(self, container: Container, address: str) -> None:
        self._container = container
        self._address = address

    async def ask(self, handler: Handler, process: Process, environment: Mapping[str, str], seconds: float) -> str:
        """What is wrong; empty when nothing is."""
        try:
            async with asyncio.timeout(seconds):  # not wait_for, which can lose a cancellation (Python 3.11)
                return await self._ask(handler, process, environment)
        except TimeoutError:
            return f"no answer within {seconds:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return str(error) or type(error).__name__

    async def _ask(self, handler: Handler, process: Process, environment: Mapping[str, str]) -> str:
        if handler.exec is not None:
            status = await process.run_beside(handler.exec.command, environment)
            return f"the command ended with status {status}" if status else ""
        if handler.http_get is not None:
            return await self._http(handler.http_get)
        if handler.tcp_socket is not None:
            socket = handler.tcp_socket
            _, writer = await asyncio.open_connection(socket.host or self._address, self._port(socket.port))
            writer.close()
            await writer.wait_closed()
        elif handler.sleep is not None:
            await asyncio.sleep(handler.sleep.seconds)
        return ""

    async def _http(self, get: HttpGet) -> str:
        url = f"{get.scheme.lower()}://{get.host or self._address}:{self._port(get.port)}/{get.path.lstrip('/')}"
        context = ssl.create_default_context()
        context.check_hostname = False  # a kubelet does not verify either
        context.verify_mode = ssl.CERT_NONE
        headers = {header.name: header.value for header in get.http_headers}
        connector = aiohttp.TCPConnector(ssl=context, force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(url, headers=headers, allow_redirects=False) as answer,
        ):
            good = 200 <= answer.status < 400
            return "" if good else f"{url} answered {answer.status}: {(await answer.text())[:200]}"

    def _port(self, port: int | str) -> int:
        if isinstance(port, int):
            return port
        named = {one.name: one.container_port for one in self._container.ports}
        return named[port] if port in named else int(port)


async def repeat(
    probe: Probe,
    ask: Callable[[], Awaitable[str]],
    tell: Callable[[bool, str], None],
    *,
    until_good: bool = False,
) -> None:
    """Asks for ever, or until the first success that counts; tells each time a threshold is reached."""
    await asyncio.sleep(probe.initial_delay_seconds)
    good = bad = 0
    while True:
        complaint = await ask()
        good, bad = (0, bad + 1) if complaint else (good + 1, 0)
        if good >= probe.success_threshold:
            tell(True, "")  # noqa: FBT003 - the verdict itself
            if until_good:
                return
        elif bad >= probe.failure_threshold:
            tell(False, complaint)  # noqa: FBT003 - the verdict itself
        await asyncio.sleep(probe.period_seconds)
