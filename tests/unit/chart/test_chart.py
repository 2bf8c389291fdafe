"""What the chart installs, by its values."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from switchboard.resources import names
from tests.unit.chart.rendering import CHART, Manifest, kustomized, named, render, run_helm

HELMS_OWN = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
}
POOLS_ROLE = "Role/voice/switchboard-operator-pools"


def comparable(manifest: Manifest) -> Manifest:
    """Without what only Helm has use for; aggregated roles are nobody's component."""
    labels = manifest["metadata"].get("labels", {})
    for label in HELMS_OWN:
        labels.pop(label, None)
    if manifest["kind"] == "ClusterRole" and "operator" not in manifest["metadata"]["name"]:
        labels.pop("app.kubernetes.io/component", None)
    return manifest


def test_chart_and_kustomize_base_are_the_same_objects() -> None:
    """Whoever installs with `kubectl apply -k manifests` gets what the chart's default values give, field by field."""
    chart, base = named(render(image={"tag": "dev"})), named(kustomized())
    assert (
        base.pop("Namespace//switchboard")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    )
    assert chart.keys() == base.keys()
    for name in base:
        assert comparable(chart[name]) == comparable(base[name]), name


def test_bound_to_namespaces_there_are_no_rights_in_the_cluster() -> None:
    """With watchNamespaces the operator has a Role in each of them, no ClusterRoleBinding, and watches them alone."""
    objects = named(render(watchNamespaces=["voice", "edge"]))
    assert not [name for name in objects if name.startswith("ClusterRoleBinding/")]
    assert {name for name in objects if name.startswith("ClusterRole/")} == {
        "ClusterRole//switchboard-edit",
        "ClusterRole//switchboard-view",
    }
    everywhere = named(render())["ClusterRole//switchboard-operator"]["rules"]
    rules = objects[POOLS_ROLE]["rules"]
    assert [
        *rules,
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["list", "watch"]},
    ] == everywhere
    assert objects["RoleBinding/edge/switchboard-operator-pools"]["subjects"][0]["namespace"] == "switchboard"
    assert environment(objects)["WATCH_NAMESPACES"] == "voice,edge"


def environment(objects: dict[str, Manifest]) -> dict[str, Any]:
    pod = objects["Deployment/switchboard/switchboard-operator"]["spec"]["template"]["spec"]
    return {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}


def test_the_definition_outlives_the_release() -> None:
    """Uninstalling must not delete the definition: every pool would go with it. crd.install=false leaves it out."""
    name = "CustomResourceDefinition//voipproxypools.switchboard.dev"
    assert named(render())[name]["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert name not in named(render(crd={"install": False}))


def test_a_single_operator_may_be_evicted() -> None:
    """A budget of one for one operator would make its node undrainable."""
    assert "PodDisruptionBudget/switchboard/switchboard-operator" not in named(render(replicas=1))


def test_monitoring_comes_when_asked_for() -> None:
    """ServiceMonitor, PrometheusRule and dashboard come when asked for, with their files' content."""
    on = {"enabled": True}
    rule = on | {"runbookUrl": "https://example.com/alerts"}
    objects = named(render(metrics={"serviceMonitor": on, "podMonitor": on, "prometheusRule": rule, "dashboard": on}))
    rules = objects["PrometheusRule/switchboard/switchboard-operator"]["spec"]
    alerts = (CHART / "files/alerts.yaml").read_text().replace("docs/alerts.md", "https://example.com/alerts")
    assert rules == yaml.safe_load(alerts)
    assert rules["groups"]
    board = objects["ConfigMap/switchboard/switchboard-dashboard"]["data"]["switchboard.json"]
    assert json.loads(board) == json.loads((CHART / "files/dashboard.json").read_text())
    monitor = objects["ServiceMonitor/switchboard/switchboard-operator"]["spec"]
    service = objects["Service/switchboard/switchboard-operator-metrics"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    proxies = objects["PodMonitor/switchboard/switchboard-proxies"]["spec"]
    assert proxies["namespaceSelector"] == {"any": True}
    assert proxies["selector"]["matchExpressions"] == [{"key": names.POOL_LABEL, "operator": "Exists"}]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ("replicas=0", "replicas"),
        ("replicaCount=3", "replicaCount"),
        ("watchNamespaces={Voice}", "watchNamespaces"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("logLevel=LOUD", "logLevel"),
        ("metrics.serviceMonitor.interval=often", "interval"),
        ("podDisruptionBudget.minAvailable=half", "minAvailable"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: str, complaint: str) -> None:
    """A misspelt or impossible value ends the installation with a message that names it."""
    refused = run_helm("template", "switchboard", str(CHART), "--set", values)
    assert refused.returncode != 0
    assert complaint in refused.stderr


def test_every_value_is_documented() -> None:
    """values.yaml and values.schema.json know the same values, and the schema describes each."""

    def compare(values: dict[str, Any], schema: dict[str, Any], at: str) -> None:
        for name, value in values.items():
            assert name in schema, f"{at}{name} is not in values.schema.json"
            if "properties" in schema[name]:
                compare(value, schema[name]["properties"], f"{at}{name}.")
        for name, described in schema.items():
            assert described.get("description"), f"{at}{name} has no description"
            assert name in values or name == "global", f"{at}{name} is not in values.yaml"

    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    compare(yaml.safe_load((CHART / "values.yaml").read_text()), schema, "")
