"""Scripts for whoever is called: what becomes of an incoming call (see Phone.script)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.tools.sessions import Incoming

Script = Callable[[Incoming], Awaitable[None]]


async def ring(call: Incoming) -> None:
    """Rings and is never answered; ends by CANCEL."""
    await call.reply(180)


async def ring_then_answer(call: Incoming) -> None:
    await call.reply(180)
    await call.answer()


async def silence(call: Incoming) -> None:
    """Nothing at all, as from a host that is gone."""


def answer_when(event: asyncio.Event) -> Script:
    """Rings until the test sets `event`, then answers."""

    async def script(call: Incoming) -> None:
        await call.reply(180)
        await event.wait()
        await call.answer()

    return script


def early_media(event: asyncio.Event) -> Script:
    """183 with SDP, then the answer when the test sets `event`."""

    async def script(call: Incoming) -> None:
        await call.reply(183, sdp=call.sdp)
        await event.wait()
        await call.answer()

    return script


def refuse(status: int, headers: tuple[tuple[str, str], ...] = ()) -> Script:
    async def script(call: Incoming) -> None:
        await call.reply(status, headers)

    return script
