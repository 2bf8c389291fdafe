"""The Helm chart on a real API server: install, upgrade, roll back, uninstall, with pools and calls up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e import product
from tests.cluster.helm import RELEASE, add_image, install, package, run_helm
from tests.cluster.world import Pool
from tests.tools.wait import until

NEXT_IMAGE = "switchboard-operator:next"


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two versions of the chart, and the later one's image in the cluster."""
    directory = tmp_path_factory.mktemp("charts")
    add_image(NEXT_IMAGE, product.OPERATOR_IMAGE)
    return package(directory, "0.1.0", "dev"), package(directory, "0.2.0", "next")


@pytest.fixture
def released(installed: None, charts: tuple[Path, Path]) -> Iterator[str]:
    """The chart's first version is installed; in the end the other tests' operators run again. Helm's own words."""
    yield install(charts[0])
    if RELEASE in run_helm("list", "--short"):
        run_helm("uninstall", RELEASE, "--wait")
    product.install()


async def test_install(released: str, make_pool: Callable[[str], Pool]) -> None:
    """`helm install` says what comes next, `helm test` is content; a pool in a restricted namespace connects calls.

    Its proxies are given no token of the Kubernetes API.
    """
    assert "kubectl --namespace switchboard rollout status" in released
    assert "Succeeded" in run_helm("test", RELEASE)
    pool = make_pool("edge")
    product.kubectl("label", "namespace", pool.namespace, "pod-security.kubernetes.io/enforce=restricted")
    pool.apply(replicas=1)
    await pool.ready(1)
    for pod in (await pool.pods()).values():
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert not [volume for volume in pod["spec"]["volumes"] if "projected" in volume]
    with pool.pbx(), await pool.call(calls=10, rate=10, hold_seconds=1) as load:
        result = load.wait(30)
    assert (result.offered, result.completed) == (10, 10), load.errors()


async def test_upgrade_and_rollback(released: str, charts: tuple[Path, Path], pool: Pool) -> None:
    """To another version of the chart and back, with calls up all the time: no call is lost, no proxy is restarted."""
    pool.apply(replicas=2)
    await pool.ready(2)
    before = set(await pool.pods())
    with pool.pbx(), await pool.call(calls=300, rate=10, hold_seconds=2) as load:
        install(charts[1])
        assert operator_image() == NEXT_IMAGE
        run_helm("rollback", RELEASE, "--wait")
        assert operator_image() == product.OPERATOR_IMAGE
        assert load.statistics().current > 0, "the calls ended before the roll-back did"
        result = load.wait(60)
    assert (result.offered, result.completed) == (300, 300), load.errors()
    assert set(await pool.pods()) == before


async def test_uninstall_leaves_pools_alone(released: str, pool: Pool) -> None:
    """Without its release, definition, proxies and calls stay, and Helm says so; deleting the pool ends its proxies."""
    pool.apply(replicas=2)
    await pool.ready(2)
    before = set(await pool.pods())
    with pool.pbx(), await pool.call(calls=100, rate=10, hold_seconds=2) as load:
        said = run_helm("uninstall", RELEASE, "--wait")
        assert "voipproxypools.switchboard.dev" in said
        wait = ("wait", "--for=delete", "pods", "--namespace", product.NAMESPACE, "--timeout=30s")
        product.kubectl(*wait, "--selector=app.kubernetes.io/component=operator")
        result = load.wait(60)
    assert (result.offered, result.completed) == (100, 100), load.errors()
    assert set(await pool.pods()) == before
    product.kubectl("delete", "voipproxypool", pool.name, "--namespace", pool.namespace)

    async def all_gone() -> bool:
        return not await pool.pods()

    await until(all_gone, "the proxies end with their pool", within=30)


async def test_bound_to_a_namespace(released: str, charts: tuple[Path, Path], make_pool: Callable[[str], Pool]) -> None:
    """With watchNamespaces an operator runs the pools there with no right elsewhere, and takes none of other pools."""
    pool = make_pool("edge")
    run_helm("uninstall", RELEASE, "--wait")
    install(charts[0], f"--set=watchNamespaces={{{pool.namespace}}}")
    assert "Succeeded" in run_helm("test", RELEASE)
    product.apply(product.pool("other", replicas=1), namespace="default")
    try:
        pool.apply(replicas=1)
        await pool.ready(1)
        other = product.kubectl("get", "voipproxypool", "other", "--namespace=default", "--output=jsonpath={.status}")
        assert not other.strip()
    finally:
        product.kubectl("delete", "voipproxypool", "other", "--namespace=default")


def operator_image() -> str:
    path = "--output=jsonpath={.spec.template.spec.containers[0].image}"
    return product.kubectl("get", "deployment/switchboard-operator", "--namespace", product.NAMESPACE, path)
