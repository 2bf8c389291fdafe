"""A browser calls a phone through the pool: Chromium and baresip, each on a host of its own, which both count packets.

The browser's end is a program of its own, so that all that belongs to it is on its host. It calls once, prints what it
counts, and hangs up when its standard input ends:

    python3 -m e2e.demo.browser SERVICE CERTIFICATE
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from e2e.embedded import network
from tests.tools.certificates import Secret
from tests.tools.clients.baresip import Baresip
from tests.tools.clients.chromium import chromium
from tests.tools.clients.counts import PACKETS, Counts
from tests.tools.clients.webphone import WebPhone, site

WSS_PORT = 8443
SECONDS = 5
BROWSER, PHONE = "198.18.202.1", "198.18.202.2"
LEFT_OUT = "browser: left out: `make clients` builds Chromium and the phone that it calls"


@dataclass(frozen=True)
class Heard:
    """What both ends have counted of a call."""

    browser: Counts
    phone: Counts

    @property
    def both_ways(self) -> bool:
        return min(counts.least_since(Counts()) for counts in (self.browser, self.phone)) >= PACKETS

    def __str__(self) -> str:
        how = "audio and video in both directions" if self.both_ways else "media is missing"
        return (
            f"browser: video call to a phone, {SECONDS} s, {how}: it received"
            f" audio={self.browser.audio_received} video={self.browser.video_received} packets,"
            f" the phone audio={self.phone.audio_received} video={self.phone.video_received}"
        )


async def call(service: str, secret: Secret) -> Heard:
    """One call, by way of the pool's Service, whose certificate that is."""
    network.add_host("phone", PHONE)
    command = [*network.add_host("browser", BROWSER), sys.executable, "-m", __spec__.name, service]
    with tempfile.NamedTemporaryFile(suffix=".crt") as certificate:
        certificate.write(secret["tls.crt"])
        certificate.flush()
        async with Baresip.at("phone", f"sip:phone@{service}", f"sip:{service}:5060") as phone:
            pipe = asyncio.subprocess.PIPE
            browser = await asyncio.create_subprocess_exec(*command, certificate.name, stdin=pipe, stdout=pipe)
            assert browser.stdout is not None
            counted = await browser.stdout.readline()
            heard = Heard(msgspec.json.decode(counted or b"{}", type=Counts), await phone.counts())
            await browser.communicate(b"")  # its standard input ends: it hangs up
    return heard


async def main(service: str, certificate: bytes) -> None:
    async with chromium(certificate) as browser, site() as page:
        server = f"wss://{service}:{WSS_PORT}/ws"
        async with WebPhone.at(browser, page, f"sip:browser@{service}", server) as phone:
            await phone.register()
            await phone.call(f"sip:phone@{service}", video=True)
            await asyncio.sleep(SECONDS)
            print(msgspec.json.encode(await phone.counts()).decode(), flush=True)
            await asyncio.to_thread(sys.stdin.read)
            await phone.hang_up()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes()))
