"""Brings what is wanted into effect in Kamailio, and again whenever Kamailio begins anew.

One thing at a time, under one lock. Kamailio starts closed (`ctl=>ready` unset) and is opened last. A command that
comes while Kamailio is away is kept and refused: it comes into effect at the next start, and its sender knows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from switchboard.agent.blobs import Blobs
from switchboard.agent.environment import Environment
from switchboard.agent.kamailio import Kamailio, Key, Refusal, Value
from switchboard.agent.memory import Memory
from switchboard.agent.secrets import MountedSecret, credentials_in, users_in
from switchboard.agent.wanted import Wanted, accept, address_list, configuration, learns, state
from switchboard.errors import KamailioError
from switchboard.link.messages import Command, Peer, RoleName, Settings
from switchboard.pool.gateways import InUse
from switchboard.pool.table import Row, Version
from switchboard.resources.database import wanted_secret
from switchboard.resources.users import Users

STATE_TABLES = ("gwuse",)  # what `state` writes; keys of `ctl` are always the same
RELOAD_SECONDS = 6.0  # addressReload refuses within the module's reload_delta of the one before, 5 s by default
RELOAD_RETRY_SECONDS = 0.2

_log = logging.getLogger(__name__)


class Admission(msgspec.Struct, frozen=True):
    """Kamailio's own limits: it admits a call while its count is below `ceiling`, an urgent one while it is below
    `full`, and none without media.
    """

    ceiling: int
    full: int
    media_ok: bool


class Applier:
    """`boot`, `tick`, `role`, `version`, `rows` and `draining` are what is in effect; `wanted` is what should be."""

    def __init__(
        self,
        environment: Environment,
        kamailio: Kamailio,
        admission: Callable[[Settings], Admission | None],
        settled: Callable[[str], bool],
    ) -> None:
        """`settled`: whether a run of Kamailio knows what the database of locations has, or need not wait for it."""
        self.wanted = Wanted()
        self.terminating = False  # the pod is being deleted: it drains whatever the operator says
        self.boot = ""
        self.tick = 0
        self.role: RoleName = "member"
        self.version: Version = (0, 0)
        self.rows: tuple[Row, ...] = ()
        self.draining = False
        self.open = False  # Kamailio has been told everything and admits calls
        self._environment = environment
        self._kamailio = kamailio
        self._admission = admission
        self._settled = settled
        self._lock = asyncio.Lock()
        self._users = MountedSecret[Users](environment.users, {})
        self._credentials = MountedSecret[dict[str, str]](environment.credentials, {})
        self._source: tuple[Settings, tuple[Peer, ...]] | None = None  # what `_configured` follows from
        self._configured: dict[Key, Value | None] = {}  # as written into this run; None: perhaps
        self._state: dict[Key, Value | None] = {}
        self._addresses: str | None = None
        self._memory = Memory(environment.run / "written.json")
        self._admitted: Admission | None = None
        self._blobs: Blobs | None = None
        self.last_boot = ""

    async def carry_out(self, command: Command) -> None:
        """Returns once `command` is in effect in Kamailio."""
        async with self._lock:
            self.wanted = accept(self.wanted, command, time.monotonic())
            if not self.boot:
                raise KamailioError("Kamailio is not up; this comes into effect when it is")
            await self._change()

    def start_from(self, wanted: Wanted) -> None:
        """Begin with what the mounted files say, for a proxy that starts without an operator."""
        self.wanted = wanted

    async def table(self, version: Version, rows: tuple[Row, ...], gateways: Mapping[str, InUse]) -> None:
        """Bring a table into effect that this agent computed itself (peer mode)."""
        async with self._lock:
            self.wanted = msgspec.structs.replace(self.wanted, version=version, rows=rows, gateways=gateways)
            await self._change()

    async def advance(self, tick: int) -> None:
        """Bring a tick into effect that this agent made itself (peer mode)."""
        async with self._lock:
            self.wanted = msgspec.structs.replace(self.wanted, tick=max(tick, self.wanted.tick))
            await self._change()

    async def drain_for_good(self) -> None:
        """The pod is being deleted: no new calls, and no operator takes it back."""
        async with self._lock:
            self.terminating = True
            if self.boot:
                with suppress(KamailioError):  # then at its next start
                    await self._change()

    async def attach(self) -> None:
        """Find out which run of Kamailio is there, and bring everything into effect in it."""
        async with self._lock:
            (boot,) = await self._kamailio.get([("ctl", "boot")])
            if not isinstance(boot, str) or not boot:
                raise KamailioError("Kamailio has not said which run it is (ctl=>boot); it is still starting")
            self._forget_what_was_written()
            if not self.last_boot:
                await self._go_on()
            elif boot != self.last_boot:
                _log.warning("Kamailio restarted: it was %s, it is %s now", self.last_boot, boot)
                self._disown()
            for key in self._memory.of(boot):  # what is not wanted any more will go
                (self._state if key[0] in STATE_TABLES else self._configured)[key] = None
            if self._blobs is None:
                (version,) = await self._kamailio.get([("rt", "ver")])
                self._blobs = Blobs(self._kamailio, version if isinstance(version, int) else 0)
            self.last_boot = boot
            await self._kamailio.set({("ctl", "key"): self._environment.key})
            await self._bring_into_effect()
            self.boot = boot

    def detach(self) -> None:
        """Kamailio is gone: nothing is in effect any more."""
        self.boot = ""
        self.open = False

    async def admit(self, admission: Admission) -> None:
        """Bring a new ceiling into effect."""
        if admission != self._admitted:
            limits: dict[Key, Value] = {("ctl", "ceiling"): admission.ceiling, ("ctl", "full"): admission.full}
            await self._kamailio.set({**limits, ("ctl", "media"): int(admission.media_ok)})
            self._admitted = admission

    async def open_if_ready(self) -> None:
        """Open Kamailio once it knows what its peers know."""
        if self.boot and self._complete and not self.open:
            async with self._lock:
                await self._change()

    async def expire(self) -> None:
        """What holds for a time only: the previous primary."""
        if self.boot and self.wanted.previous and time.monotonic() >= self.wanted.previous_until:
            async with self._lock:
                self.wanted = msgspec.structs.replace(self.wanted, previous="")
                await self._change()

    async def look_at_passwords(self) -> None:
        """Bring them into effect once they have changed; ConfigurationError when they cannot be used."""
        if self.boot and (self._users.changed or self._credentials.changed):
            async with self._lock:
                self._source = None
                await self._change()
        self._users.require_usable()
        self._credentials.require_usable()

    def _forget_what_was_written(self) -> None:
        self._configured, self._state = dict.fromkeys(self._configured), dict.fromkeys(self._state)
        self._source = self._addresses = self._admitted = None
        self.version, self.rows = (0, 0), ()
        self.open = False

    async def _go_on(self) -> None:
        """After a restart of the agent alone: Kamailio goes on as it was told until somebody says otherwise."""
        tick, drain, role = await self._kamailio.get([("ctl", "tick"), ("ctl", "drain"), ("ctl", "role")])
        if isinstance(tick, int) and tick > self.wanted.tick:
            kept: RoleName = "primary" if role == "primary" else "member"
            self.wanted = msgspec.structs.replace(
                self.wanted, tick=tick, draining=drain == 1, role=kept, version=(0, 0), rows=()
            )

    def _disown(self) -> None:
        """A new run has nothing of the old one's, and as an assigner its counts begin at 0: calls that came from the
        run before must not stand against its own.
        """
        rows = tuple(msgspec.structs.replace(row, received=0) for row in self.wanted.rows)
        self.wanted = msgspec.structs.replace(self.wanted, rows=rows)
        self._configured, self._state, self._blobs = {}, {}, None

    async def _change(self) -> None:
        """Bring what is wanted into effect in the run that is there."""
        try:
            await self._bring_into_effect()
        except KamailioError:
            self.detach()  # nobody knows what was written: the next attach begins with all of it
            raise

    async def _bring_into_effect(self) -> None:
        wanted = self.wanted
        if wanted.settings is not None and self._source != (wanted.settings, wanted.peers):
            await self._reload_addresses(address_list(wanted.settings))
            self._configured = await self._write(self._configuration(wanted.settings), self._configured)
            if (admission := self._admission(wanted.settings)) is not None:
                await self.admit(admission)
            self._source = (wanted.settings, wanted.peers)
        if self.version != wanted.version or self.rows is not wanted.rows:
            await self._write_table(wanted)
        draining = wanted.draining or self.terminating
        self._state = await self._write(state(wanted, time.monotonic(), draining=draining), self._state)
        self.tick, self.role, self.draining = wanted.tick, wanted.role, draining
        if self._complete and not self.open and await self._knows_locations():
            await self._kamailio.set({("ctl", "ready"): 1})
            self.open = True
        # Last: at a value that it never had, SIP workers read anew what they keep.
        await self._kamailio.set({("ctl", "gen"): str(time.time_ns())})

    def _configuration(self, settings: Settings) -> dict[Key, Value]:
        authentication = settings.authentication
        users = self._users.read(users_in(authentication) if authentication and not authentication.delegated else None)
        credentials = self._credentials.read(credentials_in(settings.gateways))
        return configuration(settings, self.wanted.peers, users, credentials or {})

    @property
    def _complete(self) -> bool:
        """All that Kamailio is told has been told."""
        return self.wanted.settings is not None and self._admitted is not None

    async def _knows_locations(self) -> bool:
        """Whether Kamailio has learned what it is to know of registered clients, from its peers and the database."""
        if self.wanted.settings is None or not learns(self.wanted.settings):
            return True
        (learned,) = await self._kamailio.get([("ctl", "learned")])
        return learned == 1 and (not wanted_secret(self.wanted.settings.registrar) or self._settled(self.last_boot))

    async def _write_table(self, wanted: Wanted) -> None:
        if self._blobs is None:
            raise KamailioError("Kamailio is not up; the table comes into effect when it is")
        if self.rows != wanted.rows or self.version == (0, 0):
            await self._blobs.write([self._of_this_run(row) for row in wanted.rows])
        self.version, self.rows = wanted.version, wanted.rows

    def _of_this_run(self, row: Row) -> Row:
        """A table made for another run of this Kamailio means this one: it must know its own row, not forward to it."""
        name = self._environment.proxy
        return msgspec.structs.replace(row, id=f"{name}~{self.last_boot}") if row.id.startswith(f"{name}~") else row

    async def _write(
        self, entries: Mapping[Key, Value], written: Mapping[Key, Value | None]
    ) -> dict[Key, Value | None]:
        """Write what differs from what was written before."""
        if entries.keys() != written.keys():
            there = {*self._configured, *self._state, *entries}
            self._memory.note(self.last_boot, {key for key in there if key[0] != "ctl"})
        await self._kamailio.set({key: value for key, value in entries.items() if written.get(key) != value})
        await self._kamailio.delete(sorted(written.keys() - entries.keys()))
        return dict(entries)

    async def _reload_addresses(self, text: str) -> None:
        if text == self._addresses:
            return
        path = self._environment.run / "address.list"
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(path)
        deadline = time.monotonic() + RELOAD_SECONDS
        while isinstance((await self._kamailio.batch([("permissions.addressReload", ())]))[0], Refusal):
            if time.monotonic() > deadline:
                raise KamailioError(f"{path}: Kamailio does not load it; its log says why")
            await asyncio.sleep(RELOAD_RETRY_SECONDS)
        self._addresses = text
