from __future__ import annotations

import re

import pytest

from switchboard.resources import names
from switchboard.resources.names import PoolRef

LONGEST = PoolRef(name="p" * 40, namespace="n" * 63, uid="1")
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")

NAMES = [
    names.service,
    names.proxies_service,
    names.load,
    names.settings,
    names.authority,
    names.agent_tls,
    names.operator_tls,
    names.token,
    names.account,
]


def test_a_pool_is_known_from_the_object_the_api_server_returns() -> None:
    """A reference holds what owner references need, and nothing that changes during a pool's life."""
    body = {"metadata": {"name": "edge", "namespace": "voice", "uid": "6aff", "resourceVersion": "7"}, "spec": {}}
    assert PoolRef.of(body) == PoolRef(name="edge", namespace="voice", uid="6aff")


def test_names_of_the_longest_pool_still_fit() -> None:
    """The longest pool name that the CRD takes leads to names that are DNS labels; also a proxy's."""
    for name in [name(LONGEST) for name in NAMES] + [names.proxy(LONGEST, "abcde")]:
        assert DNS_LABEL.fullmatch(name), name


def test_certificate_names_of_the_longest_pool_still_fit() -> None:
    """SANs are DNS names: no label above 63 characters, no name above 253."""
    for name in (names.agent_dns(LONGEST), names.operator_dns(LONGEST)):
        assert len(name) <= 253
        assert all(DNS_LABEL.fullmatch(label) for label in name.split("."))


def test_names_are_all_different(pool: PoolRef) -> None:
    """No two objects of one kind get the same name."""
    assert len({name(pool) for name in NAMES}) == len(NAMES)


def test_aliases_are_what_the_clusters_dns_resolves(pool: PoolRef) -> None:
    """A client may write the Service's name short or in full: it means the pool."""
    assert names.aliases(pool) == ("edge", "edge.voice", "edge.voice.svc", "edge.voice.svc.cluster.local")


@pytest.mark.parametrize(
    ("without", "expressions", "text"),
    [
        ([], None, "switchboard.dev/pool=edge"),
        (
            ["edge-b", "edge-a"],
            [{"key": "switchboard.dev/proxy", "operator": "NotIn", "values": ["edge-a", "edge-b"]}],
            "switchboard.dev/pool=edge,switchboard.dev/proxy notin (edge-a,edge-b)",
        ),
    ],
)
def test_selectors_leave_out_single_proxies(pool: PoolRef, without: list[str], expressions: object, text: str) -> None:
    """A selector can leave out the proxies that drain, in a stable order, as an object and as text."""
    selector = names.selector(pool, without)
    assert selector["matchLabels"] == {"switchboard.dev/pool": "edge"}
    assert selector.get("matchExpressions") == expressions
    assert names.selector_text(pool, without) == text


def test_every_object_goes_with_its_pool(pool: PoolRef) -> None:
    """The owner reference makes `kubectl delete vpp` remove the object, and lets nothing block the deletion."""
    metadata = names.metadata(pool, "edge-load", "proxy")
    assert metadata["namespace"] == "voice"
    assert metadata["ownerReferences"] == [
        {
            "apiVersion": "switchboard.dev/v1alpha1",
            "kind": "VoipProxyPool",
            "name": "edge",
            "uid": "6aff2e59",
            "controller": True,
        }
    ]
    assert metadata["labels"] == {
        "app.kubernetes.io/name": "switchboard",
        "app.kubernetes.io/instance": "edge",
        "app.kubernetes.io/component": "proxy",
        "app.kubernetes.io/managed-by": "switchboard-operator",
        "switchboard.dev/pool": "edge",
    }
