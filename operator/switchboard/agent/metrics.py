"""The proxy's figures for Prometheus, made from the last report at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from switchboard.link.messages import Report

_GAUGES: tuple[tuple[str, str, Callable[[Report], float]], ...] = (
    ("calls", "Calls in use: dialogs or media sessions, whichever are more.", lambda report: report.calls),
    ("room_calls", "Calls the proxy would still admit.", lambda report: report.room),
    ("workload_ratio", "Highest share of a capacity in use; 1 is 100 %.", lambda report: report.workload),
    ("cpu_cores", "CPU used by Kamailio and rtpengine.", lambda report: report.cpu_cores),
    ("relayed_bytes_per_second", "Media relayed.", lambda report: report.bandwidth_bits_per_second / 8),
    ("media_sessions", "Sessions in rtpengine.", lambda report: report.media_sessions),
    ("media_up", "1 while rtpengine answers.", lambda report: report.media_ok),
    ("primary", "1 while this proxy is the primary.", lambda report: report.role == "primary"),
    ("draining", "1 while no new calls are admitted.", lambda report: report.draining),
    ("tick", "The newest tick seen.", lambda report: report.tick),
)
_COUNTERS: tuple[tuple[str, str, Callable[[Report], float]], ...] = (
    ("calls_admitted", "Calls admitted.", lambda report: report.admitted),
    ("calls_refused", "Calls refused admission and sent on.", lambda report: report.refused),
    ("calls_over_threshold", "Calls admitted at or above the threshold.", lambda report: report.over_threshold),
    ("calls_assigned", "Calls assigned to proxies.", lambda report: report.assigned_total),
    ("calls_redirected", "302 sent.", lambda report: report.redirected),
    ("calls_forwarded", "Calls forwarded to another proxy.", lambda report: report.forwarded),
    ("calls_saturated", "Calls answered with the saturated status.", lambda report: report.saturated),
)


class Metrics:
    """A registry of its own, whose one collector reads the last report."""

    def __init__(self, namespace: str, pool: str, proxy: str, report: Callable[[], Report]) -> None:
        self._labels = {"namespace": namespace, "pool": pool, "proxy": proxy}
        self._report = report
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        report = self._report()
        for name, text, value in _GAUGES:
            gauge = GaugeMetricFamily(f"switchboard_proxy_{name}", text, labels=list(self._labels))
            gauge.add_metric(list(self._labels.values()), float(value(report)))
            yield gauge
        for name, text, value in _COUNTERS:
            counter = CounterMetricFamily(f"switchboard_proxy_{name}", text, labels=list(self._labels))
            counter.add_metric(list(self._labels.values()), float(value(report)))
            yield counter
