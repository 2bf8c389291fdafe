"""baresip, a soft phone, driven over its control connection (module ctrl_tcp: JSON in netstrings).

    async with Baresip.at("soft", "sip:bob@example.test", "sip:198.18.1.1:5060") as bob:
        await bob.call("sip:alice@example.test")

It answers every call, plays a tone and shows a moving picture (baresip.conf).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from e2e.embedded.waiting import late
from tests.tools.clients.counts import Counts
from tests.tools.clients.documented import UNASKED, configurations
from tests.tools.clients.program import equip, running
from tests.tools.foreign import RUN
from tests.tools.nat import inside
from tests.tools.wait import WITHIN_SECONDS, until

CONFIGURATION = Path(__file__).with_suffix(".conf")
CONTROL = ("127.0.0.1", 4444)  # of its own host

Event = dict[str, Any]


class BaresipError(Exception):
    """A command that it refused."""


class Baresip:
    """One running baresip; `at` starts it."""

    def __init__(self, uri: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.uri = uri
        self._reader = reader
        self._writer = writer
        self._responses: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    @classmethod
    @contextlib.asynccontextmanager
    async def at(
        cls, host: str, uri: str, server: str, password: str = UNASKED, trusted: bytes = b"", *, more: str = ""
    ) -> AsyncIterator[Baresip]:
        """Runs on that host, registered as `uri` by way of `server`, a SIP URI; killed at the end, whatever it does.

        `trusted`: who has issued the server's certificate, where that matters; `more`: what its account has besides.
        """
        with tempfile.TemporaryDirectory(prefix="baresip-", ignore_cleanup_errors=True) as directory:
            run = Path(directory)
            equip(run, trusted)
            account, verifying = configurations("baresip.md", uri, server, password)
            (run / "accounts").write_text(f"{account.rstrip()};answermode=auto{more}\n")
            (run / "config").write_text(CONFIGURATION.read_text() + (verifying if trusted else ""))
            with running(run, "baresip", "-f", RUN, host=host):
                async with cls._controlled(host, uri) as phone:
                    await until(phone.is_registered, f"{uri} is registered")
                    yield phone

    @classmethod
    @contextlib.asynccontextmanager
    async def _controlled(cls, host: str, uri: str) -> AsyncIterator[Baresip]:
        with inside(host):
            control = socket.socket()
        with control:
            await until(lambda: control.connect_ex(CONTROL) == 0, f"baresip on {host} takes commands")
            phone = cls(uri, *await asyncio.open_connection(sock=control))
            listening = asyncio.create_task(phone._listen())
            try:
                yield phone
            finally:
                listening.cancel()
                phone._writer.close()
                await phone._writer.wait_closed()

    async def is_registered(self) -> bool:
        return "OK" in await self._do("reginfo")

    async def call(self, uri: str) -> None:
        """Returns once it is answered."""
        await self._do("dial", uri)
        await self._event("CALL_ESTABLISHED")

    async def hold(self) -> None:
        """Returns once the other side has agreed, as `resume` does."""
        await self._do("hold")
        await self._event("CALL_REMOTE_SDP", param="answer")

    async def resume(self) -> None:
        # It says so where there is no other call to hold meanwhile, and resumes this one.
        with contextlib.suppress(BaresipError):
            await self._do("resume")
        await self._event("CALL_REMOTE_SDP", param="answer")

    async def held(self) -> None:
        """Returns once the other side has put the call on hold."""
        await self._event("CALL_REMOTE_SDP", param="offer", remoteaudiodir="recvonly")

    async def transfer(self, uri: str) -> None:
        """Returns once the other side has called there, and this call is over."""
        await self._do("transfer", uri)
        await self.ended()

    async def hang_up(self) -> None:
        await self._do("hangup")
        await self.ended()

    async def ended(self) -> None:
        """Returns once the call is over."""
        await self._event("CALL_CLOSED")

    async def counts(self) -> Counts:
        """Of its latest call, of which it may have lost sight when the one before it ended."""
        for call in re.findall(r"id (\w+)\]", await self._do("listcalls"))[-1:]:
            await self._do("callfind", call)
        voice, video = await self._do("audio_debug"), await self._do("video_debug")
        return Counts(*_packets(voice), *_packets(video))

    async def _do(self, command: str, params: str = "") -> str:
        """What it answers."""
        message = json.dumps({"command": command, "params": params}).encode()
        self._writer.write(b"%d:%s," % (len(message), message))
        async with asyncio.timeout(WITHIN_SECONDS):
            response = await self._responses.get()
        data: str = response["data"]
        if not response["ok"]:
            raise BaresipError(f"{self.uri}: {command} {params}: {data}")
        return data

    async def _event(self, name: str, **fields: str) -> None:
        """Returns with the next event of that name and with these fields; those before are let go."""
        wanted = {"type": name, **fields}
        seen: list[Event] = []
        try:
            async with asyncio.timeout(WITHIN_SECONDS):
                while not seen or not wanted.items() <= seen[-1].items():
                    seen.append(await self._events.get())
        except TimeoutError:
            raise late(f"{self.uri}: {wanted}", WITHIN_SECONDS, seen) from None

    async def _listen(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                size = int((await self._reader.readuntil(b":"))[:-1])
                said = json.loads((await self._reader.readexactly(size + 1))[:-1])
                (self._responses if said.get("response") else self._events).put_nowait(said)


def _packets(stream: str) -> tuple[int, int]:
    """Sent and received, from a stream's description."""
    sent = re.search(r"TX: packets=(\d+)", stream)
    return int(sent[1]) if sent else 0, sum(map(int, re.findall(r"rcvd=(\d+)", stream)))
