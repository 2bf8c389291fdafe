"""A browser's media without a browser: DTLS-SRTP and ICE by an rtpengine of the test's own, before plain RTP.

What leaves it is what WebRTC asks for, and what is not encrypted by the right key does not get in.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.tools.dialog import fresh_tag
from tests.tools.proxies import BIN, RUN_DIR, Program
from tests.tools.wait import until

NG_PORT = 2223
ANSWER_SECONDS = 3.0
_ENCRYPTED = {
    "transport-protocol": "UDP/TLS/RTP/SAVPF",
    "ICE": "force",
    "SDES": ["off"],
    "rtcp-mux": ["offer"],
    "flags": ["generate-mid"],
}
_PLAIN = {"transport-protocol": "RTP/AVP", "ICE": "remove", "rtcp-mux": ["demux"]}


class BrowserMedia:
    """One call's: `offer` and `take_answer` for a page that calls, `take_offer` and `answer` for one that is called."""

    def __init__(self, ip: str) -> None:
        self._ip = ip
        self._call = fresh_tag()
        self._cookies = itertools.count(1)

    @classmethod
    @contextlib.asynccontextmanager
    async def at(cls, ip: str, run: Path, root: Path) -> AsyncIterator[BrowserMedia]:
        """`run`: a directory beside the proxies' own; `root`: their root file system."""
        program = _start(ip, run, root)
        media = cls(ip)
        try:
            await until(media._is_up, "the browser's rtpengine answers")
            yield media
        finally:
            program.kill()

    async def offer(self, sdp: str) -> str:
        """What the page offers, where behind it is `sdp`."""
        return await self._translate("offer", sdp, _ENCRYPTED)

    async def take_answer(self, sdp: str) -> str:
        """Where to send what is for the other side, by its answer."""
        return await self._translate("answer", sdp, {"ICE": "remove"})

    async def take_offer(self, sdp: str) -> str:
        return await self._translate("offer", sdp, _PLAIN)

    async def answer(self, sdp: str) -> str:
        return await self._translate("answer", sdp, {"ICE": "force", "SDES": ["off"]})

    async def _translate(self, command: str, sdp: str, options: dict[str, Any]) -> str:
        tags = {"from-tag": "offers"} | ({"to-tag": "answers"} if command == "answer" else {})
        answer = await self._ask({"command": command, "call-id": self._call, "sdp": sdp, **tags, **options})
        assert answer["result"] == "ok", answer
        return str(answer["sdp"])

    async def _is_up(self) -> bool:
        with contextlib.suppress(OSError):
            return bool((await self._ask({"command": "ping"}))["result"] == "pong")
        return False

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as ng:
            ng.connect((self._ip, NG_PORT))
            cookie = f"{next(self._cookies)} ".encode()
            await loop.sock_sendall(ng, cookie + json.dumps(request).encode())
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await loop.sock_recv(ng, 65536)
        decoded: dict[str, Any] = json.loads(answer.removeprefix(cookie))
        return decoded


def _start(ip: str, run: Path, root: Path) -> Program:
    run.mkdir(exist_ok=True)
    environment = {"POD_IP": ip, "MEDIA_PORTS": "30000-30999", "NG_ADDRESS": f"{ip}:{NG_PORT}", "RUN_DIR": RUN_DIR}
    return Program(f"{BIN}/rtpengine", environment, run, root)
