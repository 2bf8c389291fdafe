"""The operator's fleet and dispatcher against agents on loopback: real links, no proxies behind them."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import msgspec

from switchboard.control.targets import Targets
from switchboard.errors import KamailioError
from switchboard.link.messages import Configure, Drain, Role, Table, Tick
from switchboard.pool.spec import HealthChecks, Route
from switchboard.pool.table import Row
from tests.unit.control.conftest import Operator
from tests.unit.control.simulated import SPEC, SimulatedAgent, pod


def table_of(agent: SimulatedAgent) -> dict[str, Row]:
    """What the agent's routing table is, after all it was sent."""
    rows: dict[str, Row] = {}
    for command in agent.commands:
        if isinstance(command, Table):
            rows = rows if command.base is not None else {}
            rows |= {row.id: row for row in command.rows}
    return rows


async def linked(operator: Operator, agents: list[SimulatedAgent]) -> None:
    """All agents followed and linked, the first one primary."""
    operator.follow([agent.pod for agent in agents])
    await operator.until(lambda: all(member.up for member in operator.fleet.members.values()))
    operator.fleet.appoint(agents[0].pod.name)
    await operator.until(lambda: operator.fleet.confirmed(agents[0].pod.name))


async def test_a_primary_gets_tick_and_table_before_the_role(operator: Operator, agents: list[SimulatedAgent]) -> None:
    """A proxy is primary only once settings, tick and the whole table are in effect there."""
    await linked(operator, agents)
    kinds = agents[0].kinds()
    assert kinds[0] == "Configure"
    assert max(kinds.index("Tick"), kinds.index("Table")) < kinds.index("Role")
    first_table = agents[0].of(Table)[0]
    assert isinstance(first_table, Table)
    assert first_table.base is None
    assert [row.id for row in first_table.rows] == [agent.id for agent in agents]


async def test_members_learn_who_is_primary(operator: Operator, agents: list[SimulatedAgent]) -> None:
    """Every other proxy is told the primary's address, to pass on new calls that reach it by mistake."""
    await linked(operator, agents)
    uri = f"sip:{agents[0].pod.address}:5060"

    def told(agent: SimulatedAgent) -> bool:
        return any(isinstance(role, Role) and role.primary == uri and role.role == "member" for role in agent.of(Role))

    for agent in agents[1:]:
        await agent.until(partial(told, agent))


async def test_a_proxy_is_dialled_at_its_new_address(operator: Operator, agents: list[SimulatedAgent]) -> None:
    """A pod that its node restarted keeps its name and has another address: the link follows it."""
    now = agents[0].pod
    operator.follow([msgspec.structs.replace(now, address="127.82.0.99")])
    operator.follow([now])
    await operator.until(lambda: operator.fleet.members[now.name].up)


async def test_a_change_of_load_reaches_the_primary_at_once(operator: Operator, agents: list[SimulatedAgent]) -> None:
    """A report changes one row, and only that row goes to the primary, in well under the goal of 100 ms."""
    primary, other, _ = agents
    await linked(operator, agents)
    before = len(primary.of(Table))
    began = time.monotonic()
    other.report(room=41, calls=39, workload=0.39, reason="change")
    await primary.until(lambda: table_of(primary)[other.id].room == 41)
    assert time.monotonic() - began < 0.1
    changed = primary.of(Table)[before]
    assert isinstance(changed, Table)
    assert changed.base is not None
    assert [row.id for row in changed.rows] == [other.id]


async def test_a_burst_of_reports_is_one_push(operator: Operator, agents: list[SimulatedAgent]) -> None:
    """Reports that come together go to the primary together."""
    primary = agents[0]
    await linked(operator, agents)
    before = len(primary.of(Table))
    for room in range(70, 50, -1):
        for agent in agents:
            agent.report(room=room)
    await primary.until(lambda: all(table_of(primary)[agent.id].room == 51 for agent in agents))
    assert len(primary.of(Table)) - before <= 3


