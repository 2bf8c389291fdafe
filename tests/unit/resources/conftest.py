from __future__ import annotations

import msgspec
import pytest

from switchboard.pool.spec import Capacity, Gateway, Listener, PoolSpec, ProxyTemplate, Route
from switchboard.resources.names import PoolRef


@pytest.fixture
def pool() -> PoolRef:
    return PoolRef(name="edge", namespace="voice", uid="6aff2e59")


@pytest.fixture
def spec() -> PoolSpec:
    return PoolSpec(
        replicas=3,
        threshold=0.8,
        capacity=Capacity(calls=500),
        client_networks=("198.51.100.0/24",),
        proxy=ProxyTemplate(image="switchboard-proxy:dev"),
        listen=(Listener(transport="UDP", port=5060), Listener(transport="TCP", port=5080)),
        gateways=(Gateway(name="pstn-1", kind="pstn", networks=("203.0.113.0/28",)),),
        routes=(Route(name="pbx", prefix="", targets=("sip:192.0.2.1:5060",)),),
    )


@pytest.fixture
def with_template(spec: PoolSpec) -> object:
    """Gives the spec with another pod template."""

    def build(template: dict[str, object]) -> PoolSpec:
        return msgspec.structs.replace(spec, proxy=ProxyTemplate(image=spec.proxy.image, pod_template=template))

    return build
