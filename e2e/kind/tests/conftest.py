"""The cluster that `python -m e2e.kind` made, with the product installed by Helm, and one pool that the tests share.

Tests run in the order of their files, as an operator's days go: install, calls, scale, faults, access, uninstall.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pykube
import pytest

from e2e.kind import trace
from e2e.kind.tests.world import NAMESPACE, Place, Pool
from tests.cluster import helm


@pytest.fixture(scope="session")
def api() -> pykube.HTTPClient:
    assert "KUBECONFIG" in os.environ, "run with a cluster: make e2e"
    return pykube.HTTPClient(pykube.KubeConfig.from_file(os.environ["KUBECONFIG"]), timeout=15)


@pytest.fixture(scope="session", autouse=True)
def recorded() -> Iterator[None]:
    with trace.recorded():
        yield


@pytest.fixture(scope="session")
def namespace(api: pykube.HTTPClient) -> None:
    made = pykube.Namespace(api, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    if not made.exists():
        made.create()


@pytest.fixture(scope="session")
def installed(namespace: None) -> None:
    """The product, as `helm install` puts it there; the same again where it is installed already."""
    helm.install(helm.CHART, "--create-namespace")


@pytest.fixture(scope="session")
def pbx(api: pykube.HTTPClient, namespace: None) -> Place:
    return Place(api, "pbx")


@pytest.fixture(scope="session")
def client(api: pykube.HTTPClient, namespace: None) -> Place:
    return Place(api, "client")


@pytest.fixture
def pool(api: pykube.HTTPClient, installed: None, pbx: Place, client: Place, tmp_path: Path) -> Pool:
    """Two ready proxies of 500 calls each."""
    pool = Pool(api, tmp_path, pbx, client)
    pool.apply()
    pool.ready(2)
    return pool
