"""What operator and proxies tell Prometheus, and the alerts and the dashboard that are made of it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from switchboard.agent.metrics import Metrics
from switchboard.control import kube
from switchboard.control.metrics import CERTIFICATE_EXPIRY, families, telling
from switchboard.link.messages import Report
from switchboard.pool.conditions import Observed, status
from tests.unit.pool.build import a_proxy, a_spec

ROOT = Path(__file__).parents[3]
FILES = ROOT / "helm" / "switchboard" / "files"
RULES = Path(__file__).with_name("rules.yaml")
ALERTS = [rule for group in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((FILES / "dashboard.json").read_text())
NAME = re.compile(r"\bswitchboard_\w+")


def promtool(*arguments: str, stdin: bytes = b"", directory: Path = ROOT) -> None:
    ran = subprocess.run(["promtool", *arguments], input=stdin, capture_output=True, check=False, cwd=directory)
    assert ran.returncode == 0, (ran.stdout + ran.stderr).decode()


class Pools(Collector):
    """One autoscaled pool, as the operator's collector gives it."""

    def collect(self) -> Iterator[Metric]:
        spec = a_spec(autoscaling={"min": 1, "max": 9})
        seen = Observed(
            generation=1,
            spec=spec,
            proxies=[a_proxy("a"), a_proxy("b")],
            desired=2,
            entry="a",
            addresses=(),
            selector="",
            load_config_map="",
            now=101.0,
        )
        yield from families([(("voice", "edge"), status(seen, (), "2026-01-02T03:04:05Z"), spec)])


def operators() -> bytes:
    """Those of the modules imported here, and of a pool."""
    assert kube.WRITES
    pools = CollectorRegistry()
    pools.register(Pools())
    own = "".join(
        block
        for block in re.split(r"(?=^# HELP)", generate_latest(REGISTRY).decode(), flags=re.MULTILINE)
        if block.startswith("# HELP switchboard_")
    )
    return own.encode() + generate_latest(pools)


def proxys() -> bytes:
    report = Report(
        seq=1,
        boot="b",
        tick=1,
        reason="period",
        room=60,
        calls=20,
        media_sessions=20,
        cpu_cores=0.1,
        bandwidth_bits_per_second=1000,
        workload=0.2,
        database_up=True,
    )
    labels = {"namespace": "voice", "pool": "edge", "proxy": "edge-a"}
    metrics = Metrics(
        labels,
        lambda: report,
        lambda: {("pstn-1", "prefix"): 3},
        lambda: {"sip:192.0.2.1": True, "sip:192.0.2.2": False},
    )
    return generate_latest(metrics.registry)


def exposed() -> set[str]:
    """Names as queries know them."""
    text = (operators() + proxys()).decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    histograms = {
        name + part for name, kind in kinds.items() if kind == "histogram" for part in ("_bucket", "_sum", "_count")
    }
    return set(kinds) | histograms


@pytest.mark.parametrize("text", [operators(), proxys()], ids=["operator", "proxy"])
def test_metrics_follow_the_conventions(text: bytes) -> None:
    """Promtool finds nothing to say about names, units, types and help texts."""
    promtool("check", "metrics", stdin=text)


def test_a_pools_figures_are_those_of_its_status() -> None:
    """Namespace and pool tell whose they are; autoscaling.max is there where it is set."""
    text = operators().decode()
    for line in (
        'switchboard_pool_ready_proxies{namespace="voice",pool="edge"} 2.0',
        'switchboard_pool_calls{namespace="voice",pool="edge"} 40.0',
        'switchboard_pool_workload_ratio{namespace="voice",pool="edge"} 0.2',
        'switchboard_pool_condition{condition="Ready",namespace="voice",pool="edge"} 1.0',
        'switchboard_pool_max_proxies{namespace="voice",pool="edge"} 9.0',
    ):
        assert line in text


def test_lost_calls_are_counted_from_zero_while_a_pool_is_looked_after() -> None:
    """The first lost call is an increase, so its alert fires; a pool that is gone leaves no figure behind."""
    with telling("voice", "gone"):
        CERTIFICATE_EXPIRY.labels("voice", "gone", "agent").set(1)
        assert 'switchboard_calls_lost_total{namespace="voice",pool="gone"} 0.0' in generate_latest(REGISTRY).decode()
    assert 'pool="gone"' not in generate_latest(REGISTRY).decode()


def test_a_proxys_refusals_and_targets_are_told_apart() -> None:
    """Refusals by gateway and reason; health by target."""
    whose = 'namespace="voice",pool="edge",proxy="edge-a"'
    text = proxys().decode()
    for line in (
        f'switchboard_proxy_gateway_requests_refused_total{{gateway="pstn-1",{whose},reason="prefix"}} 3.0',
        f'switchboard_proxy_target_up{{{whose},target="sip:192.0.2.1"}} 1.0',
        f'switchboard_proxy_target_up{{{whose},target="sip:192.0.2.2"}} 0.0',
    ):
        assert line in text


def test_alerts_fire(tmp_path: Path) -> None:
    """Each alert fires where it should and nowhere else, as Prometheus itself evaluates it."""
    for file in (FILES / "alerts.yaml", RULES):
        (tmp_path / file.name).write_text(file.read_text())
    promtool("check", "rules", "alerts.yaml", directory=tmp_path)
    promtool("test", "rules", "rules.yaml", directory=tmp_path)
    tests = yaml.safe_load(RULES.read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {alert["alert"] for alert in ALERTS}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_each_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    """Its runbook is a section of docs/alerts.md."""
    assert alert["annotations"]["runbook_url"] == f"docs/alerts.md#{alert['alert'].lower()}"
    assert f"\n## {alert['alert']}\n" in (ROOT / "docs" / "alerts.md").read_text()


def test_alerts_and_dashboard_name_metrics_that_exist() -> None:
    """No expression is about a metric that nobody exposes."""
    expressions = [alert["expr"] for alert in ALERTS]
    expressions += [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    expressions += [variable["query"] for variable in DASHBOARD["templating"]["list"]]
    named = {name for expression in expressions for name in NAME.findall(expression)}
    assert len(named) > 20
    assert named <= exposed(), named - exposed()


def test_the_dashboard_shows_every_metric_of_a_pool() -> None:
    """Whatever a proxy or the operator counts can be seen, roles and inner clocks apart."""
    shown = set(NAME.findall(json.dumps(DASHBOARD) + json.dumps(ALERTS)))
    inner = {"switchboard_proxy_primary", "switchboard_proxy_draining", "switchboard_proxy_tick"}
    hidden = {name for name in exposed() - shown - inner if not name.endswith(("_bucket", "_sum", "_count"))}
    assert hidden <= {"switchboard_routing_lag_seconds", "switchboard_reconcile_seconds"}, hidden


def test_every_metric_is_explained() -> None:
    """docs/operating.md lists the metrics that operator and proxies expose, and no others."""
    kinds = re.findall(r"^# TYPE (\S+) ", (operators() + proxys()).decode(), re.MULTILINE)
    page = (ROOT / "docs" / "operating.md").read_text()
    assert set(re.findall(r"`(switchboard_\w+)`", page)) - {"switchboard_proxy_"} == set(kinds)
