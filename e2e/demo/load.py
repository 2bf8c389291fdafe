"""Who calls and who is called: hosts outside the cluster, with SIPp and, for calls with media, a program of ours."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from e2e.embedded import network
from tests.tools.sipp import Sipp, Statistics, answerer, caller

PBX = "198.18.200.1"  # the route's target
MEDIA_PBX = "198.18.200.2"  # answers the calls whose packets are counted
RING_SECONDS = 0.3


class Callers:
    """The clients of the demo; ends everything it started."""

    def __init__(self, service: str) -> None:
        self.service = service
        self._stack = ExitStack()
        self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="switchboard-demo-")))
        self._loads: list[Sipp] = []
        self._hosts = 0
        self._media: list[asyncio.subprocess.Process] = []
        self.packets_sent = self.packets_received = 0
        self.media = Statistics()

    async def __aenter__(self) -> Self:
        prefix = network.add_host("pbx", PBX)
        self._stack.enter_context(answerer(PBX, self._directory, ring_seconds=RING_SECONDS, prefix=prefix))
        prefix = network.add_host("media-pbx", MEDIA_PBX)
        await self._program(prefix, "answer", "--ip", MEDIA_PBX)
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._media:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        self._stack.close()

    def call(self, calls: int, rate: float, hold_seconds: float) -> Sipp:
        """Have a new client place `calls` calls through the Service, `rate` a second."""
        address, prefix = self._client()
        load = caller(
            f"{self.service}:5060",
            address,
            self._directory,
            calls=calls,
            rate=rate,
            hold_seconds=hold_seconds,
            prefix=prefix,
        )
        self._loads.append(self._stack.enter_context(load))
        return load

    async def call_with_media(self, calls: int, seconds: float) -> None:
        """Voice and video, every packet counted where it comes back."""
        address, prefix = self._client()
        target = f"sip:av@{self.service}:5060"
        process = await self._program(
            prefix, "call", "--ip", address, "--to", target, "--calls", str(calls), "--seconds", str(seconds)
        )
        output, _ = await process.communicate()
        result = json.loads(output)
        self.packets_sent += result["sent"]
        self.packets_received += result["received"]
        answered, offered = result["answered"], result["offered"]
        self.media += Statistics(offered=offered, answered=answered, completed=answered, failed=offered - answered)

    def statistics(self) -> Statistics:
        """All calls of all clients so far, by SIPp's own count (and the media program's)."""
        return sum((load.statistics() for load in self._loads), self.media)

    def _client(self) -> tuple[str, Sequence[str]]:
        self._hosts += 1
        address = f"198.18.201.{self._hosts}"
        return address, network.add_host(f"client-{self._hosts}", address)

    async def _program(self, prefix: Sequence[str], *arguments: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *prefix, sys.executable, "-m", "tests.tools.av", *arguments, stdout=asyncio.subprocess.PIPE
        )
        self._media.append(process)
        return process
