"""The operator's metrics. Figures of pools are collected when Prometheus asks, so they cost the fast path nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from switchboard.pool.conditions import Status
from switchboard.pool.spec import PoolSpec

if TYPE_CHECKING:
    from switchboard.control.manager import Manager
    from switchboard.control.reconcile import PoolController

disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client leaves this one untyped

POOL = ["namespace", "pool"]

PUSH_SECONDS = Histogram(
    "switchboard_routing_lag_seconds",
    "From a report's arrival until the changed row is in effect in the primary.",
    buckets=(0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5),
)
RECONCILES = Counter("switchboard_reconciles", "Reconciles, by how they ended.", ["result"])
RECONCILE_SECONDS = Histogram("switchboard_reconcile_seconds", "How long a reconcile takes.")
CALLS_LOST = Counter("switchboard_calls_lost", "Calls that ended because their proxy did.", POOL)
CERTIFICATE_EXPIRY = Gauge(
    "switchboard_certificate_expiry_timestamp_seconds",
    "When a pool's certificate expires; it is renewed after two thirds of its life.",
    [*POOL, "certificate"],
)
LEADING = Gauge("switchboard_leading", "1 while this operator holds the Lease.")


@contextmanager
def telling(namespace: str, pool: str) -> Iterator[None]:
    """While a pool is looked after its figures are there, counts from 0 on, or the first loss would be no increase."""
    CALLS_LOST.labels(namespace, pool)
    try:
        yield
    finally:
        CALLS_LOST.remove(namespace, pool)
        CERTIFICATE_EXPIRY.remove_by_labels({"namespace": namespace, "pool": pool})


def forget_expiry(namespace: str, pool: str, certificate: str) -> None:
    """Of a certificate that the pool has no use for any more."""
    CERTIFICATE_EXPIRY.remove_by_labels({"namespace": namespace, "pool": pool, "certificate": certificate})


class Figure(NamedTuple):
    """A gauge of a pool: `switchboard_pool_<name>`."""

    name: str
    words: str
    value: Callable[[Status], float]


_FIGURES = (
    Figure("desired_proxies", "Proxies the operator works towards.", lambda status: status.desired_replicas),
    Figure("ready_proxies", "Proxies that take calls.", lambda status: status.ready_replicas),
    Figure("draining_proxies", "Proxies that finish their calls.", lambda status: status.draining_replicas),
    Figure("saturated_proxies", "Proxies at the threshold.", lambda status: status.saturated_replicas),
    Figure("calls", "Calls in progress, those of draining proxies included.", lambda status: status.calls),
    Figure("capacity_calls", "Calls at 100 % workload of the ready proxies.", lambda status: status.capacity),
    Figure("workload_ratio", "Mean workload of the ready proxies; 1 is 100 %.", lambda status: status.workload / 100),
)


class PoolCollector(Collector):
    """Figures of the pools looked after, as in their status; those of single proxies come from the proxies."""

    def __init__(self, manager: Manager[PoolController]) -> None:
        self._manager = manager

    def register(self) -> None:
        REGISTRY.register(self)

    def unregister(self) -> None:
        REGISTRY.unregister(self)

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        told = [(key, one.told) for key, one in self._manager.controllers.items() if one.told is not None]
        yield from families([(key, status, spec) for key, (status, spec) in told])


def families(pools: Iterable[tuple[tuple[str, str], Status, PoolSpec]]) -> Iterator[Metric]:
    """Each pool by namespace and name, its status, and the spec in effect."""
    gauges = [
        (figure, GaugeMetricFamily(f"switchboard_pool_{figure.name}", figure.words, labels=POOL)) for figure in _FIGURES
    ]
    conditions = GaugeMetricFamily(
        "switchboard_pool_condition", "1 while the condition is True.", labels=[*POOL, "condition"]
    )
    limits = GaugeMetricFamily("switchboard_pool_max_proxies", "autoscaling.max, where it is set.", labels=POOL)
    for key, status, spec in pools:
        for figure, gauge in gauges:
            gauge.add_metric(key, figure.value(status))
        for condition in status.conditions:
            conditions.add_metric([*key, condition.type], condition.status == "True")
        if spec.autoscaling is not None:
            limits.add_metric(key, spec.autoscaling.max)
    yield from (gauge for _, gauge in gauges)
    yield from (conditions, limits)
