"""The manifests as a platform engineer applies them, and what accounts may do.

Needs a cluster (KUBECONFIG) and kubectl; no operator has to run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.kubectl import Kubectl, must, runner

MANIFESTS = Path(__file__).parents[2] / "manifests"
OPERATOR = "system:serviceaccount:switchboard:switchboard-operator"

OF_EVERY_ACCOUNT = {  # what Kubernetes gives whoever it knows: to ask who they are and what they may
    "selfsubjectaccessreviews.authorization.k8s.io": {"create"},
    "selfsubjectrulesreviews.authorization.k8s.io": {"create"},
    "selfsubjectreviews.authentication.k8s.io": {"create"},
}
ON_POOLS = {  # in every namespace, and no more than this
    "voipproxypools.switchboard.dev": {"get", "list", "watch"},
    "voipproxypools/status.switchboard.dev": {"patch"},
    "pods": {"get", "list", "watch", "create", "patch", "delete"},
    "services": {"get", "list", "watch", "create", "patch"},
    "configmaps": {"get", "list", "watch", "create", "patch"},
    "secrets": {"get", "list", "watch", "create", "patch"},
    "serviceaccounts": {"get", "list", "watch", "create", "patch"},
    "endpointslices.discovery.k8s.io": {"get", "list", "watch", "create", "patch"},
    "networkpolicies.networking.k8s.io": {"get", "list", "watch", "create", "patch"},
    "poddisruptionbudgets.policy": {"get", "list", "watch", "create", "patch"},
    "events": {"create", "patch"},
    "nodes": {"get", "list", "watch"},
    "customresourcedefinitions.apiextensions.k8s.io": {"list", "watch"},
}
ON_ITS_LEASE = {  # in its own namespace only
    "leases.coordination.k8s.io": {"create"},
    "leases.coordination.k8s.io/switchboard-operator": {"get", "update"},
}


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """Runs kubectl in the operator's namespace, with its account and roles there."""
    run = runner("switchboard", tmp_path_factory.mktemp("kubectl"))
    must(run, "apply", "--kustomize", str(MANIFESTS.parent / "crds"))
    for file in ("namespace.yaml", "access.yaml"):
        must(run, "apply", "--filename", str(MANIFESTS / file))
    return run


def rights(kubectl: Kubectl, namespace: str) -> dict[str, set[str]]:
    """All that the API server says the operator's account may do there: resource.group[/name] to verbs."""
    question = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    asked = kubectl("create", "--filename=-", "--output=json", f"--as={OPERATOR}", stdin=question)
    assert asked.returncode == 0, asked.stderr
    status: dict[str, Any] = json.loads(asked.stdout)["status"]
    assert not status["incomplete"]
    assert all(set(rule["verbs"]) == {"get"} for rule in status["nonResourceRules"])  # health, version, discovery
    found: dict[str, set[str]] = {}
    for rule in status["resourceRules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for name in rule.get("resourceNames") or [""]:
                    key = resource + (f".{group}" if group else "") + (f"/{name}" if name else "")
                    found.setdefault(key, set()).update(rule["verbs"])
    return found


def test_the_operator_may_do_what_it_does_and_no_more(kubectl: Kubectl) -> None:
    """In a namespace of pools the operator's account has the rights of this table, and not one more.

    It cannot change pools or nodes, read namespaces, enter pods, give rights, or delete anything but pods.
    """
    assert rights(kubectl, "default") == OF_EVERY_ACCOUNT | ON_POOLS


def test_the_operators_lease_is_its_own(kubectl: Kubectl) -> None:
    """In its own namespace the operator may besides take and renew its own Lease, and no other."""
    assert rights(kubectl, "switchboard") == OF_EVERY_ACCOUNT | ON_POOLS | ON_ITS_LEASE


@pytest.mark.parametrize(
    ("role", "verb", "answer"),
    [("view", "get", "yes"), ("view", "delete", "no"), ("edit", "create", "yes"), ("admin", "delete", "yes")],
)
def test_whoever_may_view_or_edit_a_namespace_may_its_pools(
    kubectl: Kubectl, role: str, verb: str, answer: str
) -> None:
    """Kubernetes' own roles view, edit and admin know pools."""
    must(kubectl, "create", "rolebinding", f"test-{role}-{verb}", f"--clusterrole={role}", f"--user={role}-{verb}")
    try:
        asked = kubectl("auth", "can-i", verb, "voipproxypools.switchboard.dev", f"--as={role}-{verb}")
        assert asked.stdout.strip() == answer
    finally:
        must(kubectl, "delete", "rolebinding", f"test-{role}-{verb}")


def test_the_manifests_are_accepted_without_a_warning(kubectl: Kubectl) -> None:
    """`kubectl apply -k manifests` is taken as it is, in a namespace with the strictest pod security standard."""
    applied = kubectl("apply", "--dry-run=server", "--validate=strict", "--kustomize", str(MANIFESTS))
    assert applied.returncode == 0, applied.stderr
    assert not applied.stderr
