"""One proxy as its fleet knows it: the pod, the link to its agent, its last report, and what is in effect there."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import msgspec

from switchboard.control.observed import PodView
from switchboard.errors import LinkLostError
from switchboard.link.client import LinkClient
from switchboard.link.messages import Ack, Command, Report, RoleName
from switchboard.pool.credits import merge_assigned
from switchboard.pool.spec import PoolSpec
from switchboard.pool.table import Proxy, host_port, newer
from switchboard.resources.names import AGENT_PORT

ENDED_GRACE_SECONDS = 30  # for a pod whose drain is over: its long grace period was for the drain


class InEffect(msgspec.Struct):
    """What this session's agent has acknowledged; a new session, or a new boot, starts from its first report."""

    configuration: int = 0  # the id of the Configure
    draining: bool | None = None
    role: RoleName | None = None
    primary: str | None = None  # whom it takes for the primary: SIP URI
    tick: int = 0
    table: tuple[int, int] | None = None  # the version of the whole table, not of the short list


class Member:
    """Mutable, and touched from the event loop only."""

    def __init__(self, pod: PodView, spec: PoolSpec, now: float) -> None:
        port = spec.peer_port
        self.proxy = Proxy(
            name=pod.name,
            address=pod.address,
            port=port,
            advertise=host_port(pod.advertise, port),
            created=pod.created.timestamp(),
            ready=False,
        )
        self.pod = pod
        self.link: LinkClient | None = None
        self.task: asyncio.Task[None] | None = None
        self.report: Report | None = None
        self.assigned: dict[str, dict[int, int]] = {}
        self.assigned_per_second = 0.0
        self.in_effect = InEffect()
        self.dialled_at = now
        self.lost_at: float | None = None  # when the link ended; None while it stands
        self.joined = False  # has been able to take calls at some time
        self.dead_targets: tuple[str, ...] | None = None  # by its last report
        self.database_up: bool | None = None  # likewise
        self.syncing = False
        self.not_before = 0.0  # a command that did not come into effect is sent again no sooner
        self.trouble = ""  # the last reason why there is no link, said once
        self.mourned = False  # its calls have been told to be lost
        self.fresh = True  # a session has begun, its first report has yet to come

    def see(self, pod: PodView, template: str, now: float) -> None:
        """The pod as it is now; `now` on the clock of the readings."""
        self.pod = pod
        since = pod.draining_since or pod.deleting_since
        waited = (datetime.now(UTC) - since).total_seconds() if since is not None else 0.0
        self.proxy = msgspec.structs.replace(
            self.proxy,
            address=pod.address,
            advertise=host_port(pod.advertise, self.proxy.port),
            ready=pod.ready,
            current=pod.template == template,
            evicted=pod.evicted,
            failed=pod.failed,
            waiting=pod.waiting,
            terminating=pod.deleting,
            cut_short=pod.deleting and pod.grace_seconds <= ENDED_GRACE_SECONDS,
            draining_since=None if since is None else now - waited,
        )

    @property
    def up(self) -> bool:
        return self.proxy.link == "up" and self.report is not None

    @property
    def agent(self) -> str:
        """Where its agent listens: host:port."""
        return f"{self.proxy.address}:{AGENT_PORT}"

    def silent_seconds(self, now: float) -> float:
        """From its last report until its link ended, or until now: what it did then, nobody was told."""
        reading = self.proxy.reading
        until = self.lost_at if self.lost_at is not None else now
        return max(0.0, until - reading.sampled_at) if reading is not None else 0.0

    async def send(self, command: Command, frame: bytes | None = None) -> Ack:
        if self.link is None:
            raise LinkLostError(f"proxy {self.proxy.name}: it has no address yet")
        return await self.link.send(command, frame)

    async def post(self, frame: bytes) -> None:
        if self.link is not None:
            await self.link.post(frame)

    def connected(self) -> None:
        """A session starts: nothing is known to be in effect, and its first report replaces what was held."""
        self.fresh = True
        self.lost_at = None
        self.trouble = ""
        self.in_effect = InEffect()
        self.proxy = msgspec.structs.replace(self.proxy, link="up", compatible=True)

    def reported(self, report: Report, now: float) -> bool:
        """Takes in a report; False when it is older than what is held, or the very same."""
        reading = report.reading(now)
        before = self.proxy.reading
        if not self.fresh and not newer(before, reading):
            return False
        if self.fresh or (before is not None and before.boot != report.boot):
            self._begin(report)
        if before is not None and self.report is not None and before.boot == report.boot:
            self._measure_rate(self.report, report, now - before.sampled_at)
        if report.assigned:
            self.assigned = merge_assigned(self.assigned, report.assigned, report.tick)
        self.report = report
        self.proxy = msgspec.structs.replace(self.proxy, reading=reading)
        return True

    def _begin(self, report: Report) -> None:
        """The first report of a session or of a boot tells what is in effect there."""
        same_boot = self.report is not None and self.report.boot == report.boot
        if not same_boot:
            self.assigned = {}
            self.in_effect = InEffect()
        self.in_effect.draining, self.in_effect.role = report.draining, report.role
        self.fresh = False
        self.not_before = 0.0

    def _measure_rate(self, before: Report, report: Report, seconds: float) -> None:
        if seconds > 0:
            rate = max(0, report.assigned_total - before.assigned_total) / seconds
            self.assigned_per_second += (rate - self.assigned_per_second) * min(1.0, seconds)
