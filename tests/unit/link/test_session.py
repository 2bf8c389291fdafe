import asyncio
import random
from asyncio import sslproto
from typing import Any

import pytest

from switchboard.errors import KamailioError, LinkLostError, MessageError, StaleTermError
from switchboard.link import client as client_module
from switchboard.link.client import next_id
from switchboard.link.codec import encode
from switchboard.link.messages import Drain, Table, Tick
from switchboard.link.tls import Credentials
from switchboard.pool.table import Row
from tests.unit.link.ends import Agent, Ear, hello, listening, report, serving


async def test_agent_speaks_first(agent: Agent, ear: Ear, operator_credentials: Credentials) -> None:
    """A listener learns who the proxy is, and its whole workload, without asking."""
    async with listening(agent.address, operator_credentials.client_context, ear) as link:
        await ear.until(lambda: ear.reports)
        assert link.hello == hello()
        assert ear.hellos == [hello()]
        assert ear.reports == [report(1, reason="request")]
        assert agent.server.has_operator


async def test_reports_arrive_in_order(agent: Agent, ear: Ear, operator_credentials: Credentials) -> None:
    """Every report reaches the listener, in the order it was made."""
    async with listening(agent.address, operator_credentials.client_context, ear):
        await ear.until(lambda: ear.reports)
        sent = [report(seq, received={"edge-b~1": {4: seq}}) for seq in range(2, 200)]
        for each in sent:
            agent.server.publish(each)
        await ear.until(lambda: len(ear.reports) == 199)
        assert ear.reports[1:] == sent


async def test_command_acknowledged_in_effect(agent: Agent, ear: Ear, operator_credentials: Credentials) -> None:
    """An ack comes once the command is in effect, not before."""
    async with listening(agent.address, operator_credentials.client_context, ear) as link:
        await ear.until(lambda: ear.hellos)
        agent.gate.clear()
        command = Tick(id=next_id(), term=3, tick=8)
        sending = asyncio.create_task(link.send(command, encode(command)))
        await link.request_report()
        await ear.until(lambda: len(ear.reports) == 2)  # the agent goes on while the command is under way
        assert agent.commands == [command]
        assert not sending.done()
        agent.gate.set()
        ack = await sending
        assert (ack.id, ack.error, ack.stale) == (command.id, None, False)


@pytest.mark.parametrize(
    ("refusal", "stale"), [(KamailioError("no answer"), False), (StaleTermError("term 2 is over, it is 3 now"), True)]
)
async def test_command_not_in_effect(
    agent: Agent, ear: Ear, operator_credentials: Credentials, refusal: Exception, *, stale: bool
) -> None:
    """A command that failed says why, and whether its sender's term is over."""
    agent.refusal = refusal
    async with listening(agent.address, operator_credentials.client_context, ear) as link:
        await ear.until(lambda: ear.hellos)
        ack = await link.send(Drain(id=next_id(), term=2, draining=True))
        assert ack.error == str(refusal)
        assert ack.stale is stale


async def test_command_whose_ack_nobody_waits_for(agent: Agent, ear: Ear, operator_credentials: Credentials) -> None:
    """A posted command is carried out like any other; its ack is dropped."""
    async with listening(agent.address, operator_credentials.client_context, ear) as link:
        await ear.until(lambda: ear.hellos)
        posted = Tick(id=next_id(), term=1, tick=1)
        await link.post(encode(posted))
        sent = Tick(id=next_id(), term=1, tick=2)
        await link.send(sent)
        assert agent.commands == [posted, sent]
        assert ear.errors == []


async def test_without_link_nothing_can_be_sent(ear: Ear, operator_credentials: Credentials) -> None:
    """Whoever sends while there is no link is told so at once."""
    async with listening("127.0.0.1:1", operator_credentials.client_context, ear) as link:
        await ear.until(lambda: ear.errors)
        with pytest.raises(LinkLostError, match=r"proxy edge-aaaaa at 127\.0\.0\.1:1: there is no link"):
            await link.send(Tick(id=next_id(), term=1, tick=1))
        with pytest.raises(LinkLostError, match="there is no link"):
            await link.request_report()
        assert "cannot dial its agent" in str(ear.errors[0])


async def test_no_ack_in_time(agent: Agent, ear: Ear, operator_credentials: Credentials) -> None:
    """A sender does not wait for ever; an ack that comes too late harms nothing."""
    agent.gate.clear()
    async with listening(agent.address, operator_credentials.client_context, ear) as link:
        await ear.until(lambda: ear.hellos)
        with pytest.raises(LinkLostError, match=r"no answer to `tick` within 0\.01 s"):
            await link.send(Tick(id=next_id(), term=1, tick=1), timeout_seconds=0.01)
        agent.gate.set()
        ack = await link.send(Tick(id=next_id(), term=1, tick=2))
        assert ack.error is None


