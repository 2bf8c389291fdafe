from __future__ import annotations

import copy
from typing import Any

import pytest

from switchboard.errors import SpecError
from switchboard.resources.merge import merge

BASE: dict[str, Any] = {
    "spec": {
        "shareProcessNamespace": True,
        "securityContext": {"runAsUser": 10001, "fsGroup": 10001},
        "containers": [{"name": "kamailio", "image": "i", "env": [{"name": "POOL", "value": "edge"}]}],
        "volumes": [{"name": "run", "emptyDir": {}}, {"name": "tls", "secret": {"secretName": "s"}}],
        "tolerations": [{"key": "a"}],
    }
}


def merged(patch: dict[str, Any]) -> dict[str, Any]:
    """BASE's spec with the patch, and BASE found unchanged."""
    before = copy.deepcopy(BASE)
    result: dict[str, Any] = merge(BASE, {"spec": patch})["spec"]
    assert before == BASE
    return result


def test_maps_are_merged_key_by_key() -> None:
    """Setting one key of a security context keeps the others."""
    assert merged({"securityContext": {"runAsUser": 1}})["securityContext"] == {"runAsUser": 1, "fsGroup": 10001}


def test_null_removes_a_key() -> None:
    """A key set to null is gone; one that was not there is none either."""
    assert merged({"securityContext": {"fsGroup": None, "other": None}})["securityContext"] == {"runAsUser": 10001}


def test_containers_are_merged_by_name() -> None:
    """A container with a known name is changed where it stands, its lists too; a new one follows."""
    patch = [{"name": "sniffer", "image": "s"}, {"name": "kamailio", "env": [{"name": "EXTRA", "value": "1"}]}]
    kamailio, sniffer = merged({"containers": patch})["containers"]
    assert kamailio["image"] == "i"
    assert [one["name"] for one in kamailio["env"]] == ["POOL", "EXTRA"]
    assert sniffer == {"name": "sniffer", "image": "s"}


def test_ports_are_told_apart_by_protocol() -> None:
    """SIP's UDP and TCP port are two ports, also where they have the same number."""
    udp, tcp = {"containerPort": 5060, "protocol": "UDP"}, {"containerPort": 5060, "protocol": "TCP"}
    patch = {"ports": [{"containerPort": 5060, "hostPort": 5060}]}
    assert merge({"ports": [udp, tcp]}, patch)["ports"] == [udp, tcp | {"hostPort": 5060}]


def test_new_maps_and_lists_may_come_along() -> None:
    """A patch may bring fields that the pod did not have."""
    result = merged({"affinity": {"nodeAffinity": {}}, "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["pbx"]}]})
    assert result["affinity"] == {"nodeAffinity": {}}
    assert result["hostAliases"] == [{"ip": "192.0.2.1", "hostnames": ["pbx"]}]


def test_other_lists_are_replaced() -> None:
    """Tolerations have no merge key: the patch's stand, as with kubectl."""
    assert merged({"tolerations": [{"key": "b"}]})["tolerations"] == [{"key": "b"}]


def test_patch_delete_removes_an_item() -> None:
    """`$patch: delete` takes a volume away; of one that is not there, nothing."""
    gone = [{"name": "tls", "$patch": "delete"}, {"name": "none", "$patch": "delete"}]
    assert [volume["name"] for volume in merged({"volumes": gone})["volumes"]] == ["run"]


def test_patch_replace_takes_the_patch_as_it_is() -> None:
    """`$patch: replace` keeps nothing of what was there; `delete` leaves an empty map, `merge` is the default said."""
    assert merged({"securityContext": {"$patch": "replace", "runAsUser": 1}})["securityContext"] == {"runAsUser": 1}
    assert merged({"securityContext": {"$patch": "delete"}})["securityContext"] == {}
    assert merged({"securityContext": {"$patch": "merge"}})["securityContext"] == BASE["spec"]["securityContext"]


@pytest.mark.parametrize(
    ("patch", "place", "problem"),
    [
        ({"containers": [{"image": "x"}]}, ".spec.containers[0]", "needs 'name'"),
        ({"containers": [{"name": ["kamailio"]}]}, ".spec.containers[0]", "needs 'name'"),
        ({"containers": ["kamailio"]}, ".spec.containers[0]", "needs 'name'"),
        ({"containers": {"name": "kamailio"}}, ".spec.containers", "must be a list"),
        ({"securityContext": "none"}, ".spec.securityContext", "must be a map"),
        ({"tolerations": "all"}, ".spec.tolerations", "must be a list"),
        ({"securityContext": {"$patch": "drop"}}, ".spec.securityContext", "allowed are delete, merge and replace"),
        ({"securityContext": {"$patch": ["delete"]}}, ".spec.securityContext", "allowed are delete, merge and replace"),
        ({"$setElementOrder/containers": []}, ".spec", "only $patch is honoured"),
    ],
)
def test_what_cannot_be_merged_is_said_with_its_place(patch: dict[str, Any], place: str, problem: str) -> None:
    """A template that cannot be merged is a SpecError that says where and why: it becomes the Stalled condition."""
    with pytest.raises(SpecError) as refused:
        merged(patch)
    assert refused.value.reason == "InvalidPodTemplate"
    assert f"spec.proxy.podTemplate{place} " in str(refused.value)
    assert problem in str(refused.value)
