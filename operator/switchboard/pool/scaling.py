"""How many proxies there are, and which ones come and go. A call is worth more than a pod:

* fewer wanted: those with the fewest calls drain (no new calls) and are deleted when the last call has ended, or when
  `drain.timeout` has; the primary goes last, and hands over before;
* a proxy whose pod somebody deleted drains as well, and is replaced at once; `drain.timeout` holds for it, too;
* more wanted: a draining proxy is taken back before a new one is started;
* a failed pod is replaced;
* proxies made from an older template are replaced one at a time: one more is started, one is drained when that is
  ready, the primary last. Never more than one above the wanted number for it, however long the drains take;
* proxies on a node that is being emptied are replaced all at once, because somebody waits for the node: each drains as
  soon as one that stays is ready in its stead, and a primary among them hands over before that;
* suspended: nothing is started or stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from switchboard.pool.election import choose
from switchboard.pool.spec import PoolSpec
from switchboard.pool.table import Proxy, eligible


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do now, by pod name. The next plan is made from what is seen then."""

    create: int = 0
    drain: tuple[str, ...] = ()
    undrain: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    hand_over_to: str | None = None  # the primary has to go: make this one primary first


def plan(proxies: Sequence[Proxy], spec: PoolSpec, *, desired: int, primary: str | None, now: float) -> Plan:
    """What brings the pool nearer to `desired` proxies of the present template; `primary` is the Service's target."""
    if spec.suspend:
        return Plan()
    alive = [proxy for proxy in proxies if proxy.alive]
    failed = [proxy.name for proxy in proxies if proxy.failed and not proxy.terminating]
    overdue = [
        proxy.name
        for proxy in proxies
        if proxy.terminating and not proxy.cut_short and _timed_out(proxy, spec.drain_timeout_seconds, now)
    ]
    ended = [proxy for proxy in alive if proxy.draining and _ended(proxy, spec.drain_timeout_seconds, now)]
    successor = choose(proxies, besides=primary)
    last = desired == 0 and len(alive) == 1
    leaving = {proxy.name for proxy in ended if proxy.name != primary or last}
    staying = [proxy for proxy in alive if proxy.name not in leaving]
    active = [proxy for proxy in staying if not proxy.draining]

    undrain = _take_back(staying, desired - sum(not proxy.evicted for proxy in active))
    drain = _victims(active, desired, primary)
    hand_over = primary in drain and desired > 0
    primary_ended = any(proxy.name == primary for proxy in ended)
    evicted = any(proxy.name == primary and proxy.evicted for proxy in active)
    must_go = hand_over or primary_ended or (evicted and successor is not None and not successor.evicted)
    return Plan(
        create=_missing(staying, active, len(undrain), desired),
        drain=tuple(name for name in drain if not (hand_over and name == primary)),
        undrain=undrain,
        delete=(*failed, *overdue, *(proxy.name for proxy in ended if proxy.name in leaving)),
        hand_over_to=successor.name if successor and must_go and desired > 0 else None,
    )


def drained(proxy: Proxy) -> bool:
    """Whether nothing is lost when the proxy goes: it carries no call, or has never been able to."""
    if proxy.reading is None:
        return not proxy.ready and proxy.link != "up"
    return proxy.reading.draining and proxy.reading.calls == 0


def _ended(proxy: Proxy, drain_timeout_seconds: float, now: float) -> bool:
    return drained(proxy) or _timed_out(proxy, drain_timeout_seconds, now)


def _timed_out(proxy: Proxy, drain_timeout_seconds: float, now: float) -> bool:
    return proxy.draining_since is not None and now - proxy.draining_since >= drain_timeout_seconds


def _unwanted(proxy: Proxy) -> bool:
    return proxy.evicted or not proxy.current


def _take_back(staying: Iterable[Proxy], count: int) -> tuple[str, ...]:
    """Draining proxies that serve again: those with the most calls, which would have taken longest to go."""
    back = sorted(
        (proxy for proxy in staying if proxy.draining and not _unwanted(proxy)),
        key=lambda proxy: (-proxy.calls, proxy.created, proxy.name),
    )
    return tuple(proxy.name for proxy in back[: max(0, count)])


def _missing(staying: Sequence[Proxy], active: Sequence[Proxy], undrained: int, desired: int) -> int:
    """How many to start: what is missing without those that are evicted, or one to replace an outdated one."""
    missing = desired - sum(not proxy.evicted for proxy in active) - undrained
    if missing > 0:
        return missing
    settled = len(staying) <= desired and all(eligible(proxy) for proxy in active if not _unwanted(proxy))
    return 1 if missing == 0 and undrained == 0 and settled and any(_unwanted(proxy) for proxy in active) else 0


def _victims(active: Sequence[Proxy], desired: int, primary: str | None) -> tuple[str, ...]:
    """Which ones drain now. Those that cannot stay go first, and only while enough others serve.

    A proxy that is to replace one of them has the fewest calls of all: it must not be taken for the one to go.
    """
    surplus = len(active) - desired
    unwanted = sorted((proxy for proxy in active if _unwanted(proxy)), key=lambda proxy: _loss(proxy, primary))
    others = sorted((proxy for proxy in active if not _unwanted(proxy)), key=lambda proxy: _loss(proxy, primary))
    candidates = unwanted + others[: max(0, surplus - len(unwanted))]
    serving = sum(eligible(proxy) for proxy in active)
    victims: list[str] = []
    for proxy in candidates:
        if len(victims) >= surplus:
            break
        if eligible(proxy) and serving <= desired:
            continue
        serving -= eligible(proxy)
        victims.append(proxy.name)
    return tuple(victims)


def _loss(proxy: Proxy, primary: str | None) -> tuple[bool, int, float, str]:
    """The primary last, fewest calls first, the youngest first."""
    return proxy.name == primary, proxy.calls, -proxy.created, proxy.name