async def test_accepted_commands_are_carried_out_though_the_listener_left(
    agent: Agent, ear: Ear, operator_credentials: Credentials
) -> None:
    """Nothing that was accepted is lost with the link; its sender learns that nobody knows."""
    agent.gate.clear()
    async with listening(agent.address, operator_credentials.client_context, ear) as link:
        await ear.until(lambda: ear.hellos)
        sending = [asyncio.create_task(link.send(Tick(id=next_id(), term=1, tick=tick))) for tick in (1, 2)]
        await link.request_report()
        await ear.until(lambda: len(ear.reports) == 2)
    for sent in sending:
        with pytest.raises(LinkLostError, match="the link ended before the answer"):
            await sent
    agent.gate.set()
    await asyncio.wait_for(agent.sessions_ended.get(), 5)
    assert [command.tick for command in agent.commands if isinstance(command, Tick)] == [1, 2]
    assert not agent.server.has_listener


async def test_large_command_is_written_in_pieces(
    agent: Agent, ear: Ear, operator_credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It arrives whole, and no connection is given more at once than it may keep room for from then on."""
    sizes: list[int] = []
    write = sslproto._SSLProtocolTransport.write

    def recorded(transport: Any, data: bytes) -> None:
        sizes.append(len(data))
        write(transport, data)

    monkeypatch.setattr(sslproto._SSLProtocolTransport, "write", recorded)
    rows = tuple(Row(f"edge-{n}~1", "sip:198.18.0.1:5060", "198.18.0.1:5060", n, 0, 0, 1) for n in range(1000))
    async with listening(agent.address, operator_credentials.client_context, ear) as link:
        await ear.until(lambda: ear.hellos)
        command = Table(id=next_id(), pool="edge", version=(1, 1), rows=rows)
        assert (await link.send(command)).error is None
    assert agent.commands == [command]
    assert sum(sizes) > len(encode(command))
    assert max(sizes) <= client_module.PIECE_BYTES


async def test_oversized_command_is_not_sent(
    agent: Agent, ear: Ear, operator_credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message above the limit is refused where it is made, and the link stays."""
    monkeypatch.setattr("switchboard.link.codec.MAX_MESSAGE_BYTES", 10)
    async with listening(agent.address, operator_credentials.client_context, ear) as link:
        await ear.until(lambda: ear.errors or ear.hellos)
        with pytest.raises(MessageError, match="above the link's limit of 10"):
            encode(Tick(id=next_id(), term=1, tick=1))
        assert link.hello is None  # the agent cannot say hello either


async def test_redials_when_the_agent_is_back(
    agent_credentials: Credentials, ear: Ear, operator_credentials: Credentials
) -> None:
    """A link that ended comes up again by itself, and says why it ended."""
    first, second = Agent(), Agent()
    second.greeting = hello(boot="11111111")
    async with serving(first.server.handle, agent_credentials.server_context()) as address:
        port = int(address.rpartition(":")[2])
        async with listening(address, operator_credentials.client_context, ear):
            await ear.until(lambda: ear.hellos)
            await first.server.close()
            await ear.until(lambda: ear.errors)
            assert "its agent closed the link: the agent stops (1001)" in str(ear.errors[0])
            await ear.until(lambda: len(ear.hellos) == 2)  # the same agent is dialled again
        await first.server.close()
    async with (
        serving(second.server.handle, agent_credentials.server_context(), port) as address,
        listening(address, operator_credentials.client_context, ear) as link,
    ):
        await ear.until(lambda: len(ear.hellos) == 3)
        assert link.hello == second.greeting


async def test_pause_grows_to_its_cap(
    ear: Ear, operator_credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead proxy is dialled less and less often, with jitter, but never given up."""
    monkeypatch.setattr(client_module, "PAUSE_MIN_SECONDS", 0.001)
    monkeypatch.setattr(client_module, "PAUSE_MAX_SECONDS", 0.004)
    pauses: list[tuple[float, float]] = []

    def jitter(low: float, high: float) -> float:
        pauses.append((low, high))
        return high

    monkeypatch.setattr(random, "uniform", jitter)
    async with listening("127.0.0.1:1", operator_credentials.client_context, ear):
        await ear.until(lambda: len(ear.errors) >= 5)
    assert set(pauses) == {(0.5, 1)}