async def test_ticks_go_to_everybody(operator: Operator, agents: list[SimulatedAgent]) -> None:
    """Each tick reaches every proxy; the next comes two seconds after the primary has acknowledged the one before."""
    await linked(operator, agents)

    def ticks(agent: SimulatedAgent) -> bool:
        return {tick.tick for tick in agent.of(Tick) if isinstance(tick, Tick)} >= {1, 2, 3}

    for agent in agents:
        await agent.until(partial(ticks, agent))


async def test_members_hold_a_short_list_that_counts_nothing_of_the_primary(
    operator: Operator, agents: list[SimulatedAgent]
) -> None:
    """The candidates that a member holds carry no `received`: those calls are the primary's, not its own."""
    primary, member, _ = agents
    await linked(operator, agents)
    member.report(received={primary.id: {1: 7}})
    await primary.until(lambda: table_of(primary)[member.id].received == 7)
    await member.until(lambda: any(isinstance(table, Table) and table.version > (5, 3) for table in member.of(Table)))
    assert {row.received for row in table_of(member).values()} == {0}


async def test_a_member_that_assigns_is_told_what_of_its_own_calls_arrived(
    operator: Operator, agents: list[SimulatedAgent]
) -> None:
    """A member that had to send calls on gets rows that count those calls, so that its credits do not run out."""
    primary, member, other = agents
    await linked(operator, agents)
    other.report(received={primary.id: {1: 7}, member.id: {1: 2}})
    member.report(assigned={other.id: {1: 3}}, assigned_total=3)
    await member.until(lambda: table_of(member).get(other.id) and table_of(member)[other.id].received == 2)


async def test_draining_and_taking_back(operator: Operator, agents: list[SimulatedAgent]) -> None:
    """A pod that is to drain is told so and leaves the table; taken back, it is told so and returns."""
    primary, drained, other = agents
    await linked(operator, agents)
    since = pod(2).created
    operator.follow([primary.pod, pod(2, draining_since=since), other.pod])
    await drained.until(lambda: [drain.draining for drain in drained.of(Drain) if isinstance(drain, Drain)] == [True])
    await primary.until(lambda: drained.id not in table_of(primary))
    drained.report()
    operator.follow([primary.pod, drained.pod, other.pod])
    await drained.until(lambda: [one.draining for one in drained.of(Drain) if isinstance(one, Drain)] == [True, False])
    drained.report()
    await primary.until(lambda: drained.id in table_of(primary))


async def test_a_killed_primary_is_noticed_at_once(operator: Operator, agents: list[SimulatedAgent]) -> None:
    """When a proxy's agent dies, its link ends and reconcile is woken within milliseconds."""
    await linked(operator, agents)
    began = time.monotonic()
    await agents[0].stop()
    await operator.until(lambda: operator.fleet.members[agents[0].pod.name].proxy.link == "lost")
    assert time.monotonic() - began < 0.5
    assert "ProxyLost" in operator.reasons()


async def test_a_silent_primary_is_given_up(operator: Operator, agents: list[SimulatedAgent]) -> None:
    """A primary whose connection stands but whose reports have stopped for three periods is lost."""
    await linked(operator, agents)
    agents[0].fall_silent()
    began = time.monotonic()
    await operator.until(lambda: operator.fleet.members[agents[0].pod.name].proxy.link == "lost", seconds=5)
    assert 1 < time.monotonic() - began < 3


