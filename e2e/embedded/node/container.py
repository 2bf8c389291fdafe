"""One container: started, probed, restarted with back-off, and ended in order."""

import asyncio
import contextlib
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from e2e.embedded.errors import ImageError, PodSetupError
from e2e.embedded.node.deadline import Deadline, cancelled
from e2e.embedded.node.model import Handler, Probe
from e2e.embedded.node.probes import Asker, repeat
from e2e.embedded.node.process import Process
from e2e.embedded.node.status import ContainerRecord, now, terminated, waiting
from e2e.embedded.settings import Settings

RECOVERED_AFTER = 2  # times the longest back-off without an end: the count starts again


@dataclass(frozen=True)
class Launched:
    """A process and the environment it was given, which its probes and hooks get too."""

    process: Process
    environment: Mapping[str, str]


class Surroundings(Protocol):
    """What a container needs from its Pod."""

    @property
    def settings(self) -> Settings:
        """The cluster's."""

    @property
    def address(self) -> str:
        """The Pod's."""

    @property
    def grace_seconds(self) -> float:
        """For a container that is restarted while its Pod goes on."""

    async def launch(self, record: ContainerRecord) -> Launched:
        """Starts the container's process; ImageError or PodSetupError while that is not possible."""

    def changed(self) -> None:
        """Its record is another; the Pod's status has to be written."""

    def event(self, kind: str, reason: str, message: str) -> None:
        """Something that a kubelet would report as an Event; `kind` is Normal or Warning."""


