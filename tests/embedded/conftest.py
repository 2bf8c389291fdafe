"""Runs inside a cluster: `python -m e2e.embedded -- python -m pytest tests/embedded`.

SWITCHBOARD_ROOTFS names a Debian root file system with python3 in it, the image of all Pods here.
"""

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.embedded.cluster import Cluster
from e2e.embedded.errors import EmbeddedError
from e2e.embedded.waiting import wait_for
from tests.tools.wait import WITHIN_SECONDS

Object = dict[str, Any]
IMAGE = "test/debian"
SECONDS = WITHIN_SECONDS


@dataclass
class Namespace:
    """A Kubernetes namespace of one test's own."""

    cluster: Cluster
    name: str

    def kubectl(self, *words: str, text: str | None = None) -> str:
        """In this namespace."""
        return self.cluster.kubectl("-n", self.name, *words, text=text)

    def apply(self, *objects: Object) -> None:
        """Objects with at least kind, metadata and what is in them."""
        listed = {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", **each} for each in objects]}
        self.kubectl("apply", "-f", "-", text=json.dumps(listed))

    def pod(self, name: str, *containers: Object, **spec: Any) -> None:
        """Creates a Pod; containers without an image get the tests' own."""
        inits = [{"image": IMAGE, **one} for one in spec.pop("initContainers", [])]
        whole = {
            "terminationGracePeriodSeconds": 5,
            **spec,
            "containers": [{"image": IMAGE, **one} for one in containers],
        }
        if inits:
            whole["initContainers"] = inits
        self.apply({"kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": whole})

    def get(self, name: str) -> Object:
        """A Pod; empty when there is none."""
        try:
            found: Object = json.loads(self.kubectl("get", "pod", name, "-o", "json"))
        except EmbeddedError as error:
            if "NotFound" in str(error):
                return {}
            raise
        return found

    def container(self, pod: str, name: str) -> Object:
        """A container's status."""
        status = self.get(pod).get("status", {})
        every = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
        return next((one for one in every if one["name"] == name), {})

    def ready(self, name: str) -> Object:
        """The Pod, once it is Ready."""

        def now() -> Object:
            pod = self.get(name)
            conditions = pod.get("status", {}).get("conditions", [])
            return pod if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions) else {}

        return wait_for(now, SECONDS, f"pod {name} to be Ready")

    def log(self, pod: str, container: str = "main") -> str:
        """What it has written so far."""
        return self.cluster.log(self.name, pod, container)

    def until_log(self, pod: str, text: str, container: str = "main") -> str:
        """The log, once it has `text` in it."""
        return wait_for(
            lambda: log if text in (log := self.log(pod, container)) else "",
            SECONDS,
            f"{text!r} in the log of {pod}/{container}",
        )


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """With quick restarts, and files that follow at once."""
    root = os.environ.get("SWITCHBOARD_ROOTFS")
    if not root:
        pytest.fail("SWITCHBOARD_ROOTFS is not set: it names a Debian root file system with python3")
    here = Cluster()
    here.add_image(IMAGE, Path(root))
    here.choose(restart_base_seconds=0.2, volume_refresh_seconds=0.0)
    return here


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[Namespace]:
    """Deleted with all that is in it afterwards."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)

    def usable() -> bool:
        with suppress(EmbeddedError):
            return bool(cluster.kubectl("-n", name, "get", "serviceaccount", "default"))
        return False

    wait_for(usable, SECONDS, f"namespace {name} to have its service account")
    yield Namespace(cluster, name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def shell() -> Callable[..., Object]:
    """A container that runs a shell script."""

    def container(script: str, name: str = "main", **more: Any) -> Object:
        return {"name": name, "command": ["/bin/sh", "-c", script], **more}

    return container
