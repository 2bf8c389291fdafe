"""Proxies that may still carry calls are not evicted; drained ones are.

`minAvailable` is more than a pool can have, so the budget never has one to spare. `maxUnavailable: 0` would not do: it
counts from `spec.replicas`; in a rolling change (one proxy above that number) it would let one go with its calls.
Once a proxy has drained, the operator takes it out of the selection by name.
"""

from __future__ import annotations

from collections.abc import Iterable

from switchboard.resources import names
from switchboard.resources.names import Manifest, PoolRef

MORE_THAN_ANY_POOL = 1_000_000


def build_disruption_budget(pool: PoolRef, drained: Iterable[str] = ()) -> Manifest:
    """`drained`: names of the proxies that may go."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": names.metadata(pool, names.account(pool), "proxy"),
        "spec": {"minAvailable": MORE_THAN_ANY_POOL, "selector": names.selector(pool, without=drained)},
    }
