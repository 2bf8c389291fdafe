"""The proxy's figures for Prometheus, made from the last report at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

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
    ("calls_urgent", "Calls admitted above the threshold because they are urgent.", lambda report: report.urgent),
    ("calls_refused", "Calls refused admission and sent on.", lambda report: report.refused),
    ("calls_over_threshold", "Calls admitted at or above the threshold.", lambda report: report.over_threshold),
    ("calls_assigned", "Calls assigned to proxies.", lambda report: report.assigned_total),
    ("calls_redirected", "302 sent.", lambda report: report.redirected),
    (
        "requests_not_redirected",
        "Requests forwarded because their client does not follow a 302.",
        lambda report: report.not_redirected,
    ),
    ("calls_forwarded", "Calls forwarded to another proxy.", lambda report: report.forwarded),
    ("calls_saturated", "Calls answered with the saturated status.", lambda report: report.saturated),
    ("requests_denied", "Requests from outside all networks.", lambda report: report.denied),
    ("requests_unauthorized", "Requests with wrong credentials.", lambda report: report.unauthorized),
)


class Metrics:
    """A registry of its own, whose one collector reads the last report.

    `refused`: requests of gateways, by gateway and reason. `targets`: whether each passes its health checks.
    """

    def __init__(
        self,
        labels: Mapping[str, str],
        report: Callable[[], Report],
        refused: Callable[[], Mapping[tuple[str, str], int]],
        targets: Callable[[], Mapping[str, bool]],
    ) -> None:
        self._labels = labels
        self._report, self._refused, self._targets = report, refused, targets
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
        dropped = CounterMetricFamily(
            "switchboard_proxy_requests_dropped",
            "Requests dropped: too many from one address, a scanner's, malformed, or of more users than may register.",
            labels=[*self._labels, "reason"],
        )
        for reason, count in report.dropped.items():
            dropped.add_metric([*self._labels.values(), reason], count)
        yield dropped
        yield from self._of_gateways()
        up = GaugeMetricFamily(
            "switchboard_proxy_database_up", "1 while the database of the locations answers.", labels=list(self._labels)
        )
        if report.database_up is not None:
            up.add_metric(list(self._labels.values()), float(report.database_up))
        yield up

    def _of_gateways(self) -> Iterator[Metric]:
        refused = CounterMetricFamily(
            "switchboard_proxy_gateway_requests_refused",
            "Requests of a gateway refused for want of a right or over its limits.",
            labels=[*self._labels, "gateway", "reason"],
        )
        for (gateway, reason), count in self._refused().items():
            refused.add_metric([*self._labels.values(), gateway, reason], count)
        up = GaugeMetricFamily(
            "switchboard_proxy_target_up",
            "1 while a target of the routes passes its health checks.",
            labels=[*self._labels, "target"],
        )
        for target, well in self._targets().items():
            up.add_metric([*self._labels.values(), target], float(well))
        yield from (refused, up)
