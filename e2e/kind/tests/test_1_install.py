"""Installing, and the first pool."""

import subprocess

import pykube
import pytest

from e2e import product
from e2e.kind.tests.world import NAMESPACE, Pool, until

pytestmark = pytest.mark.smoke


def test_two_operators_run_and_one_holds_the_lease(api: pykube.HTTPClient, installed: None) -> None:
    """After `helm install`, two operators are ready, on two nodes, and one of them acts."""
    found = list(
        pykube.Pod.objects(api, namespace=product.NAMESPACE).filter(
            selector={"app.kubernetes.io/component": "operator"}
        )
    )
    assert [pod.ready for pod in found] == [True, True]
    assert len({pod.obj["spec"]["nodeName"] for pod in found}) == 2
    lease = ("get", "lease", "switchboard-operator", "--namespace", product.NAMESPACE, "--ignore-not-found")

    def acts() -> bool:
        holder = product.kubectl(*lease, "--output=jsonpath={.spec.holderIdentity}")
        return holder in {pod.name for pod in found}

    until(acts, "one of them holds the Lease", within=30)


def test_a_pool_becomes_ready(pool: Pool) -> None:
    """The proxies are ready on two nodes, the Service leads to one of them, and their workload is published."""
    proxies = pool.pods()
    assert len(proxies) == 2
    assert len(pool.nodes()) == 2
    assert pool.entry() in proxies
    published = pykube.ConfigMap.objects(pool.api, namespace=NAMESPACE).get_by_name(f"{pool.name}-load")
    assert all(name in published.obj["data"]["load.json"] for name in proxies)


def test_a_wrong_pool_is_refused_with_words(pool: Pool) -> None:
    """A threshold above 100 % never reaches the operator: kubectl says which field is wrong."""
    with pytest.raises(subprocess.CalledProcessError) as refused:
        pool.apply(threshold="180%")
    assert "threshold" in refused.value.stderr
    assert until(lambda: pool.status().get("readyReplicas") == 2, "the pool stays as it was")
