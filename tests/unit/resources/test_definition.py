"""The CRD beside the types that the code reads and writes: the two say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import yaml

from switchboard.pool import spec
from switchboard.pool.conditions import Condition, Status
from switchboard.resources import names
from switchboard.resources.pods import GRACE_SECONDS

CRD = yaml.safe_load((Path(__file__).parents[3] / "crds" / "voipproxypools.switchboard.dev.yaml").read_text())
VERSION = CRD["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]


def field(path: str) -> dict[str, Any]:
    """The schema of one field: spec.listen[].port."""
    schema = SCHEMA
    for step in path.split("."):
        schema = schema["properties"][step.removesuffix("[]")]
        if step.endswith("[]"):
            schema = schema["items"]
    return dict(schema)


def leaves(schema: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    """All fields below, with their paths."""
    below = [(path, schema)]
    for name, one in schema.get("properties", {}).items():
        below += leaves(one, f"{path}.{name}")
    if "items" in schema:
        below += leaves(schema["items"], f"{path}[]")
    return below


SPEC_FIELDS = leaves(SCHEMA["properties"]["spec"], "spec")


def test_the_resource_has_the_name_that_the_code_uses() -> None:
    """Group, version, kind and plural are those that owner references and paths are made of."""
    assert CRD["spec"]["group"] == names.GROUP
    assert VERSION["name"] == names.VERSION
    assert CRD["spec"]["names"]["kind"] == names.KIND
    assert CRD["spec"]["names"]["plural"] == names.PLURAL
    assert CRD["spec"]["names"]["shortNames"] == ["vpp"]


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("spec.assignment.policy", spec.Policy),
        ("spec.assignment.mode", spec.Mode),
        ("spec.gateways[].mode", spec.Mode),
        ("spec.gateways[].kind", spec.GatewayKind),
        ("spec.listen[].transport", spec.Transport),
        ("spec.listen[].clientCertificates", spec.ClientCertificates),
    ],
)
def test_choices_are_those_that_the_code_knows(path: str, values: object) -> None:
    """The API server lets in every value that the code honours, and no other."""
    assert set(field(path)["enum"]) == set(get_args(values))


@pytest.mark.parametrize(("path", "written"), [("status", Status), ("status.conditions[]", Condition)])
def test_the_status_is_stored_as_it_is_written(path: str, written: type[msgspec.Struct]) -> None:
    """Every status field that the operator writes is in the schema, or the API server would drop it; none is idle."""
    assert set(field(path)["properties"]) == {one.encode_name for one in msgspec.structs.fields(written)}


def test_calls_may_use_all_of_the_drain_time() -> None:
    """No drain.timeout that the API server takes is longer than a pod's grace period."""
    (rule,) = field("spec.drain.timeout")["x-kubernetes-validations"]
    assert "duration(self) <= duration('24h')" in rule["rule"]
    assert GRACE_SECONDS > 24 * 3600


BOUNDS = {"array": {"maxItems"}, "string": {"maxLength", "enum"}}
GROWING = [(path, schema) for path, schema in SPEC_FIELDS if schema.get("type") in BOUNDS]


@pytest.mark.parametrize(("path", "schema"), GROWING, ids=[path for path, _ in GROWING])
def test_every_list_and_text_is_bounded(path: str, schema: dict[str, Any]) -> None:
    """No field of a pool can grow without limit: rules stay cheap, and so do the pool's ConfigMaps."""
    assert BOUNDS[schema["type"]] & set(schema), path


def test_rules_say_what_is_allowed() -> None:
    """Each rule has a message of its own, which names the field that it is about."""
    for path, schema in SPEC_FIELDS:
        for rule in schema.get("x-kubernetes-validations", []):
            name = rule.get("fieldPath", path).rpartition(".")[2].removesuffix("[]")
            assert name in rule["message"] or name in {"requests", "limits"}, path