async def test_hand_over_keeps_the_old_primary_until_it_is_demoted(
    operator: Operator, agents: list[SimulatedAgent]
) -> None:
    """In a planned hand-over the old primary keeps its role until the Service points at the new one."""
    old, new, _ = agents
    await linked(operator, agents)
    operator.fleet.appoint(new.pod.name, operator.fleet.uri(old.pod.name))
    await operator.until(lambda: operator.fleet.confirmed(new.pod.name))
    role = new.of(Role)[-1]
    assert isinstance(role, Role)
    assert (role.role, role.previous) == ("primary", f"sip:{old.pod.address}:5060")
    assert [one.role for one in old.of(Role) if isinstance(one, Role)] == ["primary"]
    operator.fleet.demote(old.pod.name)
    await operator.until(lambda: operator.fleet.demoted(old.pod.name))
    last = old.of(Role)[-1]
    assert isinstance(last, Role)
    assert (last.role, last.primary) == ("member", f"sip:{new.pod.address}:5060")


async def test_a_new_primary_leaves_room_for_what_the_old_one_assigned(
    operator: Operator, agents: list[SimulatedAgent]
) -> None:
    """Calls that the old primary assigned and nobody has reported yet are taken off the new one's rows."""
    old, new, other = agents
    await linked(operator, agents)
    old.report(assigned={other.id: {1: 5}}, assigned_total=5)
    await old.until(lambda: old.of(Table))
    other.report(received={old.id: {1: 2}}, room=60)
    await old.until(lambda: table_of(old)[other.id].room == 60)
    await old.stop()
    await operator.until(lambda: operator.fleet.members[old.pod.name].proxy.link == "lost")
    operator.fleet.appoint(new.pod.name)
    await operator.until(lambda: operator.fleet.confirmed(new.pod.name))
    assert table_of(new)[other.id].room <= 60 - 3


async def test_a_link_that_comes_back_gets_everything_again(operator: Operator, agents: list[SimulatedAgent]) -> None:
    """After an agent's restart its proxy is brought to what it should be, without anybody asking for it."""
    primary, other, _ = agents
    await linked(operator, agents)
    await other.stop()
    await operator.until(lambda: operator.fleet.members[other.pod.name].proxy.link == "lost")
    other.commands.clear()
    await other.start()
    await other.until(lambda: other.of(Configure) and other.of(Role) and other.of(Tick))
    other.report(room=12)
    await primary.until(lambda: table_of(primary)[other.id].room == 12)


async def test_a_restarted_kamailio_of_the_primary_is_a_new_assigner(
    operator: Operator, agents: list[SimulatedAgent]
) -> None:
    """After a restart the primary's counts start anew: it gets a whole table under its new name, and the role again."""
    primary = agents[0]
    await linked(operator, agents)
    before = len(primary.commands)
    primary.report(boot="b0000002", role="member", table=(0, 0))
    await primary.until(lambda: any(isinstance(command, Role) for command in primary.commands[before:]))
    assert primary.id in table_of(primary)
    kinds = [type(command) for command in primary.commands[before:]]
    assert kinds.index(Configure) < kinds.index(Tick)
    assert kinds.index(Table) < kinds.index(Role)


async def test_a_refused_command_is_said_once_and_tried_again(operator: Operator, agents: list[SimulatedAgent]) -> None:
    """What does not come into effect is sent again, and does as soon as it can."""
    agents[1].refusal = KamailioError("Kamailio does not answer")
    operator.follow([agent.pod for agent in agents])
    await operator.until(lambda: all(member.up for member in operator.fleet.members.values()))
    await agents[0].until(lambda: agents[0].of(Configure))
    agents[1].refusal = None
    await agents[1].until(lambda: agents[1].of(Configure))


async def test_saturation_is_told_once(operator: Operator, agents: list[SimulatedAgent]) -> None:
    """A proxy at the threshold is one Event, and one more when it has clearly recovered: no flapping."""
    await linked(operator, agents)
    member = operator.fleet.members[agents[1].pod.name]
    for room, workload in ((0, 0.8), (1, 0.79), (0, 0.8), (1, 0.79), (5, 0.75)):
        agents[1].report(room=room, workload=workload)
    await operator.until(lambda: member.proxy.reading is not None and member.proxy.reading.room == 5)
    assert [reason for reason in operator.reasons() if reason != "ProxyJoined"] == ["ProxySaturated", "ProxyRecovered"]


