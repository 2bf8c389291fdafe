"""What a kubelet would report about a Pod. Pure: records in, dictionaries out."""

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from e2e.embedded.network import NODE
from e2e.embedded.node.model import Container, Pod

FAILED_EXIT = 128  # exit codes above: ended by a signal


def now() -> str:
    """The time as the API writes it."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class ContainerRecord:
    """What is known about one container; written by its runner, read here."""

    container: Container
    state: dict[str, Any] = field(default_factory=lambda: waiting("ContainerCreating"))
    last: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    started: bool = False
    ready: bool = False
    process: str = ""  # identity of the newest process

    @property
    def running(self) -> bool:
        """Its process exists."""
        return "running" in self.state

    @property
    def exit_code(self) -> int | None:
        """Of a container that has ended and is not about to be started again."""
        ended = self.state.get("terminated")
        return None if ended is None else int(ended["exitCode"])


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    """A container's state before it runs, and between two runs."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def terminated(exit_code: int, started_at: str, process: str, reason: str = "") -> dict[str, Any]:
    """A container's state after it ran."""
    ended = {
        "exitCode": exit_code,
        "reason": reason or ("Error" if exit_code else "Completed"),
        "startedAt": started_at,
    }
    if exit_code > FAILED_EXIT:
        ended["signal"] = exit_code - FAILED_EXIT
    return {"terminated": {**ended, "finishedAt": now(), "containerID": process}}


@dataclass(frozen=True)
class PodRecord:
    """What is known about a Pod. `over`: all of its containers have ended for good."""

    pod: Pod
    address: str
    started_at: str
    sandbox: bool
    inits: list[ContainerRecord]
    mains: list[ContainerRecord]
    over: bool = False


def build(record: PodRecord, before: dict[str, Any]) -> dict[str, Any]:
    """The status to write; times of transitions are kept from `before`, what we wrote last."""
    sidecars_ready = all(init.ready for init in record.inits if init.container.sidecar)
    begun = any(main.process for main in record.mains)  # a sidecar that restarts takes nothing back
    initialized = begun or all(_init_done(init) for init in record.inits)
    ready = initialized and sidecars_ready and bool(record.mains) and all(main.ready for main in record.mains)
    ready = ready and not record.over
    conditions = [
        ("PodReadyToStartContainers", record.sandbox, ""),
        ("Initialized", initialized, "ContainersNotInitialized"),
        ("ContainersReady", ready, "ContainersNotReady"),
        ("Ready", ready, "ContainersNotReady"),
    ]
    status: dict[str, Any] = {
        "phase": _phase(record),
        "conditions": [_condition(*condition, before) for condition in conditions],
        "hostIP": str(NODE),
        "hostIPs": [{"ip": str(NODE)}],
        "startTime": record.started_at,
        "observedGeneration": record.pod.metadata.generation,
        "containerStatuses": [_container(main, initialized=initialized) for main in record.mains],
    }
    if record.inits:
        status["initContainerStatuses"] = [_container(init, initialized=True) for init in record.inits]
    if record.address:
        # A strategic merge would add to the addresses that another run of the node program has written.
        status |= {"podIP": record.address, "podIPs": [{"$patch": "replace"}, {"ip": record.address}]}
    return status


def _init_done(init: ContainerRecord) -> bool:
    return init.started if init.container.sidecar else init.exit_code == 0


def _phase(record: PodRecord) -> str:
    if record.over:
        every = [*record.mains, *(init for init in record.inits if not init.container.sidecar)]
        return "Succeeded" if all(one.exit_code == 0 for one in every) else "Failed"
    return "Running" if any(main.process for main in record.mains) else "Pending"


def _condition(kind: str, holds: bool, reason: str, before: dict[str, Any]) -> dict[str, Any]:  # noqa: FBT001 - a row of the table above
    value = "True" if holds else "False"
    old: dict[str, Any] = next((one for one in before.get("conditions", []) if one["type"] == kind), {})
    changed = old["lastTransitionTime"] if old.get("status") == value else now()
    condition: dict[str, Any] = {"type": kind, "status": value, "lastTransitionTime": changed}
    # A strategic merge keeps what is not mentioned: say that there is no reason any more.
    return {**condition, "reason": None if holds or not reason else reason}


def _container(record: ContainerRecord, *, initialized: bool) -> dict[str, Any]:
    state = record.state
    if state == waiting("ContainerCreating") and not initialized:
        state = waiting("PodInitializing")
    return {
        "name": record.container.name,
        "image": record.container.image,
        "imageID": record.container.image,
        "containerID": record.process,
        "state": state,
        "lastState": record.last,
        "ready": record.ready,
        "started": record.started,
        "restartCount": record.restarts,
    }
