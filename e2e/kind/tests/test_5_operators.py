"""The two operators, and what they may do."""

import subprocess

import pykube
import pytest

from e2e import product
from e2e.kind.tests.world import NAMESPACE, Pool, all_completed, some_answered, timed, until
from tests.cluster import helm

ACCOUNT = f"system:serviceaccount:{product.NAMESPACE}:switchboard-operator"


def holder() -> str:
    lease = ("get", "lease", "switchboard-operator", "--namespace", product.NAMESPACE)
    return product.kubectl(*lease, "--output=jsonpath={.spec.holderIdentity}")


@pytest.mark.smoke
def test_the_other_operator_takes_over(api: pykube.HTTPClient, pool: Pool) -> None:
    """The operator that acts is deleted: the other holds the Lease within 5 s, and no call notices."""
    before = holder()
    with pool.pbx(), pool.call(calls=200, rate=10, hold_seconds=1) as load:
        some_answered(load)
        pod = pykube.Pod.objects(api, namespace=product.NAMESPACE).get_by_name(before)
        pod.delete()
        took = timed(lambda: until(lambda: holder() not in {"", before}, "another holder", within=30))
        all_completed(load, 200)
    assert took < 5
    pool.ready(2)


@pytest.mark.parametrize(
    ("verb", "what", "allowed"),
    [
        ("create", "pods", True),
        ("patch", "secrets", True),
        ("create", "pods/exec", False),
        ("delete", "nodes", False),
        ("create", "clusterroles.rbac.authorization.k8s.io", False),
        ("delete", "voipproxypools.switchboard.dev", False),
    ],
)
def test_the_operator_may_do_its_work_and_no_more(pool: Pool, verb: str, what: str, allowed: bool) -> None:
    """As the API server judges: pods and Secrets, but no exec, no nodes, no roles, and no pool of its users."""
    resource, _, subresource = what.partition("/")
    words = ["auth", "can-i", verb, resource, f"--as={ACCOUNT}", "--namespace", NAMESPACE]
    words += [f"--subresource={subresource}"] if subresource else []
    if allowed:
        assert product.kubectl(*words).strip() == "yes"
        return
    with pytest.raises(subprocess.CalledProcessError) as refused:  # kubectl ends with 1 for a no
        product.kubectl(*words)
    assert refused.value.stdout.strip() == "no"


def test_proxies_hold_no_token(pool: Pool) -> None:
    """No proxy's pod has a way into the API server."""
    for pod in pool.pods().values():
        assert pod.obj["spec"]["automountServiceAccountToken"] is False
        assert not [one for one in pod.obj["spec"]["volumes"] if "projected" in one]


@pytest.mark.smoke
def test_an_upgrade_of_the_operator_loses_no_call(pool: Pool) -> None:
    """`helm upgrade` and `helm rollback` with calls up: both operators are replaced, no proxy is, no call fails."""
    before = set(pool.pods())
    with pool.pbx(), pool.call(calls=500, rate=10, hold_seconds=4) as load:
        some_answered(load)
        helm.install(helm.CHART, "--set", "logLevel=DEBUG")
        helm.run_helm("rollback", helm.RELEASE, "--wait")
        assert load.running, "the calls were over before the upgrade was: nothing was shown"
        all_completed(load, 500)
    pool.ready(2)
    assert set(pool.pods()) == before
