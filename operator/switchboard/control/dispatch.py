"""What goes out on a pool's links, in four loops that never wait for one another:

* push: the changed rows to the assigner, `COALESCE_SECONDS` after the first change; no push overtakes another, so a
  burst of reports is one push;
* ticks: the next number once the assigner has acknowledged the one before and two seconds have gone by; with it, the
  short list of candidates to all others, spread out so that a thousand sends do not hold up a push;
* sync: what should be in effect at a proxy (settings and peers, drain, role) is compared with what its agent has
  acknowledged, and the next command is sent until nothing differs. There is no list of things still to send, so a link
  that comes back needs no special care. An assigner gets tick and whole table before the role: credits need that order;
* silence: a primary whose reports have stopped is given up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import msgspec

from switchboard.control.fleet import Fleet
from switchboard.control.member import Member
from switchboard.control.metrics import PUSH_SECONDS
from switchboard.errors import LinkError
from switchboard.link.client import next_id
from switchboard.link.codec import encode
from switchboard.link.messages import Command, Configure, Drain, Role, Table, Tick
from switchboard.pool.credits import TICK_SECONDS, received_live
from switchboard.pool.gateways import InUse, in_use, limited
from switchboard.pool.table import Row, shortlist

logger = logging.getLogger(__name__)

COALESCE_SECONDS = 0.010  # a push costs the assigner about as much; shorter makes more pushes, not faster ones
RETRY_SECONDS = 0.5  # after a command that did not come into effect
SYNCS = 32  # proxies brought up to date at a time: a Configure with 1000 peers is 40 KB
CHUNK = 25  # links written to in one go when all are written to
CHUNK_PAUSE_SECONDS = 0.01
SILENCE_CHECK_SECONDS = 0.25


class Dispatcher:
    """Sends for one fleet; `run` until cancelled."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._syncs: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(SYNCS)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._push())
            loops.create_task(self._tick())
            loops.create_task(self._sync())
            loops.create_task(self._watch_silence())

    def _assigner(self) -> Member | None:
        """The assigner, once it can be sent ticks and tables."""
        member = self._fleet.member(self._fleet.assigner)
        return member if member is not None and member.up and member.in_effect.configuration else None

    # push

    async def _push(self) -> None:
        changed = self._fleet.table_changed
        while True:
            await changed.wait()
            await asyncio.sleep(COALESCE_SECONDS)
            changed.clear()
            self._fleet.refresh()
            member = self._assigner()
            if member is not None and not await self._push_to(member):
                await asyncio.sleep(RETRY_SECONDS)
                changed.set()

    async def _push_to(self, member: Member) -> bool:
        fleet, table, effect = self._fleet, self._fleet.table, member.in_effect
        if effect.table is None:
            table.lost(fleet.clock())
        if table.assigner != member.proxy.id or (change := table.take()) is None:
            return True
        rows = tuple(table.rows) if change.rows is None else change.rows
        version = fleet.next_version()
        base = None if change.rows is None else effect.table
        calls = gateways_in_use(fleet, member)
        sent = Table(id=next_id(), pool=fleet.pool.name, version=version, rows=rows, base=base, gateways=calls)
        error = await self._send(member, sent)
        if error is not None:
            self._again_later(member, error)
            effect.table = None
            table.lost(fleet.clock())
            return False
        PUSH_SECONDS.observe(fleet.clock() - change.since)
        if effect.table is None:
            fleet.unsynced.put_nowait(member)
        effect.table = version
        return True

    # ticks

    async def _tick(self) -> None:
        fleet = self._fleet
        while True:
            member = self._assigner()
            if member is None:
                await self._stirred(TICK_SECONDS)
            elif (acknowledged_at := fleet.ticker.acknowledged_at) is None:
                await self._tick_assigner(member)
            elif fleet.ticker.due(fleet.clock()) and not fleet.overlapping:
                fleet.ticker = fleet.ticker.advance()
                fleet.forget_spent()
            else:
                due_at = acknowledged_at + TICK_SECONDS
                await self._stirred(due_at - fleet.clock() if not fleet.overlapping else TICK_SECONDS)

    async def _tick_assigner(self, member: Member) -> None:
        fleet, effect, tick = self._fleet, member.in_effect, self._fleet.ticker.tick
        error = await self._send(member, Tick(id=next_id(), term=fleet.term, tick=tick))
        if error is not None:
            self._again_later(member, error)
            await asyncio.sleep(RETRY_SECONDS)
            return
        if member is self._assigner() and effect is member.in_effect:
            fleet.ticker = fleet.ticker.acknowledged(tick, fleet.clock())
            fleet.unsynced.put_nowait(member)
        await self._distribute()

    async def _stirred(self, within_seconds: float) -> None:
        """Waits; when members came or went, the others learn it now."""
        stirred = self._fleet.stirred
        try:
            async with asyncio.timeout(max(0.0, within_seconds)):
                await stirred.wait()
        except TimeoutError:
            return
        stirred.clear()
        if self._fleet.ticker.acknowledged_at is not None:
            await self._distribute()

    async def _distribute(self) -> None:
        """The tick and the best candidates to every proxy but the assigner; nobody waits for their acks."""
        fleet = self._fleet
        fleet.refresh()
        tick = encode(Tick(id=next_id(), term=fleet.term, tick=fleet.ticker.tick))
        version, best = fleet.next_version(), shortlist(fleet.table.rows)
        same = self._short_table(version, tuple(msgspec.structs.replace(row, received=0) for row in best))
        for count, member in enumerate(list(fleet.members.values())):
            if not self._is_plain_member(member):
                continue
            if count % CHUNK == CHUNK - 1:
                await asyncio.sleep(CHUNK_PAUSE_SECONDS)
            try:
                await member.post(tick)
                await member.post(
                    self._short_table(version, rows_for(fleet, member, best)) if member.assigned else same
                )
            except LinkError:
                continue  # `lost` tells the fleet

    def _short_table(self, version: tuple[int, int], rows: tuple[Row, ...]) -> bytes:
        return encode(Table(id=next_id(), pool=self._fleet.pool.name, version=version, rows=rows))

    def _is_plain_member(self, member: Member) -> bool:
        wanted = self._fleet.wanted_role(member.proxy.name)
        return member.up and member.in_effect.configuration != 0 and wanted == "member"

    # sync

    async def _sync(self) -> None:
        try:
            while True:
                member = await self._fleet.unsynced.get()
                waits = member.syncing or self._fleet.clock() < member.not_before
                if not waits and next_command(self._fleet, member) is not None:
                    member.syncing = True
                    task = asyncio.create_task(self._in_turn(member))
                    self._syncs.add(task)
                    task.add_done_callback(self._syncs.discard)
        finally:
            for task in self._syncs:
                task.cancel()

    async def _in_turn(self, member: Member) -> None:
        """The assigner waits for nobody: clients wait for it."""
        if member.proxy.name == self._fleet.assigner:
            return await self._bring_into_effect(member)
        async with self._slots:
            return await self._bring_into_effect(member)

    async def _bring_into_effect(self, member: Member) -> None:
        fleet = self._fleet
        try:
            while (command := next_command(fleet, member)) is not None:
                effect = member.in_effect
                frame = fleet.configuration.frame if command is fleet.configuration.command else None
                error = await self._send(member, command, frame)
                if error is not None:
                    self._again_later(member, error)
                    return
                self._acknowledged(member, command)
                if effect is not member.in_effect:
                    fleet.unsynced.put_nowait(member)  # a new session began meanwhile
        finally:
            member.syncing = False

    def _again_later(self, member: Member, error: str) -> None:
        if error != member.trouble:
            member.trouble = error
            logger.warning("%s: %s", member.proxy.name, error)
        member.not_before = self._fleet.clock() + RETRY_SECONDS
        if member.up and member.proxy.reading and member.proxy.reading.boot:  # without Kamailio: when that has started
            asyncio.get_running_loop().call_later(1.1 * RETRY_SECONDS, self._fleet.unsynced.put_nowait, member)

    def _acknowledged(self, member: Member, command: Command) -> None:
        fleet, effect = self._fleet, member.in_effect
        match command:
            case Configure():
                effect.configuration = command.id
                fleet.table_changed.set()
                fleet.stirred.set()
            case Drain():
                effect.draining = command.draining
            case Role():
                effect.role, effect.primary = command.role, command.primary
                fleet.role_changed(member, command.role)
            case _:
                pass

    async def _send(self, member: Member, command: Command, frame: bytes | None = None) -> str | None:
        """Why it did not come into effect, or None when it did."""
        try:
            ack = await member.send(command, frame)
        except LinkError as error:
            return str(error)
        return None if ack.error is None else f"{type(command).__name__.lower()} is not in effect: {ack.error}"

    # silence

    async def _watch_silence(self) -> None:
        """A round that itself came late proves nothing about others: reports may wait to be read."""
        clock = self._fleet.clock
        while True:
            asleep_at = clock()
            await asyncio.sleep(SILENCE_CHECK_SECONDS)
            if clock() - asleep_at < 2 * SILENCE_CHECK_SECONDS:
                self._fleet.check_silence()


