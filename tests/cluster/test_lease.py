"""The Lease, on a real API server."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable

from switchboard.control.kube import Kube
from switchboard.control.lease import API_VERSION, KIND, TERM_EPOCH, Lease
from tests.tools.wait import until

DURATION_SECONDS = 2.0


def clock_beyond(term: int) -> Callable[[], Awaitable[bool]]:
    """Terms of a new Lease start from the clock, in seconds; no operator takes the Lease more than once a second."""

    async def beyond() -> bool:
        return time.time() - TERM_EPOCH > term

    return beyond


def lease(kube: Kube, name: str, identity: str) -> Lease:
    return Lease(kube, namespace="default", name=name, identity=identity, duration_seconds=DURATION_SECONDS)


async def test_terms_only_grow(kube: Kube) -> None:
    """Each taking of the Lease is a higher term: after a release, by the same operator again, after a deletion."""
    name = f"lease-{secrets.token_hex(3)}"
    terms = []
    for identity in ("a", "b", "b"):
        one = lease(kube, name, identity)
        terms.append(await one.acquire())
        await one.release()
    path = f"/apis/{API_VERSION}/namespaces/default/leases/{name}"
    await kube._request("DELETE", path)
    await until(clock_beyond(terms[-1]), "a clock that has outrun three terms in one second")
    terms.append(await lease(kube, name, "c").acquire())
    assert terms == sorted(set(terms))


async def test_a_released_lease_is_taken_at_once(kube: Kube) -> None:
    """An operator that ends in good order is not waited for."""
    name = f"lease-{secrets.token_hex(3)}"
    first = lease(kube, name, "a")
    await first.acquire()
    await first.release()
    began = time.monotonic()
    await lease(kube, name, "b").acquire()
    assert time.monotonic() - began < DURATION_SECONDS / 2


async def test_a_dead_holder_is_waited_for(kube: Kube) -> None:
    """An operator that renews is waited for; one that does no longer is followed after the Lease's duration."""
    name = f"lease-{secrets.token_hex(3)}"
    first = lease(kube, name, "a")
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    waiting = asyncio.create_task(lease(kube, name, "b").acquire())
    done, _ = await asyncio.wait({holding, waiting}, timeout=2 * DURATION_SECONDS)
    assert not done
    holding.cancel()
    began = time.monotonic()
    await waiting
    assert time.monotonic() - began < 3 * DURATION_SECONDS


async def test_a_holder_that_was_replaced_stops(kube: Kube) -> None:
    """Somebody else in the Lease ends the holding at the next renewal, without any time-out."""
    name = f"lease-{secrets.token_hex(3)}"
    first = lease(kube, name, "a")
    await first.acquire()
    taken = await kube.get(API_VERSION, KIND, "default", name)
    assert taken is not None
    taken["spec"]["holderIdentity"] = "b"
    await kube.replace(taken)
    async with asyncio.timeout(DURATION_SECONDS):
        await first.hold()
