"""What listeners are told, and when: periodically; and at once on a change, a threshold crossing, or on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from switchboard.agent.apply import Applier
from switchboard.agent.counts import ByTick
from switchboard.agent.kamailio import Kamailio, Value
from switchboard.agent.notation import targets
from switchboard.agent.sampler import Sample, Sampler
from switchboard.errors import KamailioError
from switchboard.link.messages import Reason, Report
from switchboard.pool.gateways import limited
from switchboard.pool.table import GatewayCalls
from switchboard.pool.workload import Shared, Usage, places, report_cause

DROPPED = ("rate", "user_agent", "malformed", "users")  # counters of cnt

_NOTHING = Sample(at=0.0, boot="", tick=0, usage=Usage(calls=0), received={}, room=0, workload=0.0, media_ok=False)


class _State(msgspec.Struct, frozen=True):
    """What is reported at once when it changes, whatever the workload."""

    boot: str
    media_ok: bool
    draining: bool
    role: str


class Reporter:
    def __init__(
        self,
        kamailio: Kamailio,
        applier: Applier,
        sampler: Sampler,
        fingerprint: Callable[[], str],
        publish: Callable[[Report], None],
    ) -> None:
        self.database_up: bool | None = None  # None: locations are in no database
        self._kamailio = kamailio
        self._applier = applier
        self._sampler = sampler
        self._fingerprint = fingerprint
        self._publish = publish
        self._seq = 0
        self._sample = _NOTHING
        self._gateways: Mapping[str, GatewayCalls] = {}
        self._totals: Mapping[str, Value] = {}
        self._refused: Mapping[str, Value] = {}
        self._health: Mapping[str, Value] = {}
        self._checking: tuple[str, float] = ("", 0.0)  # this run of Kamailio, and since when
        self._told: tuple[Shared, _State] | None = None
        self._told_at = 0.0
        self._assigned_at = 0.0

    async def consider(self, sample: Sample) -> None:
        """Report, if this sample gives cause to."""
        self._sample = sample
        cause = self._cause(sample)
        if cause is None:
            return
        self._totals = await self._kamailio.dump("cnt")
        self._health = await self._kamailio.dump("health")
        if self._checking[0] != sample.boot:
            self._checking = (sample.boot, sample.at)
        await self._read_gateways(sample)
        changed = await self._newly_assigned(sample)
        self._told, self._told_at = self._now(sample), sample.at
        self._publish(self._report(cause, changed))

    def gone(self) -> None:
        """Kamailio is gone: say once that nothing more can be assigned here."""
        if self._told is None:
            return
        self._sample = msgspec.structs.replace(self._sample, room=0)
        self._told = None
        self._publish(self._report("change", {}))

    def whole(self, reason: Reason = "request") -> Report:
        """A report by the last sample, with everything in it."""
        return self._report(reason, self._sampler.counts.assigned)

    async def asked(self) -> Report:
        """A report for whoever asks for one: its totals are as of now, too. Without Kamailio they are the last ones."""
        with suppress(KamailioError):
            self._totals = await self._kamailio.dump("cnt")
            self._refused = await self._kamailio.dump("refused")
            self._health = await self._kamailio.dump("health")
        return self.whole()

    def refused(self) -> dict[tuple[str, str], int]:
        """Requests of gateways refused since Kamailio's start, by gateway and reason; as of the last `asked`."""
        parts = ((key.partition(":"), count) for key, count in self._refused.items())
        return {(gateway, reason): int(count) for (gateway, _, reason), count in parts}

    def targets(self) -> dict[str, bool]:
        """Whether each target of the routes passes its health checks; as of the last `asked`."""
        settings = self._applier.wanted.settings
        if settings is None or not settings.health_checks.period_seconds:
            return {}
        threshold = settings.health_checks.threshold
        return {
            target: int(self._health.get(target, 0)) < threshold
            for target in targets(settings.routes, settings.gateways)
        }

    def _dead(self) -> tuple[str, ...] | None:
        """Of these targets; None while not each has been checked as often as it may fail."""
        settings = self._applier.wanted.settings
        if settings is None or not settings.health_checks.period_seconds:
            return None
        checks = settings.health_checks
        if self._sample.at < self._checking[1] + checks.period_seconds * (checks.threshold + 1):
            return None
        return tuple(target for target, well in self.targets().items() if not well)

    async def _newly_assigned(self, sample: Sample) -> ByTick:
        """What was assigned since this was last looked at; with a thousand proxies not oftener than each period."""
        demoted = self._told is not None and self._told[1].role == "primary" != self._applier.role
        settings = self._applier.wanted.settings
        period = settings.sharing.period_seconds if settings else 0.0
        if not demoted and sample.at < self._assigned_at + period:
            return {}
        self._assigned_at = sample.at
        return await self._sampler.counts.refresh_assigned(sample.tick, everything=demoted)

    async def _read_gateways(self, sample: Sample) -> None:
        settings = self._applier.wanted.settings
        names = limited(settings.gateways) if settings else ()
        self._gateways = await self._sampler.gateways.read(names, sample.received, sample.tick)

    def _cause(self, sample: Sample) -> Reason | None:
        settings = self._applier.wanted.settings
        if self._told is None:
            return "change"
        told, state = self._told
        now = self._now(sample)
        if state != now[1]:
            return "change"
        if settings is None:
            return None
        return report_cause(
            told,
            now[0],
            sample.at - self._told_at,
            sharing=settings.sharing,
            threshold=settings.threshold,
            places=places(settings.capacity, settings.threshold),
        )

    def _now(self, sample: Sample) -> tuple[Shared, _State]:
        applier = self._applier
        state = _State(sample.boot, sample.media_ok, applier.draining, applier.role)
        return Shared(room=sample.room, workload=sample.workload), state

    def _report(self, reason: Reason, assigned: ByTick) -> Report:
        self._seq += 1
        sample, applier = self._sample, self._applier
        return Report(
            seq=self._seq,
            boot=sample.boot,
            tick=sample.tick,
            reason=reason,
            room=sample.room,
            spare=sample.spare,
            calls=sample.usage.in_use,
            media_sessions=sample.usage.media_sessions,
            cpu_cores=round(sample.usage.cpu_cores, 4),
            bandwidth_bits_per_second=int(sample.usage.bandwidth_bits_per_second),
            workload=round(sample.workload, 6),
            media_ok=sample.media_ok,
            received=sample.received,
            gateways=dict(self._gateways),
            assigned=assigned,
            assigned_total=self._total("assigned"),
            refused=self._total("refused"),
            saturated=self._total("saturated"),
            over_threshold=self._total("over"),
            admitted=self._total("admitted"),
            urgent=self._total("urgent"),
            redirected=self._total("redirected"),
            not_redirected=self._total("stays"),
            forwarded=self._total("forwarded"),
            denied=self._total("denied"),
            unauthorized=self._total("unauthorized"),
            dropped={reason: self._total(reason) for reason in DROPPED if self._total(reason)},
            dead_targets=self._dead(),
            database_up=self.database_up,
            table=applier.version,
            role=applier.role,
            draining=applier.draining,
            fingerprint=self._fingerprint(),
        )

    def _total(self, name: str) -> int:
        return int(self._totals.get(name, 0))
