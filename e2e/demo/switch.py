"""Killing what should be survivable, and the time until somebody answers again."""

from __future__ import annotations

import asyncio
import contextlib
import time

from e2e import product
from e2e.embedded import network
from e2e.embedded.faults import kill_pod
from tests.tools.sip import Phone

PROBE_SECONDS = 0.02
GIVE_UP_SECONDS = 20


def kill_operator() -> None:
    """SIGKILL, as a crash of its node would: nothing is handed over."""
    name = product.kubectl(
        "get", "pods", "-n", product.NAMESPACE, "-l", "app.kubernetes.io/component=operator", "-o", "name"
    )
    kill_pod(product.NAMESPACE, name.split()[0].removeprefix("pod/"))


def kill_proxy(name: str, namespace: str = "default") -> None:
    """SIGKILL to everything in the pod."""
    kill_pod(namespace, name)


async def time_to_answer(service: str) -> float:
    """Milliseconds from now to the first OPTIONS that is answered through the Service after a time without answers.

    A new request every 20 ms, from one socket: a client whose packets conntrack keeps sending to the dead primary must
    be moved too.
    """
    started = time.monotonic()
    async with Phone.at(str(network.NODE)) as phone:
        while time.monotonic() - started < GIVE_UP_SECONDS:
            seen = len(phone.log)
            await phone.request("OPTIONS", f"sip:{service}:5060", resend=False)
            with contextlib.suppress(AssertionError, TimeoutError):
                await phone.endpoint.until(lambda packet: packet.message.is_response, PROBE_SECONDS, seen)
                return (time.monotonic() - started) * 1000
            await asyncio.sleep(0)
    return GIVE_UP_SECONDS * 1000.0
