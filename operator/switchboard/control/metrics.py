"""The operator's metrics. Figures of pools are collected when Prometheus asks, so they cost the fast path nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from switchboard.control.manager import Manager
    from switchboard.control.reconcile import PoolController

disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client leaves this one untyped

PUSH_SECONDS = Histogram(
    "switchboard_routing_lag_seconds",
    "From a report's arrival to the changed row being in effect in the primary",
    buckets=(0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5),
)
RECONCILES = Counter("switchboard_reconciles", "Reconciles", ["result"])
RECONCILE_SECONDS = Histogram("switchboard_reconcile_seconds", "How long a reconcile takes")
LEADING = Gauge("switchboard_leading", "1 while this operator holds the Lease")

POOL = ["namespace", "pool"]
PROXY = [*POOL, "proxy"]

_GAUGES = (  # field of a report, name, words
    ("workload", "workload", "Workload, 1 is all of the capacity"),
    ("room", "room", "Calls that it would still admit"),
    ("calls", "calls", "Calls in progress"),
)
_COUNTERS = (
    ("assigned_total", "assigned", "Calls it has assigned"),
    ("admitted", "admitted", "Calls admitted"),
    ("refused", "refused", "Calls refused admission and sent on"),
    ("saturated", "saturated", "Calls answered with the saturated status"),
    ("redirected", "redirected", "Calls answered with a 302"),
    ("forwarded", "forwarded", "Calls forwarded to another proxy"),
    ("over_threshold", "over_threshold", "Calls admitted at or above the threshold; must stay 0"),
)


class PoolCollector(Collector):
    """Workload, room and calls of every proxy, from the fleets of the pools looked after."""

    def __init__(self, manager: Manager[PoolController]) -> None:
        self._manager = manager

    def register(self) -> None:
        REGISTRY.register(self)

    def unregister(self) -> None:
        REGISTRY.unregister(self)

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {
            **{
                field: GaugeMetricFamily(f"switchboard_proxy_{name}", words, labels=PROXY)
                for field, name, words in _GAUGES
            },
            **{
                field: CounterMetricFamily(f"switchboard_proxy_{name}", words, labels=PROXY)
                for field, name, words in _COUNTERS
            },
        }
        proxies = GaugeMetricFamily("switchboard_pool_proxies", "Proxies with a link", labels=POOL)
        for (namespace, pool), controller in list(self._manager.controllers.items()):
            members = [member for member in controller.fleet.members.values() if member.report is not None]
            proxies.add_metric([namespace, pool], len(members))
            for member in members:
                for field, family in families.items():
                    family.add_metric([namespace, pool, member.proxy.name], getattr(member.report, field))
        yield from (*families.values(), proxies)
