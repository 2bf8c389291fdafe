from __future__ import annotations

from switchboard.resources import accounts
from switchboard.resources.disruption import build_disruption_budget
from switchboard.resources.names import PoolRef

HIGHEST_REPLICAS = 1000  # of the CRD; a rolling change runs one more


def test_no_proxy_with_calls_is_evicted(pool: PoolRef) -> None:
    """The budget asks for more healthy proxies than a pool has, in a rolling change too: none is to spare."""
    budget = build_disruption_budget(pool)
    assert budget["spec"]["minAvailable"] > HIGHEST_REPLICAS + 1
    assert budget["spec"]["selector"] == {"matchLabels": {"switchboard.dev/pool": "edge"}}


def test_drained_proxies_may_go(pool: PoolRef) -> None:
    """A drained proxy is left out of the budget, so that its node can be emptied."""
    expression = build_disruption_budget(pool, ["edge-abcde"])["spec"]["selector"]["matchExpressions"]
    assert expression == [{"key": "switchboard.dev/proxy", "operator": "NotIn", "values": ["edge-abcde"]}]


def test_proxies_have_an_identity_without_a_token(pool: PoolRef) -> None:
    """Whoever breaks into a proxy finds no credentials for the cluster."""
    account = accounts.build_service_account(pool)
    assert account["metadata"]["name"] == "edge-proxy"
    assert account["automountServiceAccountToken"] is False
