"""The manifests as a platform engineer applies them, and what the operator's account may do.

Needs a cluster (KUBECONFIG) and kubectl; no operator has to run.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.kubectl import Kubectl, must, runner

MANIFESTS = Path(__file__).parents[2] / "manifests"
OPERATOR = "system:serviceaccount:switchboard:switchboard-operator"


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """Runs kubectl in the operator's namespace, with its account and roles there."""
    run = runner("switchboard", tmp_path_factory.mktemp("kubectl"))
    must(run, "apply", "--kustomize", str(MANIFESTS.parent / "crds"))
    for file in ("namespace.yaml", "access.yaml"):
        must(run, "apply", "--filename", str(MANIFESTS / file))
    return run


def may(kubectl: Kubectl, verb: str, resource: str) -> str:
    """Whether the operator's account may, in any namespace: yes or no. A resource may have a subresource: pods/exec."""
    resource, _, subresource = resource.partition("/")
    words = ("auth", "can-i", verb, resource, f"--subresource={subresource}", f"--as={OPERATOR}")
    return kubectl("--namespace=default", *words).stdout.strip()


@pytest.mark.parametrize(
    ("verb", "resource", "answer"),
    [
        ("watch", "voipproxypools.switchboard.dev", "yes"),
        ("patch", "voipproxypools.switchboard.dev/status", "yes"),
        ("delete", "pods", "yes"),
        ("create", "services", "yes"),
        ("patch", "secrets", "yes"),
        ("patch", "endpointslices.discovery.k8s.io", "yes"),
        ("patch", "networkpolicies.networking.k8s.io", "yes"),
        ("patch", "poddisruptionbudgets.policy", "yes"),
        ("create", "events", "yes"),
        ("patch", "voipproxypools.switchboard.dev", "no"),
        ("delete", "voipproxypools.switchboard.dev", "no"),
        ("delete", "secrets", "no"),
        ("create", "pods/exec", "no"),
        ("get", "nodes", "no"),
        ("create", "clusterrolebindings.rbac.authorization.k8s.io", "no"),
        ("update", "leases.coordination.k8s.io", "no"),
    ],
)
def test_the_operator_may_do_what_it_does_and_no_more(kubectl: Kubectl, verb: str, resource: str, answer: str) -> None:
    """The operator's account cannot change pools, read nodes, enter pods, or delete anything but pods."""
    assert may(kubectl, verb, resource) == answer


def test_the_operators_lease_is_its_own(kubectl: Kubectl) -> None:
    """The operator renews its own Lease in its own namespace, and no other."""
    for lease, answer in (("switchboard-operator", "yes"), ("another", "no")):
        asked = kubectl("auth", "can-i", "update", f"leases.coordination.k8s.io/{lease}", f"--as={OPERATOR}")
        assert asked.stdout.strip() == answer


def test_the_manifests_are_accepted_without_a_warning(kubectl: Kubectl) -> None:
    """`kubectl apply -k manifests` is taken as it is, in a namespace with the strictest pod security standard."""
    applied = kubectl("apply", "--dry-run=server", "--validate=strict", "--kustomize", str(MANIFESTS))
    assert applied.returncode == 0, applied.stderr
    assert not applied.stderr
