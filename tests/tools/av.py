"""Calls with voice and video whose packets are counted at both ends, as a program of its own: for clients in network
namespaces, where SIPp's counters do not tell what arrived.

    python3 -m tests.tools.av answer --ip 198.18.3.2        # sends back what it gets, until it is stopped
    python3 -m tests.tools.av call --ip 198.18.2.2 --to sip:echo@198.18.1.1 --calls 3 --seconds 5

Each prints one line of JSON at its end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack

from tests.tools.rtp import Media
from tests.tools.sessions import Incoming
from tests.tools.sip import Phone

PACKETS_PER_SECOND = 50


async def place(ip: str, target: str, seconds: float, *, hang_up: bool = True) -> dict[str, int]:
    """One call with media; what was sent and what came back."""
    async with Media.at(ip) as media, Phone.at(ip) as phone:
        call = await phone.call(target, body=media.sdp)
        result = {"offered": 1, "answered": 0, "sent": 0, "received": 0}
        if call.status != 200:
            return result
        await media.send(call.remote_sdp, round(seconds * PACKETS_PER_SECOND), 1 / PACKETS_PER_SECOND)
        await asyncio.sleep(0.2)  # packets still on their way
        if hang_up:
            await call.bye()
        counts = media.counts().values()
        return {"offered": 1, "answered": 1, "sent": sum(c[0] for c in counts), "received": sum(c[1] for c in counts)}


async def call(ip: str, target: str, calls: int, seconds: float) -> dict[str, int]:
    """Several at once."""
    results = await asyncio.gather(*(place(ip, target, seconds) for _ in range(calls)))
    return {key: sum(result[key] for result in results) for key in results[0]}


async def answer(ip: str, port: int, ring_seconds: float = 0) -> dict[str, int]:
    """Answers every call and sends its media back, until it is told to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    all_media: list[Media] = []
    async with AsyncExitStack() as stack:

        async def script(incoming: Incoming) -> None:
            media = await stack.enter_async_context(Media.at(ip, echo=True))
            all_media.append(media)
            incoming.sdp = media.sdp
            await incoming.reply(180)
            await asyncio.sleep(ring_seconds)
            await incoming.answer()

        phone = await stack.enter_async_context(Phone.at(ip, port, user="echo"))
        phone.script = script
        await stop.wait()
        counts = [count for media in all_media for count in media.counts().values()]
        return {"calls": len(all_media), "sent": sum(c[0] for c in counts), "received": sum(c[1] for c in counts)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["call", "answer"])
    parser.add_argument("--ip", required=True, help="own address")
    parser.add_argument("--port", type=int, default=5060, help="own port, when answering")
    parser.add_argument("--to", default="", help="SIP URI to call")
    parser.add_argument("--calls", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--ring-seconds", type=float, default=0)
    options = parser.parse_args()
    if options.what == "call":
        result = asyncio.run(call(options.ip, options.to, options.calls, options.seconds))
    else:
        result = asyncio.run(answer(options.ip, options.port, options.ring_seconds))
    json.dump(result, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