class ContainerRunner:
    """`policy`: Always, OnFailure or Never. `started`: it has started once; `task`: until its last end."""

    def __init__(self, record: ContainerRecord, pod: Surroundings, policy: str) -> None:
        self.record = record
        self.started = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._pod = pod
        self._policy = policy
        self._asker = Asker(record.container, pod.address)
        self._launched: Launched | None = None
        self._stopping = asyncio.Event()
        self._killing: asyncio.Task[None] | None = None
        self._delay_seconds = 0.0  # the first restart is immediate

    def start(self) -> asyncio.Task[None]:
        """Begins to run it; the task ends when it has ended for good."""
        self.task = asyncio.create_task(self._run(), name=f"container {self.record.container.name}")
        return self.task

    @property
    def process(self) -> Process | None:
        """The one that runs now."""
        return self._launched.process if self._launched else None

    async def stop(self, deadline: Deadline) -> None:
        """preStop, SIGTERM, and SIGKILL when the deadline comes first; returns when it is gone."""
        self._stopping.set()
        if self.task is None:
            return
        if self._launched is not None:
            await self._end(self._launched, deadline)
        await self.task

    async def _run(self) -> None:
        while not self._stopping.is_set():
            launched = await self._launch()
            if launched is None:
                continue
            if self._stopping.is_set():  # while it was being launched
                launched.process.kill()
            began, began_at = time.monotonic(), now()
            code = await self._live(launched, began_at)
            killing, self._killing = self._killing, None
            if killing is not None:
                await killing
            self._launched = None
            self.record.ready = self.record.started = False
            self.record.state = terminated(code, began_at, self.record.process)
            if not self._again(code):
                self.record.ready = code == 0 and self._policy != "Always"  # as an init container that is done
                self._pod.changed()
                return
            self._pod.changed()
            await self._back_off(time.monotonic() - began)

    async def _launch(self) -> Launched | None:
        record = self.record
        try:
            launched = await self._pod.launch(record)
        except ImageError as error:
            reason = "ImagePullBackOff" if self._delay_seconds else "ErrImagePull"
            await self._cannot(reason, str(error))
            return None
        except PodSetupError as error:
            await self._cannot("CreateContainerError" if error.reason == "Failed" else error.reason, str(error))
            return None
        self._launched = launched
        if "terminated" in record.state:
            record.last = record.state
        if record.process:
            record.restarts += 1
        record.process = f"bubblewrap://{uuid.uuid4().hex}"
        return launched

    async def _cannot(self, reason: str, message: str) -> None:
        self.record.state = waiting(reason, message)
        self._pod.event("Warning", "Failed", f"container {self.record.container.name}: {message}")
        self._pod.changed()
        self._delay_seconds = self._delay_seconds or self._pod.settings.restart_base_seconds
        await self._pause(self._delay_seconds)
        if reason == "ErrImagePull":
            self.record.state = waiting("ImagePullBackOff", message)
            self._pod.changed()
        self._delay_seconds = min(2 * self._delay_seconds, self._pod.settings.restart_most_seconds)

    async def _live(self, launched: Launched, began_at: str) -> int:
        """From a process's start to its end; its exit status."""
        record, container = self.record, self.record.container
        record.state = {"running": {"startedAt": began_at}}
        record.started = container.startup_probe is None
        record.ready = record.started and container.readiness_probe is None
        if record.started:
            self.started.set()
        self._pod.changed()
        probing = asyncio.create_task(self._probe(launched))
        try:
            return await asyncio.shield(launched.process.exited)
        finally:
            await cancelled(probing)

    async def _probe(self, launched: Launched) -> None:
        container = self.record.container

        def asking(probe: Probe) -> Callable[[], Awaitable[str]]:
            return partial(self._asker.ask, probe, launched.process, launched.environment, probe.timeout_seconds)

        if container.startup_probe is not None:
            told = partial(self._startup, launched, container.startup_probe)
            await repeat(container.startup_probe, asking(container.startup_probe), told, until_good=True)
        async with asyncio.TaskGroup() as group:
            if container.readiness_probe is not None:
                group.create_task(repeat(container.readiness_probe, asking(container.readiness_probe), self._readiness))
            if container.liveness_probe is not None:
                told = partial(self._liveness, launched, container.liveness_probe)
                group.create_task(repeat(container.liveness_probe, asking(container.liveness_probe), told))

    def _startup(self, launched: Launched, probe: Probe, good: bool, complaint: str) -> None:  # noqa: FBT001 - the verdict
        if not good:
            self._kill(launched, probe, f"Startup probe failed: {complaint}")
            return
        self.record.started = True
        self.record.ready = self.record.container.readiness_probe is None
        self.started.set()
        self._pod.changed()

    def _readiness(self, good: bool, complaint: str) -> None:  # noqa: FBT001 - the verdict
        if good == self.record.ready:
            return
        self.record.ready = good
        if not good:
            self._pod.event("Warning", "Unhealthy", f"Readiness probe failed: {complaint}")
        self._pod.changed()

    def _liveness(self, launched: Launched, probe: Probe, good: bool, complaint: str) -> None:  # noqa: FBT001 - the verdict
        if not good:
            self._kill(launched, probe, f"Liveness probe failed: {complaint}")

    def _kill(self, launched: Launched, probe: Probe, why: str) -> None:
        if self._killing is not None or self._stopping.is_set():
            return
        self._pod.event("Warning", "Unhealthy", why)
        self._pod.event("Normal", "Killing", f"container {self.record.container.name} is restarted: {why}")
        grace = probe.termination_grace_period_seconds
        deadline = Deadline(self._pod.grace_seconds if grace is None else grace)
        self._killing = asyncio.create_task(self._end(launched, deadline))

    async def _end(self, launched: Launched, deadline: Deadline) -> None:
        lifecycle, exited = self.record.container.lifecycle, launched.process.exited
        if lifecycle is not None and lifecycle.pre_stop is not None and deadline.remaining() > 0:
            hook = asyncio.create_task(self._pre_stop(lifecycle.pre_stop, launched))
            await deadline.wait(hook)
            await cancelled(hook)
        launched.process.signal(signal.SIGTERM)
        if not await deadline.wait(exited):
            launched.process.kill()
        await asyncio.shield(exited)

    async def _pre_stop(self, hook: Handler, launched: Launched) -> None:
        """Ends with the container at the latest; its failure is reported and changes nothing."""
        asking = asyncio.create_task(
            self._asker.ask(hook, launched.process, launched.environment, self._pod.grace_seconds + 3600)
        )
        try:
            await asyncio.wait({asking, launched.process.exited}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done() and (complaint := asking.result()):
                self._pod.event("Warning", "FailedPreStopHook", complaint)
        finally:
            asking.cancel()

    def _again(self, code: int) -> bool:
        if self._stopping.is_set():
            return False
        return self._policy == "Always" or (self._policy == "OnFailure" and code != 0)

    async def _back_off(self, lasted_seconds: float) -> None:
        settings = self._pod.settings
        if lasted_seconds > RECOVERED_AFTER * settings.restart_most_seconds:
            self._delay_seconds = 0.0
        if self._delay_seconds:
            self.record.last = self.record.state
            message = f"back-off {self._delay_seconds:g} s restarting failed container {self.record.container.name}"
            self.record.state = waiting("CrashLoopBackOff", message)
            self._pod.event("Warning", "BackOff", message)
            self._pod.changed()
            await self._pause(self._delay_seconds)
        following = 2 * self._delay_seconds or settings.restart_base_seconds
        self._delay_seconds = min(following, settings.restart_most_seconds)

    async def _pause(self, seconds: float) -> None:
        """Ends early when the container is to end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