async def test_closing_ends_every_link(operator: Operator, agents: list[SimulatedAgent]) -> None:
    """An operator that loses the Lease closes its links, so that nothing of it acts any more."""
    await linked(operator, agents)
    tasks = [member.task for member in operator.fleet.members.values() if member.task is not None]
    operator.fleet.close()
    await asyncio.wait(tasks, timeout=5)
    assert all(task.done() for task in tasks)
    assert operator.fleet.members == {}


async def test_lost_calls_are_those_of_the_last_report(operator: Operator, agents: list[SimulatedAgent]) -> None:
    """A pod that vanishes takes the calls of its last report with it; one that has drained takes none."""
    primary, busy, _idle = agents
    await linked(operator, agents)
    member = operator.fleet.members[busy.pod.name]
    busy.report(calls=7, reason="change")
    await operator.until(lambda: member.proxy.calls == 7)
    operator.follow([primary.pod])
    assert [note.message for note in operator.notes if note.reason == "CallsLost"] == [
        f"7 calls ended with proxy {busy.pod.name} on node local."
    ]


async def test_calls_of_a_dead_node_are_told_once(operator: Operator, agents: list[SimulatedAgent]) -> None:
    """A pod that the cluster has given up, and whose link is lost, is mourned then and not again."""
    primary, busy, idle = agents
    await linked(operator, agents)
    member = operator.fleet.members[busy.pod.name]
    busy.report(calls=1, reason="change")
    await operator.until(lambda: member.proxy.calls == 1)
    await busy.stop()
    await operator.until(lambda: member.proxy.link == "lost")
    assert "CallsLost" not in operator.reasons()
    given_up = pod(2, ready=False, deleting_since=busy.pod.created, grace_seconds=90000)
    operator.follow([primary.pod, given_up, idle.pod])
    operator.follow([primary.pod, idle.pod])
    assert operator.reasons().count("CallsLost") == 1


async def test_a_target_that_no_proxy_reaches_is_told_once(operator: Operator, agents: list[SimulatedAgent]) -> None:
    """And when it answers one of them again. Proxies that have not checked yet say nothing; one whose route has
    gone, and checks that are turned off, are forgotten in silence.
    """
    dead = ("sip:192.0.2.1", "sip:192.0.2.2")
    spec = msgspec.structs.replace(SPEC, routes=tuple(Route(name=target, targets=(target,)) for target in dead))
    targets = Targets(operator.notes.append)

    async def reported(*words: tuple[str, ...] | None) -> list[tuple[str, str]]:
        """What is noted once each agent has said that these are dead."""
        for agent, word in zip(agents, words, strict=True):
            agent.report(dead_targets=word)
        members = operator.fleet.members.values()
        await operator.until(lambda: [member.dead_targets for member in members] == list(words))
        operator.notes.clear()
        targets.look(members, spec)
        targets.look(members, spec)
        return [(note.reason, note.message) for note in operator.notes]

    await linked(operator, agents)
    assert await reported(None, None, None) == []
    assert await reported(dead, dead[:1], ()) == []
    noted = await reported(dead, None, dead[:1])
    assert [reason for reason, _ in noted] == ["TargetUnreachable"]
    assert f"No proxy gets an answer from target {dead[0]};" in noted[0][1]
    assert targets.dead == dead[:1]
    assert await reported(None, None, None) == []
    assert await reported(dead, None, ()) == [("TargetReachable", f"Target {dead[0]} answers again.")]
    await reported(dead, dead, dead)
    spec = msgspec.structs.replace(spec, routes=spec.routes[:1])
    assert await reported(dead[:1], dead[:1], dead[:1]) == []
    spec = msgspec.structs.replace(spec, health_checks=HealthChecks(period_seconds=0))
    assert await reported(None, None, None) == []
    assert not targets.dead
