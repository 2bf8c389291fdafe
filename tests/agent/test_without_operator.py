"""Peer mode, and a start while no operator is there (DESIGN 2.3)."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from switchboard.link.client import next_id
from switchboard.link.messages import Role, Tick
from switchboard.pool.load import LoadDocument, ProxyLoad
from switchboard.pool.spec import Sharing
from tests.agent.pod import Operator, Pod, in_kamailio, pods, settings
from tests.agent.test_commands import table_in_kamailio
from tests.tools.addresses import CLIENTS, NETWORK, TARGETS
from tests.tools.sip import Phone
from tests.tools.wait import until

PBX = f"{TARGETS}.1"
ALICE = f"{CLIENTS}.1"
QUICK = settings(target=f"sip:{PBX}:5060", sharing=Sharing(stale_after_seconds=1.0))


@pytest.fixture
async def pair() -> AsyncIterator[list[Pod]]:
    """A primary and a member."""
    async with pods(f"{NETWORK}.13", 2) as made:
        yield made


async def command(operator: Operator, pair: list[Pod], role: str) -> None:
    peers = tuple(pod.peer for pod in pair)
    await operator.configure(QUICK, peers=peers)
    await operator.tick(5)
    await operator.role(role, primary=f"sip:{pair[0].address}:5060")


def rooms(pod: Pod) -> dict[str, int]:
    """Proxy → room, by the table in effect."""
    return {line.partition("~")[0]: int(line.split()[1].partition("|")[0]) for line in table_in_kamailio(pod)}


async def test_the_primary_goes_on_alone(pair: list[Pod]) -> None:
    """When the operator is gone the primary reads its peers' reports, computes the table and ticks, and calls go on."""
    primary, member = pair
    async with primary.linked() as one, member.linked() as other:
        await command(one, pair, "primary")
        await command(other, pair, "member")
        await one.table(primary.row(), member.row())
    # the operator is gone
    await until(lambda: "computes table and ticks itself" in primary.log.read_text(), "peer mode")
    await until(lambda: primary.proxy.control.number("ctl", "tick") >= 7, "ticks to go on")
    await until(lambda: member.proxy.control.number("ctl", "tick") >= 7, "the member to see them")
    async with Phone.at(ALICE) as alice, Phone.at(PBX, 5060):
        call = await alice.call(f"sip:bob@{primary.address}:5060")
        assert call.status == 200
        await until(lambda: sum(rooms(primary).values()) == 19, "the table to follow the call")
        await call.bye()
    await until(lambda: rooms(primary) == {primary.name: 10, member.name: 10}, "the place to be free again")
    assert "computes table" not in member.log.read_text()

    async with primary.linked() as one:
        report = await one.hears(lambda report: report.table[1] > 1)
        assert report.table[0] == 1
        await until(lambda: "an operator is linked" in primary.log.read_text(), "peer mode to end")
        ack = await one.link.send(Tick(id=next_id(), term=1, tick=report.tick + 1))
        assert ack.error is None


async def test_a_dead_peer_leaves_the_table(pair: list[Pod]) -> None:
    """In peer mode a proxy whose agent is gone is out of the table after staleAfter, and back when it is back."""
    primary, member = pair
    async with primary.linked() as one, member.linked() as other:
        await command(one, pair, "primary")
        await command(other, pair, "member")
        await one.table(primary.row(), member.row())
    await until(lambda: rooms(primary) == {primary.name: 10, member.name: 10}, "both to be in the table")
    member.stop_agent(9)
    await until(lambda: rooms(primary) == {primary.name: 10}, "the dead one to be out")
    settings_of_pool(member)
    member.start_agent()
    await until(lambda: rooms(primary) == {primary.name: 10, member.name: 10}, "it to be back")


def settings_of_pool(pod: Pod) -> None:
    (pod.etc / "settings" / "settings.json").write_bytes(msgspec.json.encode(QUICK))


def load_of_pool(pair: list[Pod]) -> bytes:
    document = LoadDocument(
        pool="edge",
        version=(3, 40),
        published_at="2026-01-01T00:00:00.000Z",
        primary=pair[0].name,
        threshold=0.8,
        proxies=tuple(
            ProxyLoad(
                name=pod.name,
                id=f"{pod.name}~00000000",
                address=pod.address,
                port=5060,
                advertise=f"{pod.address}:5060",
                state="ready",
                calls=0,
                workload=0.0,
                limit=10,
                sampled_at="",
            )
            for pod in pair
        ),
    )
    return msgspec.json.encode(document)


async def test_a_pool_starts_without_an_operator() -> None:
    """Proxies that start while no operator is there open by the mounted files, and the primary serves calls."""
    async with pods(f"{NETWORK}.13", 2, started=False) as pair:
        for pod in pair:
            settings_of_pool(pod)
            (pod.etc / "load" / "load.json").write_bytes(load_of_pool(pair))
            pod.start()
        primary, member = pair
        await in_kamailio(primary, {("ctl", "role"): "primary", ("ctl", "ready"): 1, ("ctl", "ceiling"): 10})
        await in_kamailio(member, {("ctl", "role"): "member", ("ctl", "primary"): f"sip:{primary.address}:5060"})
        assert rooms(primary) == {primary.name: 10, member.name: 10}
        for pod in pair:
            await in_kamailio(pod, {("ctl", "media"): 1})
        async with Phone.at(ALICE) as alice, Phone.at(PBX, 5060):
            call = await alice.call(f"sip:bob@{primary.address}:5060")
            assert call.status == 200
            await call.bye()
        await until(lambda: f"{member.proxy.id}|" in "".join(table_in_kamailio(primary)), "a table of its own")
        await until(lambda: member.proxy.control.number("ctl", "tick") > 1, "ticks")


async def test_without_any_word_a_proxy_stays_closed() -> None:
    """A proxy that neither an operator nor mounted files have told anything waits, closed and unready."""
    async with pods(f"{NETWORK}.13", 1) as (pod,), pod.linked() as operator:
        report = await operator.hears(lambda report: report.boot)
        assert (report.room, report.role) == (0, "member")
        assert pod.proxy.control.number("ctl", "ready") == 0
        assert not await pod.ready()


async def test_a_peer_commands_nothing(pair: list[Pod]) -> None:
    """An agent of the pool that is linked to another one may not give it a role."""
    primary, member = pair
    async with member.linked(primary.pki.agent()) as peer:
        ack = await peer.link.send(Role(id=next_id(), term=9, role="primary"))
        assert ack.error is not None
        assert "a peer may read reports" in ack.error
    assert member.proxy.control.get("ctl", "role") == "member"
