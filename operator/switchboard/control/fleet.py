"""The links to a pool's proxies: their reports in, and what should be in effect at each of them.

A report changes one row of the routing table and never looks at the other proxies. What goes out is the dispatcher's
business (`dispatch`); the fleet only says that something is to be sent. Reconcile tells the fleet what should be
(`follow`, `equip`, `appoint`, `demote`), and is woken when something happened that it decides about.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

import aiohttp
import msgspec

from switchboard.control.configuration import Configuration
from switchboard.control.member import Member
from switchboard.control.metrics import CALLS_LOST
from switchboard.control.news import calls_lost, judge, proxy_gone, urgent
from switchboard.control.observed import PodView
from switchboard.control.recorder import Note
from switchboard.control.routing import RoutingTable
from switchboard.control.succession import Assigned, Succession
from switchboard.errors import ProtocolMismatchError, SwitchboardError
from switchboard.link.client import LinkClient, Target
from switchboard.link.messages import Hello, Report, RoleName, Settings
from switchboard.link.tls import Credentials
from switchboard.pool.credits import Ticker
from switchboard.pool.spec import PoolSpec
from switchboard.pool.table import Proxy, in_order, sip_uri
from switchboard.pool.workload import places
from switchboard.resources.names import PoolRef

logger = logging.getLogger(__name__)

DIAL_PATIENCE_SECONDS = 3.0  # a proxy that cannot be dialled for so long counts as lost
SILENT_PERIODS = 3  # a primary that reports nothing for so many periods is lost, long before TCP would say so


class Fleet:
    """One pool's proxies; touched from the event loop only."""

    def __init__(  # noqa: PLR0913 - whose links, under which term, and whom to tell
        self,
        pool: PoolRef,
        term: int,
        session: aiohttp.ClientSession,
        *,
        wake: Callable[[], None],
        note: Callable[[Note], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pool, self.term = pool, term
        self.clock = clock
        self.members: dict[str, Member] = {}
        self.table = RoutingTable()
        self.ticker = Ticker(tick=1)
        self.assigner: str | None = None  # the pod that is primary, or is about to be
        self.primary: str | None = None  # SIP URI of the one that clients reach, for all the others
        self.previous: str | None = None  # SIP URI of the primary before, in a planned hand-over
        self.configuration = Configuration(term, clock, wake)
        self.version = (term, 0)
        self.table_changed = asyncio.Event()
        self.stirred = asyncio.Event()  # ticker, assigner or members changed
        self.unsynced: asyncio.Queue[Member] = asyncio.Queue()
        self._outgoing: str | None = None  # stays primary until it is demoted
        self._members_changed = False
        self._succession = Succession(lambda: self.ticker.tick)
        self._session = session
        self._credentials: Credentials | None = None
        self._settings: Settings | None = None
        self._followed: tuple[list[PodView], PoolSpec, str] | None = None
        self._spec: PoolSpec | None = None
        self._places = 1
        self._wake, self._note = wake, note

    # what should be

    def follow(self, pods: Iterable[PodView], spec: PoolSpec, template: str) -> None:
        """The pods there are, and what they should be made from; the same again costs nothing."""
        followed = (list(pods), spec, template)
        if followed == self._followed:
            return
        self._followed = followed
        self._spec, self._places = spec, places(spec.capacity, spec.threshold)
        present = {pod.name: pod for pod in followed[0]}
        for name in self.members.keys() - present.keys():
            if (note := proxy_gone(self.members[name].proxy)) is not None:
                self._note(note)
            self._mourn(self.members[name])
            self._forget(name)
        for pod in present.values():
            self._see(pod, spec, template)
        self._send_what_is_missing()

    def equip(self, settings: Settings, credentials: Credentials) -> None:
        """What is to be in effect at all of them, and how they are dialled."""
        self._settings = settings
        if credentials != self._credentials:
            self._credentials = credentials
            self._context = credentials.client_context()
        for member in self.members.values():
            self._reach(member)
        self._send_what_is_missing()

    def _send_what_is_missing(self) -> None:
        if self._settings is None:
            return
        self.configuration.update(self._settings, self.proxies())
        self.rebuild()
        for member in self.members.values():
            self.unsynced.put_nowait(member)
        self.stirred.set()

    def appoint(self, name: str | None, previous: str | None = None) -> None:
        """The pod that is to be the assigner, and primary as soon as tick and table are in effect there."""
        if name == self.assigner:
            return
        old, new = self.member(self.assigner), self.member(name)
        if old is not None and old.proxy.reading is not None:
            self._outgoing = old.proxy.name if old.up else None
            successor, rate = new.proxy.id if new is not None else "", old.assigned_per_second
            if old.up:
                self._succession.overlaps(old.proxy.id, old.assigned, rate, successor)
            else:
                silent = old.silent_seconds(self.clock())
                self._succession.killed(old.proxy.id, old.assigned, rate, silent, successor)
        self.assigner, self.previous = name, previous
        self.ticker = self.ticker.reassigned()
        if new is not None:
            new.in_effect.table = None
            self.unsynced.put_nowait(new)
        self.rebuild()
        self.stirred.set()

    def demote(self, name: str) -> None:
        """The Service points elsewhere: this pod may become a member."""
        if self._outgoing == name:
            self._outgoing = None
        if (member := self.member(name)) is not None:
            self.unsynced.put_nowait(member)

    def wanted_role(self, name: str) -> RoleName | None:
        """None: leave it as it is."""
        if name == self.assigner:
            return "primary"
        return None if name == self._outgoing else "member"

    # what is so

    def member(self, name: str | None) -> Member | None:
        return self.members.get(name) if name is not None else None

    def proxies(self) -> list[Proxy]:
        return in_order(member.proxy for member in self.members.values())

    def confirmed(self, name: str) -> bool:
        """Whether tick, whole table and the role `primary` are in effect at the assigner."""
        member = self.member(name)
        return member is not None and member.up and name == self.assigner and self._confirmed(member)

    def _confirmed(self, member: Member) -> bool:
        effect = member.in_effect
        return effect.role == "primary" and effect.table is not None and self.ticker.acknowledged_at is not None

    def demoted(self, name: str) -> bool:
        member = self.member(name)
        return member is None or not member.up or member.in_effect.role == "member"

    def fingerprints(self) -> list[str]:
        """Of the certificates that the proxies show; "" for one that has not said yet."""
        return [
            member.report.fingerprint if member.report else "" for member in self.members.values() if member.proxy.alive
        ]

    def uri(self, name: str | None) -> str | None:
        """Where a primary that still answers can be reached by its successor."""
        member = self.member(name)
        return sip_uri(member.proxy.address, member.proxy.port) if member is not None and member.up else None

    # the link's Listener

    def connected(self, link: LinkClient, hello: Hello) -> None:
        if (member := self._of(link)) is not None:
            logger.info("%s: linked, boot %s", link.target.proxy, hello.boot)
            member.connected()

    def reported(self, link: LinkClient, report: Report) -> None:
        member = self._of(link)
        if member is None:
            return
        now = self.clock()
        before, assigned = member.proxy, member.assigned
        begins = member.fresh or before.reading is None or before.reading.boot != report.boot
        if not member.reported(report, now):
            return
        proxy = member.proxy
        if report.tick > self.ticker.tick:
            self.ticker = self.ticker.seen(report.tick)
            self.stirred.set()
        if report.table > self.version and report.table[0] == self.term:
            self.version = report.table  # in peer mode the numbers go on within our term
        if before.id != proxy.id:
            self._booted(member, before, assigned, now)
        elif not self.table.update(proxy):
            self._membership()
        if before.reading is None or before.reading.gateways != report.gateways:
            self.table.touch(now)
        if self.table.dirty:
            self.table_changed.set()
        if begins:
            self._begun(member, report)
        self._judge(member, before, report)

    def lost(self, link: LinkClient, error: SwitchboardError) -> None:
        if (member := self._of(link)) is None:
            return
        if str(error) != member.trouble:
            member.trouble = str(error)
            logger.info("%s", error)
        was_up = member.proxy.link == "up"
        if was_up or self.clock() - member.dialled_at > DIAL_PATIENCE_SECONDS:
            self._lost(member, str(error), compatible=not isinstance(error, ProtocolMismatchError))

    # how it is kept

    def close(self) -> None:
        """Closes every link."""
        for name in list(self.members):
            self._forget(name)

    def check_silence(self) -> None:
        """Gives up the primary's link when its reports have stopped; the dial that follows finds out more."""
        member = self.member(self.assigner)
        if member is None or not member.up or member.proxy.reading is None or self._spec is None:
            return
        silent = self.clock() - member.proxy.reading.sampled_at
        if silent > SILENT_PERIODS * max(0.5, self._spec.sharing.period_seconds):
            self._lost(member, f"proxy {member.proxy.name}: no report for {silent:.1f} s")
            self._dial(member)

    def forget_spent(self) -> None:
        """Drops predecessors of whose calls nothing can be on the way any more."""
        if self._succession.forget_spent(one.proxy for one in self.members.values()):
            self.rebuild()

    def rebuild(self) -> None:
        """The table anew, from what is held of every proxy."""
        member = self.member(self.assigner)
        assigner = member.proxy.id or None if member is not None else None
        proxies = [one.proxy for one in self.members.values()]
        self._members_changed = False
        self.table.rebuild(proxies, assigner, self._places, self._succession.predecessors, self.clock())
        if self.table.dirty:
            self.table_changed.set()

    def refresh(self) -> None:
        """Brings the table up to date before it is sent: a thousand proxies that join together are one rebuild."""
        if self._members_changed:
            self.rebuild()

    @property
    def overlapping(self) -> bool:
        """Whether two hold the role of primary at this moment: no tick is sent then."""
        return self._outgoing is not None and (member := self.member(self._outgoing)) is not None and member.up

    def ask(self) -> None:
        """Asks for another reconcile."""
        self._wake()

    def next_version(self) -> tuple[int, int]:
        self.version = (self.term, self.version[1] + 1)
        return self.version

    def role_changed(self, member: Member, role: RoleName) -> None:
        """The agent has acknowledged a role."""
        if role == "primary" and member.proxy.name == self.assigner:
            self._tell_primary(member)
        else:
            self._succession.demoted(member.proxy.id)
        self._wake()

    def _tell_primary(self, primary: Member) -> None:
        uri = sip_uri(primary.proxy.address, primary.proxy.port)
        if uri != self.primary:
            self.primary = uri
            for member in self.members.values():
                self.unsynced.put_nowait(member)

    def _of(self, link: LinkClient) -> Member | None:
        member = self.members.get(link.target.proxy)
        return member if member is not None and member.link is link else None

    def _see(self, pod: PodView, spec: PoolSpec, template: str) -> None:
        member = self.members.get(pod.name)
        if member is None:
            member = self.members[pod.name] = Member(pod, spec, self.clock())
        member.see(pod, template, self.clock())
        if member.proxy.gone:
            self._mourn(member)
        self._reach(member)

    def _reach(self, member: Member) -> None:
        pod = member.pod
        if not (pod.running and pod.address) or self._credentials is None:
            return
        if member.link is None or member.link.target.link != member.agent:  # a node that restarts gives new addresses
            self._dial(member)

    def _dial(self, member: Member) -> None:
        """A link of its own task; one that stands is given up."""
        if member.task is not None:
            member.task.cancel()
        name = member.proxy.name
        target = Target(proxy=name, link=member.agent, pool=self.pool.name, namespace=self.pool.namespace)
        member.dialled_at = self.clock()
        member.link = LinkClient(self._session, lambda: self._context, target, self)
        member.task = asyncio.create_task(member.link.run(), name=f"link {name}")

    def _forget(self, name: str) -> None:
        member = self.members.pop(name)
        if member.task is not None:
            member.task.cancel()
        if name == self.assigner:
            self.appoint(None)

    def _mourn(self, member: Member) -> None:
        """The calls of its last report are lost, and no others; told once."""
        if member.proxy.calls and not member.mourned:
            member.mourned = True
            self._tell_lost(member, member.proxy.calls)

    def _tell_lost(self, member: Member, calls: int) -> None:
        CALLS_LOST.labels(self.pool.namespace, self.pool.name).inc(calls)
        self._note(calls_lost(member, calls))

    def _membership(self) -> None:
        self._members_changed = True
        self.table_changed.set()
        self.stirred.set()
        self._wake()

    def _booted(self, member: Member, before: Proxy, assigned: Assigned, now: float) -> None:
        """Kamailio has started anew: what an assigner gave before is a predecessor's, and calls it lost are told."""
        reading = member.proxy.reading
        if before.calls and reading is not None and reading.media_ok and before.calls > reading.calls:
            self._tell_lost(member, before.calls - reading.calls)
        if member.proxy.name == self.assigner and before.reading is not None:
            silent = now - before.reading.sampled_at
            self._succession.killed(before.id, assigned, member.assigned_per_second, silent, member.proxy.id)
            self.ticker = self.ticker.reassigned()
        self._membership()

    def _begun(self, member: Member, report: Report) -> None:
        """A session, or another run of Kamailio, has begun: see what is in effect there."""
        if member.proxy.name == self.assigner and report.role == "primary":
            self._tell_primary(member)
        self.unsynced.put_nowait(member)
        self.stirred.set()
        self._wake()

    def _judge(self, member: Member, before: Proxy, report: Report) -> None:
        """What reconcile, or people, want to know of at once."""
        if self._succession.reported(member.proxy.id, member.assigned):
            self.rebuild()
        notes = judge(member, self._spec, self.members.values()) if self._spec is not None else []
        for note in notes:
            self._note(note)
        if urgent(member, before, report):
            self._wake()

    def _lost(self, member: Member, why: str, *, compatible: bool = True) -> None:
        news = member.proxy.link != "lost"
        was_up = member.proxy.link == "up"
        member.proxy = msgspec.structs.replace(member.proxy, link="lost", compatible=compatible)
        if not news:
            return
        if was_up and not member.proxy.terminating:
            self._note(Note("ProxyLost", f"Proxy {member.proxy.name}: the link is lost: {why}", "Warning"))
        member.lost_at = self.clock()
        if member.proxy.gone:
            self._mourn(member)
        if member.proxy.reading is not None:
            silent = member.silent_seconds(member.lost_at)
            self._succession.dies_overlapping(member.proxy.id, member.assigned, member.assigned_per_second, silent)
        if member.proxy.name == self.assigner:
            self.ticker = self.ticker.reassigned()
        self._membership()
