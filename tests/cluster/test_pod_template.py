"""Our strategic merge beside the API machinery's own, as kubectl carries it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from switchboard.pool.spec import DEFAULT_LISTEN, Capacity, PoolSpec, ProxyTemplate
from switchboard.resources.names import PoolRef
from switchboard.resources.pods import build_pod
from tests.cluster.kubectl import Kubectl, runner

POOL = PoolRef(name="edge", namespace="default", uid="none")

TEMPLATES: dict[str, dict[str, Any]] = {
    "scheduling": {
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "voice", "operator": "Exists"}],
        "topologySpreadConstraints": [{"topologyKey": "kubernetes.io/hostname", "maxSkew": 2}],
        "priorityClassName": "high",
    },
    "containers": {
        "containers": [
            {"name": "kamailio", "resources": {"limits": {"memory": "1Gi"}}, "env": [{"name": "LISTEN", "value": "x"}]},
            {"name": "sniffer", "image": "sniffer:1"},
        ],
        "initContainers": [{"name": "rtpengine", "command": ["other"], "securityContext": {"runAsUser": 7}}],
    },
    "volumes": {
        "volumes": [{"name": "tls", "secret": {"defaultMode": 256}}, {"name": "extra", "emptyDir": {}}],
        "initContainers": [{"name": "agent", "volumeMounts": [{"name": "extra", "mountPath": "/extra"}]}],
    },
    "removal": {
        "securityContext": {"fsGroup": None, "seccompProfile": {"$patch": "replace", "type": "Unconfined"}},
        "initContainers": [{"name": "rtpengine", "$patch": "delete"}],
        "containers": [{"name": "kamailio", "readinessProbe": None, "lifecycle": {"$patch": "delete"}}],
        "topologySpreadConstraints": None,
    },
}


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """Runs kubectl; it asks no API server here."""
    return runner("default", tmp_path_factory.mktemp("kubectl"))


def built(template: dict[str, Any]) -> dict[str, Any]:
    """The pod's spec with this template."""
    spec = PoolSpec(
        replicas=1,
        threshold=0.8,
        capacity=Capacity(calls=10),
        client_networks=("198.51.100.0/24",),
        proxy=ProxyTemplate(image="switchboard-proxy:dev", pod_template=template),
        listen=DEFAULT_LISTEN,
    )
    return dict(build_pod(POOL, spec, "edge-abcde")["spec"])


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_pod_templates_merge_as_kubernetes_merges(kubectl: Kubectl, tmp_path: Path, template: dict[str, Any]) -> None:
    """A pod template has the effect that the same patch has with `kubectl patch`: nothing new is to be learnt."""
    pod = tmp_path / "pod.json"
    pod.write_text(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": built({})}))
    words = ("patch", "--local", "--type=strategic", f"--filename={pod}", "--output=json")
    patched = kubectl(*words, f"--patch={json.dumps({'spec': template})}")
    assert patched.returncode == 0, patched.stderr
    assert canonical(built({"spec": template})) == canonical(json.loads(patched.stdout)["spec"])


def canonical(value: Any) -> Any:
    """Lists of named items in one order, and without empty maps: kubectl puts new items first and drops empty maps."""
    if isinstance(value, dict):
        return {key: canonical(one) for key, one in value.items() if one != {}}
    if isinstance(value, list):
        return sorted((canonical(one) for one in value), key=lambda one: json.dumps(one, sort_keys=True))
    return value
