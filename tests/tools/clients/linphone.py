"""linphone, a soft phone, driven over its control socket (linphone-daemon: a command, and what it answers).

    async with Linphone.at("soft", "sip:bob@example.test", "sip:198.18.1.1:5060") as bob:
        await bob.call("sip:alice@example.test")

It answers every call, plays a tone and shows a picture (linphone.conf). It tells no numbers of packets: its host counts
them, at the ports of its configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from e2e.embedded.network import enter
from e2e.embedded.waiting import late
from tests.tools.clients.counts import Counts
from tests.tools.clients.documented import UNASKED, configurations
from tests.tools.clients.program import equip, running
from tests.tools.foreign import RUN
from tests.tools.wait import POLL_SECONDS, WITHIN_SECONDS, until

CONFIGURATION = Path(__file__).with_suffix(".conf")
COUNTERS = """
table inet linphone
delete table inet linphone
table inet linphone {
  counter audio_sent {}
  counter audio_received {}
  counter video_sent {}
  counter video_received {}
  chain out {
    type filter hook output priority 0
    udp sport & 1 == 1 return                # RTCP
    udp sport 7000-7099 counter name audio_sent
    udp sport 9000-9099 counter name video_sent
  }
  chain in {
    type filter hook input priority 0
    udp dport & 1 == 1 return
    udp dport 7000-7099 counter name audio_received
    udp dport 9000-9099 counter name video_received
  }
}
"""
ANSWER_BYTES = 65536


class LinphoneError(Exception):
    """A command that it refused."""


class Linphone:
    """One running linphone; `at` starts it."""

    def __init__(self, host: str, uri: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.uri = uri
        self._host = host
        self._reader = reader
        self._writer = writer
        self._held = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def at(
        cls, host: str, uri: str, server: str, password: str = UNASKED, trusted: bytes = b"", *, more: str = ""
    ) -> AsyncIterator[Linphone]:
        """As Baresip.at; `more`: of its configuration."""
        with tempfile.TemporaryDirectory(prefix="linphone-", ignore_cleanup_errors=True) as directory:
            run = Path(directory)
            equip(run, trusted)
            (run / ".local/share/linphone").mkdir(parents=True)
            (account,) = configurations("linphone.md", uri, server, password)
            (run / "linphonerc").write_text(CONFIGURATION.read_text() + more + account)
            _nft(host, "--file", "-", said=COUNTERS)
            files = ("--config", f"{RUN}/linphonerc", "--log", f"{RUN}/linphone.log", "--pipe", f"{RUN}/control")
            with running(run, "linphone-daemon", *files, "--auto-answer", "-C", host=host):
                async with cls._controlled(host, uri, run / "control") as phone:
                    await until(phone.is_registered, f"{uri} is registered")
                    yield phone

    @classmethod
    @contextlib.asynccontextmanager
    async def _controlled(cls, host: str, uri: str, control: Path) -> AsyncIterator[Linphone]:
        await until(control.exists, f"linphone on {host} takes commands")
        phone = cls(host, uri, *await asyncio.open_unix_connection(control))
        try:
            yield phone
        finally:
            phone._writer.close()

    async def is_registered(self) -> bool:
        return "LinphoneRegistrationOk" in await self._do("register-status", "ALL")

    async def call(self, uri: str) -> None:
        """Returns once it is answered."""
        await self._do("call", uri)
        await self._comes_to("StreamsRunning")

    async def hold(self) -> None:
        """Returns once the other side has agreed, as `resume` does."""
        await self._do("call-pause")
        self._held = await self._comes_to("Paused")

    async def resume(self) -> None:
        await self._do("call-resume", self._held)
        await self._comes_to("StreamsRunning")

    async def held(self) -> None:
        """Returns once the other side has put the call on hold."""
        await self._comes_to("PausedByRemote")

    async def transfer(self, uri: str) -> None:
        """Returns once the other side has called there, and this call is over."""
        call = re.search(r"Id: (\d+)", await self._do("call-stats"))
        assert call, f"{self.uri} is in no call"
        await self._do("call-transfer", call[1], uri)
        await self.ended()

    async def hang_up(self) -> None:
        await self._do("terminate")
        await self.ended()

    async def ended(self) -> None:
        """Returns once the call is over."""
        await self._comes_to("Released")

    async def counts(self) -> Counts:
        """Of all its calls."""
        listed = json.loads(_nft(self._host, "--json", "list", "counters", "table", "inet", "linphone"))["nftables"]
        counters = [entry["counter"] for entry in listed if "counter" in entry]
        return Counts(**{counter["name"]: counter["packets"] for counter in counters})

    async def _do(self, command: str, *parameters: str) -> str:
        """What it answers."""
        line = " ".join([command, *parameters])
        self._writer.write(line.encode())
        async with asyncio.timeout(WITHIN_SECONDS):
            answer = (await self._reader.read(ANSWER_BYTES)).decode()  # it comes in one piece
        if not answer.startswith("Status: Ok"):
            raise LinphoneError(f"{self.uri}: {line}: {answer}")
        return answer

    async def _comes_to(self, state: str) -> str:
        """The number of the call that comes to that state next; what happens before is let go."""
        seen: list[str] = []
        try:
            async with asyncio.timeout(WITHIN_SECONDS):
                while True:
                    event = re.search(r"Event: LinphoneCall(\w+)\n.*\nId: (\d+)", await self._do("pop-event"))
                    if event is None:
                        await asyncio.sleep(POLL_SECONDS)
                        continue
                    seen.append(event[1])
                    if event[1] == state:
                        return event[2]
        except TimeoutError:
            raise late(f"{self.uri}: a call comes to {state}", WITHIN_SECONDS, seen) from None


def _nft(host: str, *words: str, said: str = "") -> str:
    """What the host's packet filter answers."""
    command = [*enter(host), "nft", *words]
    return subprocess.run(command, input=said, check=True, stdout=subprocess.PIPE, text=True).stdout
