"""Where clients enter the pool: the primary, and the Service's one endpoint that points at it.

The EndpointSlice itself is the record of who is primary, so an operator that starts anew keeps him. A change of primary
is a `pool.election.Handover`: confirm, switch, demote; each step asks for something again and again until it is seen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import get_args

from switchboard.control.fleet import Fleet
from switchboard.control.kube import Object
from switchboard.control.owned import Id, Owned
from switchboard.control.recorder import Note
from switchboard.pool.election import Handover, Seen, advance, elect
from switchboard.pool.spec import Family, PoolSpec
from switchboard.resources import names
from switchboard.resources.names import PoolRef
from switchboard.resources.services import Primary, build_endpoint_slice

logger = logging.getLogger(__name__)

CONFIRM_SECONDS = 10.0  # a new primary that does not come into office in this time is given up

_WORDS = {"first": "the pool's first", "lost": "the one before is lost", "draining": "the one before drains"}


class Entry:
    def __init__(self, fleet: Fleet, owned: Owned, note: Callable[[Note], None]) -> None:
        self.handover: Handover | None = None
        self.successor: str | None = None  # whom a primary that is well, and has to go, hands over to
        self._began = 0.0
        self._why = ""
        self._fleet, self._owned, self._note = fleet, owned, note

    def current(self, pool: PoolRef, observed: Mapping[Id, Object]) -> str | None:
        """The pod that the Service points at."""
        latest = self._owned.latest(observed)
        for family in get_args(Family):
            for endpoint in (latest.get(("EndpointSlice", names.endpoint_slice(pool, family))) or {}).get(
                "endpoints"
            ) or ():
                return (endpoint.get("targetRef") or {}).get("name")
        return None

    async def settle(self, pool: PoolRef, spec: PoolSpec, observed: Mapping[Id, Object]) -> None:
        """One look at who should be primary, and all steps towards it that can be taken now."""
        entry = self.current(pool, observed) or self._fleet.assigner  # should somebody have emptied the slice
        if self.handover is None:
            self._begin(entry)
        if self.handover is None:
            self._fleet.appoint(entry)
            await self._point_at(pool, spec, observed, entry if self._fleet.member(entry) else None)
            return
        while not self.handover.over:
            await self._act(pool, spec, observed, self.handover)
            after = advance(self.handover, self._seen(pool, observed, self.handover))
            if after == self.handover:
                break
            self.handover = after
        self._end_if_over(self.handover)

    def _begin(self, entry: str | None) -> None:
        election = elect(self._fleet.proxies(), entry)
        new = self.successor if election.cause == "kept" else election.primary
        if new is None or new == entry:
            return
        cause = "draining" if election.cause == "kept" else election.cause
        old = self._fleet.member(entry)
        self.handover = Handover(new=new, old=entry if old is not None and old.up else None)
        self._began, self._why = self._fleet.clock(), _WORDS[cause]
        logger.info("%s: %s is to be primary: %s", self._fleet.pool.name, new, self._why)

    async def _act(self, pool: PoolRef, spec: PoolSpec, observed: Mapping[Id, Object], handover: Handover) -> None:
        if handover.step in ("confirm", "switch"):
            old = self._fleet.member(handover.old)
            answers = old is not None and old.proxy.ready
            self._fleet.appoint(handover.new, self._fleet.uri(handover.old) if answers else None)
        if handover.step == "switch":
            await self._point_at(pool, spec, observed, handover.new)
            self._note(Note("PrimaryElected", f"Proxy {handover.new} is the primary: {self._why}."))
        if handover.step == "demote" and handover.old is not None:
            self._fleet.demote(handover.old)

    def _seen(self, pool: PoolRef, observed: Mapping[Id, Object], handover: Handover) -> Seen:
        new, old = self._fleet.member(handover.new), self._fleet.member(handover.old)
        in_time = handover.step != "confirm" or self._fleet.clock() - self._began < CONFIRM_SECONDS
        return Seen(
            new_alive=new is not None and new.up and new.proxy.alive and in_time,
            new_confirmed=self._fleet.confirmed(handover.new),
            entry=self.current(pool, observed),
            old_alive=old is not None and old.up,
            old_demoted=handover.old is not None and self._fleet.demoted(handover.old),
        )

    def _end_if_over(self, handover: Handover) -> None:
        if handover.over:
            logger.info("%s: change of primary to %s: %s", self._fleet.pool.name, handover.new, handover.step)
            self.handover = None
            if handover.step == "abandoned":
                self._fleet.ask()

    async def _point_at(self, pool: PoolRef, spec: PoolSpec, observed: Mapping[Id, Object], name: str | None) -> None:
        member = self._fleet.member(name)
        primary = None
        if member is not None:
            pod = member.pod
            primary = Primary(name=pod.name, uid=pod.uid, addresses=pod.addresses, node=pod.node)
        latest = self._owned.latest(observed)
        for family in get_args(Family):
            wanted = family in spec.expose.families
            if wanted or ("EndpointSlice", names.endpoint_slice(pool, family)) in latest:
                endpoint = primary if wanted else None
                await self._owned.ensure(build_endpoint_slice(pool, spec.listen, endpoint, family), observed)
