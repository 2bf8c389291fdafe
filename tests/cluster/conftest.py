"""Fixtures in the embedded cluster: the operator installed from manifests/, and pools in namespaces of their own."""

import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from e2e import product
from e2e.embedded.cluster import Cluster
from switchboard.control.kube import Kube, configure
from tests.cluster.world import Pool


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The CRD and two operators, as a user installs them."""
    assert "SWITCHBOARD_CLUSTER" in os.environ, "run inside the embedded cluster: make cluster"
    # What kubectl remembers of another cluster at the same address must not be used here.
    os.environ["KUBECACHEDIR"] = str(tmp_path_factory.mktemp("kubectl-cache"))
    product.install()


@pytest.fixture
async def kube() -> AsyncIterator[Kube]:
    kube = Kube(await configure())
    yield kube
    await kube.close()


@pytest.fixture
async def make_pool(installed: None, kube: Kube, tmp_path: Path) -> AsyncIterator[Callable[[str], Pool]]:
    """Names a pool in the test's own namespace; what it applied is deleted in the end."""
    namespace = f"test-{secrets.token_hex(3)}"
    product.kubectl("create", "namespace", namespace)
    yield lambda name: Pool(kube, namespace, name, tmp_path)
    product.kubectl("delete", "voipproxypools", "--all", "--namespace", namespace)
    product.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def pool(make_pool: Callable[[str], Pool]) -> Pool:
    return make_pool("edge")


@pytest.fixture
def fast_volumes() -> Iterator[None]:
    """Secrets reach the pods at once, not after a kubelet's minute."""
    cluster = Cluster()
    cluster.choose(volume_refresh_seconds=0.5)
    yield
    cluster.choose(volume_refresh_seconds=60.0)
