"""What a client counts of its media."""

from __future__ import annotations

from typing import Protocol

import msgspec

from tests.tools.wait import until

PACKETS = 25


class Counts(msgspec.Struct, frozen=True):
    """RTP packets of a call, by kind and direction."""

    audio_sent: int = 0
    audio_received: int = 0
    video_sent: int = 0
    video_received: int = 0

    def least_since(self, before: Counts) -> int:
        """How many there were since then of the kind and direction that had the fewest."""
        return min(
            self.audio_sent - before.audio_sent,
            self.audio_received - before.audio_received,
            self.video_sent - before.video_sent,
            self.video_received - before.video_received,
        )


class Counting(Protocol):
    """A client in a call."""

    async def counts(self) -> Counts: ...


async def heard(client: Counting) -> None:
    """It sends voice and video, and gets some, from now on."""
    before = await client.counts()

    async def more() -> bool:
        return (await client.counts()).least_since(before) >= PACKETS

    await until(more, "voice and video in both directions")
