"""How many calls of a gateway are in use in the whole pool: never less than there are, whatever is on its way."""

from __future__ import annotations

from typing import Any

from switchboard.pool.gateways import InUse, in_use, limited
from switchboard.pool.spec import Gateway, Rights
from switchboard.pool.table import GatewayCalls, Proxy
from tests.unit.pool.build import a_proxy, a_reading, unreported

PRIMARY = "p~b"
NAMES = ("pstn",)


def proxy(name: str, told: int | None, received: dict[str, dict[int, int]] | None = None, **reading: Any) -> Proxy:
    """One that has told of so many calls; None: it has said nothing of them."""
    gateways = {} if told is None else {"pstn": GatewayCalls(told, received or {})}
    return a_proxy(name, reading=a_reading(gateways=gateways, **reading))


def test_only_limited_gateways_are_counted() -> None:
    """The others cost nothing."""
    gateways = [
        Gateway(name="free", kind="voip", networks=()),
        Gateway(name="pstn", kind="pstn", networks=(), rights=Rights(max_calls=3)),
    ]
    assert limited(gateways) == ("pstn",)
    assert in_use([proxy("a", 2)], PRIMARY, ()) == {}


def test_calls_of_all_proxies() -> None:
    """Draining ones and those that are not ready included: their calls are there."""
    proxies = [proxy("a", 2), proxy("b", 3, draining=True), a_proxy("c", ready=False, reading=a_reading(calls=0))]
    assert in_use(proxies, PRIMARY, NAMES) == {"pstn": InUse(5, 7)}


def test_what_arrived_is_not_counted_twice() -> None:
    """The primary counts what it assigned in live ticks: of those that arrived one count goes; of others' none."""
    received = {PRIMARY: {7: 4, 8: 1, 10: 2}, "other~b": {9: 1}}
    assert in_use([proxy("a", 5, received)], PRIMARY, NAMES) == {"pstn": InUse(2, 7)}
    assert in_use([proxy("a", 1, received)], PRIMARY, NAMES) == {"pstn": InUse(-2, 7)}


def test_a_tick_is_closed_when_every_proxy_has_closed_it() -> None:
    """One that is a tick behind holds it back; one that has seen none, or cannot be heard, does not."""
    lost = a_proxy("c", link="lost", reading=a_reading(tick=2, gateways={"pstn": GatewayCalls(1)}))
    proxies = [proxy("a", 0), proxy("b", 0, tick=9), proxy("d", None, tick=0, calls=0), lost]
    assert in_use(proxies, PRIMARY, NAMES) == {"pstn": InUse(1, 6)}
    assert in_use([unreported(a_proxy("a"))], PRIMARY, NAMES) == {"pstn": InUse(0, 0)}


def test_nobody_knows_until_every_proxy_has_told() -> None:
    """A proxy with calls that has not said whose they are, such as right after a limit was set, may have any number."""
    assert in_use([proxy("a", 2), proxy("b", None, calls=4)], PRIMARY, NAMES) == {}
    assert in_use([proxy("a", 2), proxy("b", None, calls=0)], PRIMARY, NAMES) == {"pstn": InUse(2, 7)}
