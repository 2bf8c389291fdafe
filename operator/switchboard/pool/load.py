"""The load ConfigMap: the shared, durable record of what each proxy carries, mounted into every proxy.

A proxy that starts while nobody computes tables starts from it. A mounted ConfigMap lags by up to two minutes, so it
never is the fast path; it is written when something worth knowing moved, and no more often than a pool of its size may.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Literal

import msgspec

from switchboard.pool.table import Proxy, Version, in_order
from switchboard.pool.workload import moved

State = Literal["ready", "saturated", "stale", "draining", "mediaDown", "unready"]

KEY = "load.json"
MIN_INTERVAL_SECONDS = 1.25  # with the status every 10 s, a pool makes no more than one write a second
INTERVAL_SECONDS_PER_PROXY = 0.01  # 10 s at 1000 proxies


class ProxyLoad(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`limit`: calls at which it admits no more; `sampledAt`: when its last report came, "" before the first."""

    name: str
    id: str
    address: str
    port: int
    advertise: str
    state: State
    calls: int
    workload: float
    limit: int
    sampled_at: str


class LoadDocument(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pool: str
    version: Version
    published_at: str
    primary: str | None
    threshold: float
    proxies: tuple[ProxyLoad, ...]


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """Now, on the monotonic clock of readings and on the wall."""

    monotonic: float
    wall: float  # seconds since 1970

    def text(self, monotonic: float) -> str:
        """A moment of the monotonic clock as RFC 3339."""
        moment = dt.datetime.fromtimestamp(self.wall + monotonic - self.monotonic, dt.UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def state(proxy: Proxy, now: float, stale_after_seconds: float) -> State:
    """What is said of a proxy, the most telling first."""
    reading = proxy.reading
    if not proxy.alive or not proxy.ready or reading is None:
        return "unready"
    if proxy.draining or reading.draining:
        return "draining"
    if not reading.media_ok:
        return "mediaDown"
    if now - reading.sampled_at > stale_after_seconds:
        return "stale"
    return "saturated" if proxy.saturated else "ready"


def load_document(  # noqa: PLR0913 (the document's fields)
    proxies: Iterable[Proxy],
    clock: Clock,
    *,
    pool: str,
    version: Version,
    primary: str | None,
    threshold: float,
    stale_after_seconds: float,
) -> LoadDocument:
    """The record as of now, in the table's order."""
    return LoadDocument(
        pool=pool,
        version=version,
        published_at=clock.text(clock.monotonic),
        primary=primary,
        threshold=threshold,
        proxies=tuple(_load(proxy, clock, stale_after_seconds) for proxy in in_order(proxies)),
    )


def encode(document: LoadDocument) -> str:
    """The text under `load.json`."""
    return msgspec.json.encode(document).decode()


def publish_interval(proxies: int) -> float:
    """The shortest time between two writes for a pool of this size."""
    return max(MIN_INTERVAL_SECONDS, INTERVAL_SECONDS_PER_PROXY * proxies)


def must_publish(last: LoadDocument | None, new: LoadDocument, silent_seconds: float, change: float) -> bool:
    """Whether `new` is written now, `silent_seconds` after `last`.

    Each write is compared with the last one written, so a workload that creeps is published once it has moved by
    `change` in all, and one that trembles around a value is not.
    """
    if last is None:
        return True
    return silent_seconds >= publish_interval(len(new.proxies)) and _tells_more(last, new, change)


def _tells_more(last: LoadDocument, new: LoadDocument, change: float) -> bool:
    if last.primary != new.primary or last.threshold != new.threshold or len(last.proxies) != len(new.proxies):
        return True
    return any(
        (before.id, before.state, before.address, before.advertise)
        != (after.id, after.state, after.address, after.advertise)
        or moved(before.workload, after.workload, change)
        for before, after in zip(last.proxies, new.proxies, strict=True)
    )


def _load(proxy: Proxy, clock: Clock, stale_after_seconds: float) -> ProxyLoad:
    reading = proxy.reading
    return ProxyLoad(
        name=proxy.name,
        id=proxy.id,
        address=proxy.address,
        port=proxy.port,
        advertise=proxy.advertise,
        state=state(proxy, clock.monotonic, stale_after_seconds),
        calls=proxy.calls,
        workload=round(reading.workload, 4) if reading else 0.0,
        limit=reading.calls + reading.room if reading else 0,
        sampled_at=clock.text(reading.sampled_at) if reading else "",
    )
