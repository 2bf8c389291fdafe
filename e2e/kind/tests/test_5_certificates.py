"""Certificates at the pace of a real kubelet, which takes a minute or more to bring a changed Secret into a pod."""

import pykube

from e2e.kind.tests.world import NAMESPACE, Pool, until
from switchboard.resources.names import PoolRef
from tests.tools.aging import aged, renewed

ROTATION_SECONDS = 480  # three steps, each of which every proxy must have before the next


def test_certificates_rotate_without_a_dropped_link(pool: Pool) -> None:
    """An old authority is followed by a new one, step by step; no link is lost, and a proxy made after it joins."""
    lost = pool.events("ProxyLost")
    secrets = pykube.Secret.objects(pool.api, namespace=NAMESPACE)
    for secret in aged(PoolRef.of(pool.get().obj)):
        secrets.get_by_name(secret["metadata"]["name"]).patch({"data": secret["data"]})
    seen: set[str] = set()

    def replaced() -> bool:
        found = secrets.get_by_name(f"{pool.name}-ca").obj
        seen.update(found["data"])
        return renewed(found)

    until(replaced, "a new authority alone", within=ROTATION_SECONDS)
    assert {"following.crt", "previous.crt"} <= seen
    assert pool.events("ProxyLost") == lost
    pool.patch(replicas=3)
    pool.ready(3)
