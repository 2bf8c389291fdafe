"""The ServiceAccount of a pool's proxies: an identity without a token, for they never talk to the API server."""

from __future__ import annotations

from switchboard.resources import names
from switchboard.resources.names import Manifest, PoolRef


def build_service_account(pool: PoolRef) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": names.metadata(pool, names.account(pool), "proxy"),
        "automountServiceAccountToken": False,
    }
