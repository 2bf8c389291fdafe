"""The VoipProxyPool as the API server sees it: what it takes, what it fills in, what it refuses and in which words.

Needs a cluster (KUBECONFIG) and kubectl; an operator that runs there is stopped meanwhile.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from switchboard.pool.parse import parse
from switchboard.pool.spec import PoolSpec
from switchboard.resources import (
    accounts,
    certificates,
    configmaps,
    disruption,
    names,
    networkpolicies,
    pods,
    secrets,
    services,
)
from switchboard.resources.names import PoolRef
from switchboard.resources.settings import settings
from tests.cluster.kubectl import Kubectl, must, runner, without_operator
from tests.cluster.wrong import SMALLEST, WRONG

ROOT = Path(__file__).parents[2]
CRD = ROOT / "crds" / "voipproxypools.switchboard.dev.yaml"
SAMPLES = sorted((ROOT / "manifests" / "samples").glob("*.yaml"))


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """Runs kubectl in a namespace of this module's own, which takes pods of the strictest security standard alone."""
    namespace = f"custom-resource-{os.getpid()}"
    run = runner(namespace, tmp_path_factory.mktemp("kubectl"))
    must(run, "apply", "--filename", str(CRD))
    must(run, "wait", "--for", "condition=Established", "--timeout=30s", "--filename", str(CRD))
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    must(run, "create", "--filename=-", stdin=body)
    with without_operator(run):
        yield run
    must(run, "delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def pool(kubectl: Kubectl) -> Iterator[dict[str, Any]]:
    """A stored pool, as the API server returned it."""
    created = kubectl("create", "--output=json", "--filename=-", stdin=SMALLEST)
    assert created.returncode == 0, created.stderr
    yield json.loads(created.stdout)
    kubectl("delete", "vpp", "edge")


def changed(place: str, value: object) -> dict[str, Any]:
    """SMALLEST with the value at `place` (dotted) set, or taken away when it is None."""
    resource = copy.deepcopy(SMALLEST)
    *parents, last = place.split(".")
    node = resource
    for key in parents:
        node = node.setdefault(key, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return resource


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_samples_are_accepted_and_understood(kubectl: Kubectl, sample: Path) -> None:
    """Every sample pool is taken by the API server as it is, and the operator can read what comes back."""
    result = kubectl("create", "--dry-run=server", "--output=json", "--filename", str(sample))
    assert result.returncode == 0, result.stderr
    stored = json.loads(result.stdout)
    spec = parse(stored)
    assert spec.capacity.calls == stored["spec"]["capacity"]["calls"]


def test_smallest_pool_gets_the_documented_defaults(pool: dict[str, Any]) -> None:
    """Whoever names capacity, clients and image alone sees everything else filled in."""
    assert pool["spec"] == SMALLEST["spec"] | {
        "replicas": 2,
        "threshold": "80%",
        "sharing": {"period": "500ms", "change": "2%", "staleAfter": "3s"},
        "assignment": {
            "policy": "first",
            "mode": "forward",
            "maxHops": 5,
            "saturated": {"status": 503, "retryAfter": "2s"},
        },
        "listen": [{"transport": "UDP", "port": 5060}, {"transport": "TCP", "port": 5060}],
        "expose": {
            "type": "ClusterIP",
            "advertise": "PodIP",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
        },
        "media": {"enabled": True, "ports": "20000-24999", "timeout": "60s"},
        "registrar": {"enabled": False, "maxExpires": "1h"},
        "protection": {
            "userAgents": [
                "friendly-scanner",
                "sipvicious",
                "sip-scan",
                "sipcli",
                "sundayddr",
                "sipptk",
                "vaxsipuseragent",
            ]
        },
        "drain": {"timeout": "1h"},
        "healthChecks": {"period": "10s", "threshold": 2},
    }


def test_the_operator_reads_the_same_defaults(pool: dict[str, Any]) -> None:
    """What the API server fills in is what the operator takes a missing field for."""
    assert parse(pool) == parse(SMALLEST)


def test_defaults_fill_in_what_a_part_leaves_out(kubectl: Kubectl) -> None:
    """Naming one field of a group leaves the others of the group at their defaults."""
    resource = changed("spec.sharing", {"period": "1s"})
    result = kubectl("create", "--dry-run=server", "--output=json", "--filename=-", stdin=resource)
    assert json.loads(result.stdout)["spec"]["sharing"] == {"period": "1s", "change": "2%", "staleAfter": "3s"}


@pytest.mark.parametrize(("place", "value", "field", "allowed"), WRONG)
def test_wrong_pools_are_refused_in_words_that_help(
    kubectl: Kubectl, place: str, value: object, field: str, allowed: str
) -> None:
    """A wrong pool is refused at the door, by a message that names the field and what it may be."""
    result = kubectl("create", "--dry-run=server", "--filename=-", stdin=changed(place, value))
    assert result.returncode != 0, result.stdout
    assert field in result.stderr
    assert allowed in result.stderr
    assert "rule evaluation error" not in result.stderr


def test_a_wrong_update_leaves_the_stored_pool_as_it_was(kubectl: Kubectl, pool: dict[str, Any]) -> None:
    """Whoever breaks a rule with a change keeps the pool that runs."""
    patch = json.dumps({"spec": {"threshold": "120%", "replicas": 7}})
    refused = kubectl("patch", "vpp", "edge", "--type=merge", "--patch", patch)
    assert refused.returncode != 0
    assert "threshold must be a whole percentage from 1% to 100%" in refused.stderr
    assert json.loads(kubectl("get", "vpp", "edge", "--output=json").stdout) == pool


def test_a_pool_scales_like_a_deployment(kubectl: Kubectl, pool: dict[str, Any]) -> None:
    """`kubectl scale` changes spec.replicas; an autoscaler reads replicas and selector from the scale subresource."""
    ref = PoolRef.of(pool)
    status = {"status": {"replicas": 2, "selector": names.selector_text(ref, without=["edge-aaaaa"])}}
    written = kubectl("patch", "vpp", "edge", "--subresource=status", "--type=merge", "--patch", json.dumps(status))
    assert written.returncode == 0, written.stderr
    scaled = kubectl("scale", "vpp", "edge", "--replicas=5")
    assert scaled.returncode == 0, scaled.stderr
    path = f"/apis/{names.API_VERSION}/namespaces/{ref.namespace}/{names.PLURAL}/edge/scale"
    scale = json.loads(kubectl("get", "--raw", path).stdout)
    assert scale["spec"] == {"replicas": 5}
    assert scale["status"] == status["status"]
    # The selector is one that the API server can list pods by.
    assert kubectl("get", "pods", "--selector", scale["status"]["selector"]).returncode == 0


def test_one_line_tells_health_primary_and_workload(kubectl: Kubectl, pool: dict[str, Any]) -> None:
    """`kubectl get vpp` answers: is it healthy, who is primary, how full; `-o wide` and `get all` know it too."""
    condition = {
        "type": "Ready",
        "status": "True",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "reason": "PoolReady",
        "message": "2 of 2 proxies are ready",
    }
    status = {
        "conditions": [condition],
        "desiredReplicas": 2,
        "readyReplicas": 2,
        "drainingReplicas": 1,
        "saturatedReplicas": 0,
        "primary": "edge-abcde",
        "calls": 84,
        "capacity": 200,
        "workload": 42,
        "loadConfigMap": names.load(PoolRef.of(pool)),
    }
    body = json.dumps({"status": status})
    written = kubectl("patch", "vpp", "edge", "--subresource=status", "--type=merge", "--patch", body)
    assert written.returncode == 0, written.stderr
    header, line = kubectl("get", "vpp").stdout.splitlines()
    assert header.split() == ["NAME", "READY", "PRIMARY", "PROXIES", "CALLS", "CAPACITY", "WORKLOAD%", "AGE"]
    assert line.split()[:-1] == ["edge", "True", "edge-abcde", "2", "84", "200", "42"]
    wide = kubectl("get", "vpp", "--output=wide").stdout.splitlines()[1]
    assert wide.split()[8:15] == ["2", "1", "0", "80%", "first", "forward", "edge-load"]
    assert wide.rstrip().endswith("2 of 2 proxies are ready")
    assert "voipproxypool.switchboard.dev/edge" in kubectl("get", "all", "--output=name").stdout


def test_status_and_spec_are_written_apart(kubectl: Kubectl, pool: dict[str, Any]) -> None:
    """A change to the spec cannot forge a status, and one to the status leaves the generation alone."""
    kubectl("patch", "vpp", "edge", "--type=merge", "--patch", json.dumps({"status": {"primary": "forged"}}))
    kubectl("patch", "vpp", "edge", "--subresource=status", "--type=merge", "--patch", '{"status": {"calls": 1}}')
    stored = json.loads(kubectl("get", "vpp", "edge", "--output=json").stdout)
    assert stored["status"] == {"calls": 1}
    assert stored["metadata"]["generation"] == pool["metadata"]["generation"]


def test_every_field_is_explained(kubectl: Kubectl) -> None:
    """`kubectl explain` says what a field is for."""
    text = kubectl("explain", "vpp.spec.sharing.staleAfter").stdout
    assert "silent for longer" in text


def everything_of(pool: PoolRef, spec: PoolSpec) -> list[names.Manifest]:
    """One of each object a pool owns."""
    now = datetime.now(UTC)
    term = certificates.Term(serial=1, since=now, lifetime=timedelta(days=1))
    key = certificates.generate_key()
    authorities = certificates.Authorities(
        signing=certificates.issue_authority(key, term),
        following=certificates.issue_authority(key, term),
    )
    agent = certificates.issue_agent(pool, authorities.signing, key, term)
    operator = certificates.issue_operator(pool, authorities.signing, key, term)
    primary = services.Primary(name="full-abcde", uid="1", addresses=("198.18.1.4", "2001:db8::4"), node="local")
    return [
        accounts.build_service_account(pool),
        configmaps.build_load(pool, {"pool": pool.name, "proxies": []}),
        configmaps.build_settings(pool, settings(pool, spec)),
        disruption.build_disruption_budget(pool, ["full-abcde"]),
        networkpolicies.build_network_policy(pool, spec, "switchboard"),
        pods.build_pod(pool, spec, "full-abcde"),
        secrets.build_agent_tls(pool, agent, authorities),
        secrets.build_authority(pool, authorities),
        secrets.build_operator_tls(pool, operator, authorities),
        secrets.build_token(pool, "0" * 64),
        services.build_endpoint_slice(pool, spec.listen, primary),
        services.build_endpoint_slice(pool, spec.listen, None),
        services.build_endpoint_slice(pool, spec.listen, primary, "IPv6"),
        services.build_proxies_service(pool, spec.listen, spec.expose),
        services.build_service(pool, spec.listen, spec.expose),
    ]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_what_a_pool_owns_is_accepted(kubectl: Kubectl, sample: Path) -> None:
    """The API server takes every object of every sample pool by server-side apply, with no field it does not know.

    The namespace enforces the strictest pod security standard (restricted), so proxies are admitted there too.
    """
    result = kubectl("create", "--dry-run=server", "--output=json", "--filename", str(sample))
    resource = json.loads(result.stdout)
    pool = PoolRef.of(resource)
    account = accounts.build_service_account(pool)
    # Pods need it. It has no owner here: the garbage collector would not find one.
    del account["metadata"]["ownerReferences"]
    must(kubectl, "apply", "--server-side", "--filename=-", stdin=account)
    owned = {"apiVersion": "v1", "kind": "List", "items": everything_of(pool, parse(resource))}
    applied = kubectl(
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        f"--field-manager={names.FIELD_MANAGER}",
        "--filename=-",
        stdin=owned,
    )
    assert applied.returncode == 0, applied.stderr
    assert len(applied.stdout.splitlines()) == len(owned["items"])


def test_sample_names_say_what_they_show() -> None:
    """Each sample's pool is called as its file."""
    assert SAMPLES
    for sample in SAMPLES:
        assert yaml.safe_load(sample.read_text())["metadata"]["name"] == sample.stem