def gateways_in_use(fleet: Fleet, assigner: Member) -> dict[str, InUse]:
    """For the gateways that may have only so many calls at a time."""
    configuration = fleet.configuration.command
    names = limited(configuration.settings.gateways) if configuration is not None else ()
    return in_use(fleet.proxies(), assigner.proxy.id, names) if names else {}


def rows_for(fleet: Fleet, member: Member, rows: Iterable[Row]) -> tuple[Row, ...]:
    """The rows as this member may use them: `received` counts its own calls, not the assigner's."""
    own = member.proxy.id
    readings = ((row, fleet.members[row.id.partition("~")[0]].proxy.reading) for row in rows)
    return tuple(
        msgspec.structs.replace(row, received=received_live(reading.received, own, row.closed) if reading else 0)
        for row, reading in readings
    )


def next_command(fleet: Fleet, member: Member) -> Command | None:
    """The next thing that is not in effect at this proxy as it should be."""
    effect, proxy, configuration = member.in_effect, member.proxy, fleet.configuration.command
    if not member.up or configuration is None:
        return None
    if effect.configuration != configuration.id:
        return configuration
    if effect.draining != proxy.draining and not proxy.terminating:  # a terminating one drains by itself
        return Drain(id=next_id(), term=fleet.term, draining=proxy.draining)
    return _next_role(fleet, member)


def _next_role(fleet: Fleet, member: Member) -> Role | None:
    effect, role = member.in_effect, fleet.wanted_role(member.proxy.name)
    if role == "primary":
        if effect.role == "primary":
            return None
        if effect.table is None or fleet.ticker.acknowledged_at is None:
            return None  # these two come first, from the other loops, which call for a sync then
        return Role(id=next_id(), term=fleet.term, role="primary", previous=fleet.previous)
    if role is None or (effect.role == "member" and effect.primary == fleet.primary):
        return None
    return Role(id=next_id(), term=fleet.term, role="member", primary=fleet.primary)
