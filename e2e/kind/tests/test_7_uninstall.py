"""Uninstalling leaves proxies and calls alone until their pool is deleted."""

import pytest

from e2e import product
from e2e.kind.tests.world import NAMESPACE, Pool, all_completed, some_answered, until
from tests.cluster import helm

pytestmark = pytest.mark.smoke


def test_uninstalling_the_operator_ends_no_call(pool: Pool) -> None:
    """After `helm uninstall` calls go on; the pool, deleted then, goes at once and takes its pods with it."""
    with pool.pbx(), pool.call(calls=200, rate=10, hold_seconds=2) as load:
        some_answered(load)
        helm.run_helm("uninstall", helm.RELEASE, "--wait")
        all_completed(load, 200)
    assert product.kubectl("get", "crd", "voipproxypools.switchboard.dev", "--output=name").strip()
    product.kubectl("delete", "voipproxypool", pool.name, "--namespace", NAMESPACE, "--timeout=30s")
    until(lambda: not pool.pods(), "the proxies are gone", within=60)
