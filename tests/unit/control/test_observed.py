"""What the operator makes of a pod as the API server shows it."""

from __future__ import annotations

from typing import Any

import pytest

from switchboard.control.observed import MAX_WORDS, waiting


def container(name: str = "kamailio", **states: Any) -> dict[str, Any]:
    return {"name": name, "image": "proxy:1", **states}


def held(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return container(state={"waiting": {"reason": reason, "message": message}}, **more)


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no cpu"}
EXITED = {"terminated": {"exitCode": 137}}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({}, ""),
        ({"conditions": [{"type": "PodScheduled", "status": "True"}]}, ""),
        ({"conditions": [UNSCHEDULABLE]}, "no node for it: 0/3 nodes: no cpu"),
        ({"containerStatuses": [container(state={"running": {}})]}, ""),
        ({"initContainerStatuses": [held("PodInitializing")], "containerStatuses": [held("ContainerCreating")]}, ""),
        ({"containerStatuses": [held("ErrImagePull")]}, "image proxy:1 of container kamailio cannot be had"),
        ({"containerStatuses": [held("ImagePullBackOff")]}, "image proxy:1 of container kamailio cannot be had"),
        (
            {"containerStatuses": [held("CrashLoopBackOff", "back-off 40s", lastState=EXITED)]},
            "container kamailio ends again and again, with exit code 137",
        ),
        (
            {"initContainerStatuses": [held("CreateContainerConfigError", "x" * 999)]},
            "container kamailio: CreateContainerConfigError: " + "x" * MAX_WORDS,
        ),
    ],
)
def test_what_keeps_a_pod_from_running(status: dict[str, Any], words: str) -> None:
    """Steady words: attempts that come and go write no new status."""
    assert waiting({"status": status}) == words
