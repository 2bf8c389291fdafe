import asyncio
import json

import aiohttp
import pytest
from aiohttp import web

from switchboard.errors import LinkLostError, MessageError, ProtocolMismatchError, SwitchboardError
from switchboard.link import client as client_module
from switchboard.link import server as server_module
from switchboard.link.client import next_id
from switchboard.link.codec import encode
from switchboard.link.messages import MAX_MESSAGE_BYTES, Ack, Tick
from switchboard.link.tls import Credentials
from tests.unit.link.ends import AGENT_SAN, Agent, Ear, hello, listening, report, serving


@pytest.mark.parametrize(
    ("frames", "kind", "says"),
    [
        ([b'{"type":"hello","protocol":99,"more":true}'], ProtocolMismatchError, "speaks link protocol 99, this end 1"),
        ([b"{}"], MessageError, "did not begin with a hello"),
        ([encode(report())], MessageError, "did not begin with a hello"),
        ([b'{"type":"hello","protocol":1}'], MessageError, "malformed message from the agent"),
        ([encode(hello()), encode(hello())], MessageError, "a second hello"),
        ([encode(hello()), b'{"type":"report","seq":'], MessageError, "malformed message from the agent"),
        ([encode(hello()), b'{"type":"report","seq":"1"}'], MessageError, "Expected `int`, got `str`"),
        ([b'{"type":"hello","protocol":"\xff"}'], MessageError, "did not begin with a hello"),
        ([encode(hello()), b'{"type":"report","boot":"\xff"}'], MessageError, "malformed message from the agent"),
        ([encode(hello()), b"[" * 100_000], MessageError, "malformed message from the agent"),
        ([encode(hello()), b" " * (MAX_MESSAGE_BYTES + 1)], MessageError, "exceeds limit"),
        ([encode(hello())], LinkLostError, "the connection ended"),
        ([], LinkLostError, "the connection ended"),
    ],
)
async def test_what_an_agent_may_not_say(
    *,
    ear: Ear,
    agent_credentials: Credentials,
    operator_credentials: Credentials,
    frames: list[bytes],
    kind: type[SwitchboardError],
    says: str,
) -> None:
    """An agent that does not keep to the protocol loses its link, for a reason that says what to do."""

    async def speak(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        for frame in frames:
            await socket.send_bytes(frame)
        if kind is LinkLostError:
            return socket
        await socket.receive()
        return socket

    async with (
        serving(speak, agent_credentials.server_context()) as address,
        listening(address, operator_credentials.client_context, ear) as link,
    ):
        await ear.until(lambda: ear.errors)
        assert link.hello is None
    assert isinstance(ear.errors[0], kind)
    assert says in str(ear.errors[0])


async def test_agent_without_a_hello(
    ear: Ear, agent_credentials: Credentials, operator_credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that accepts and then says nothing does not hold its listener up."""
    monkeypatch.setattr(client_module, "DIAL_SECONDS", 0.3)
    stop = asyncio.Event()

    async def mute(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await stop.wait()
        return socket

    async with serving(mute, agent_credentials.server_context()) as address:
        async with listening(address, operator_credentials.client_context, ear):
            await ear.until(lambda: ear.errors)
        stop.set()
    assert "no hello within 0.3 s" in str(ear.errors[0])


async def test_agent_falls_silent(
    ear: Ear, agent_credentials: Credentials, operator_credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link whose other end answers no ping is lost in bounded time, and a sender waiting on it is told."""
    monkeypatch.setattr(client_module, "HEARTBEAT_SECONDS", 0.2)
    stop = asyncio.Event()

    async def freeze(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await socket.send_bytes(encode(hello()))
        await stop.wait()  # pings are answered while it receives, so none is
        return socket

    async with serving(freeze, agent_credentials.server_context()) as address:
        async with listening(address, operator_credentials.client_context, ear) as link:
            await ear.until(lambda: ear.hellos)
            with pytest.raises(LinkLostError, match="the link ended before the answer"):
                await link.send(Tick(id=next_id(), term=1, tick=1))
            await ear.until(lambda: ear.errors)
        stop.set()
    assert "silent for 0.3 s" in str(ear.errors[0])


async def test_late_and_foreign_acks(
    ear: Ear, agent_credentials: Credentials, operator_credentials: Credentials
) -> None:
    """An ack nobody waits for is ignored, and so is a second one."""

    async def answer(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await socket.send_bytes(encode(hello()))
        async for frame in socket:
            number = json.loads(frame.data)["id"]
            for each in (number + 1000, number, number):
                await socket.send_bytes(encode(Ack(id=each)))
        return socket

    async with (
        serving(answer, agent_credentials.server_context()) as address,
        listening(address, operator_credentials.client_context, ear) as link,
    ):
        await ear.until(lambda: ear.hellos)
        for tick in (1, 2):
            ack = await link.send(Tick(id=next_id(), term=1, tick=tick))
            assert ack.error is None
    assert ear.errors == []


async def test_ack_just_before_the_end(
    ear: Ear, agent_credentials: Credentials, operator_credentials: Credentials
) -> None:
    """An ack that came counts, even if the link ends before its sender has had time to look."""

    async def answer_and_err(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await socket.send_bytes(encode(hello()))
        number = json.loads((await socket.receive()).data)["id"]
        transport = request.transport
        assert transport is not None
        frames = [encode(Ack(id=number)), b"nonsense"]
        transport.write(b"".join(bytes([0x82, len(frame)]) + frame for frame in frames))  # one packet, so one read
        await socket.receive()
        return socket

    async with (
        serving(answer_and_err, agent_credentials.server_context()) as address,
        listening(address, operator_credentials.client_context, ear) as link,
    ):
        await ear.until(lambda: ear.hellos)
        ack = await link.send(Tick(id=next_id(), term=1, tick=1))
        assert ack.error is None
        await ear.until(lambda: ear.errors)
        assert "malformed" in str(ear.errors[0])


async def test_sending_on_a_connection_that_just_ended(
    agent: Agent, ear: Ear, operator_credentials: Credentials
) -> None:
    """Whoever sends at the very moment the connection ends is told, by the same error."""
    async with listening(agent.address, operator_credentials.client_context, ear) as link:
        await ear.until(lambda: ear.hellos)
        assert link._socket is not None
        link._socket._writer.transport.close()
        with pytest.raises(LinkLostError, match="closing transport"):
            await link.send(Tick(id=next_id(), term=1, tick=1))
        with pytest.raises(LinkLostError, match="closing transport"):
            await link.request_report()


async def dialled(
    session: aiohttp.ClientSession, agent: Agent, credentials: Credentials
) -> aiohttp.ClientWebSocketResponse:
    """Open a link by hand, to say on it what a LinkClient never would."""
    socket = await session.ws_connect(
        f"wss://{agent.address}/v1/link", ssl=credentials.client_context(), server_hostname=AGENT_SAN, autoping=False
    )
    assert b"hello" in (await socket.receive()).data
    assert b"report" in (await socket.receive()).data
    return socket


@pytest.mark.parametrize(
    ("frame", "code", "says"),
    [
        (b"nonsense", 1007, "malformed message to the agent"),
        (b'{"type":"tick","id":1}', 1007, "malformed message to the agent"),
        (b'{"type":"table","id":1,"pool":"\xff"}', 1007, "malformed message to the agent"),
        (b'{"type":"teapot","id":1}', 1007, "malformed message to the agent"),
        (b" " * (MAX_MESSAGE_BYTES + 1), 1009, ""),
    ],
)
async def test_what_a_listener_may_not_say(
    agent: Agent, operator_credentials: Credentials, frame: bytes, code: int, says: str
) -> None:
    """A malformed or oversized command ends the session with a reason; what was accepted before it is carried out."""
    async with aiohttp.ClientSession() as session:
        socket = await dialled(session, agent, operator_credentials)
        await socket.send_bytes(encode(Tick(id=1, term=1, tick=5)))
        await socket.send_bytes(frame)
        closing = await socket.receive()
        while closing.type is aiohttp.WSMsgType.BINARY:
            closing = await socket.receive()
        assert closing.data == code
        assert says in str(closing.extra)
        await socket.close()
    await asyncio.wait_for(agent.sessions_ended.get(), 5)
    assert agent.commands == [Tick(id=1, term=1, tick=5)]


async def test_listener_that_leaves_while_it_is_let_in(
    agent_credentials: Credentials, ear: Ear, operator_credentials: Credentials
) -> None:
    """A listener that is gone before its session began leaves nothing behind."""
    agent = Agent()

    async def hasty(request: web.Request) -> web.WebSocketResponse:
        assert request.transport is not None
        request.transport.close()
        return await agent.server.handle(request)

    async with (
        serving(hasty, agent_credentials.server_context()) as address,
        listening(address, operator_credentials.client_context, ear),
    ):
        await ear.until(lambda: ear.errors)
    assert not agent.server.has_listener
    assert agent.asked == 0


async def test_newest_session_wins(agent: Agent, operator_credentials: Credentials, ear: Ear) -> None:
    """A newer session of the operator takes the place of the older one, whose other end is told."""
    async with aiohttp.ClientSession() as session:
        old = await dialled(session, agent, operator_credentials)
        async with listening(agent.address, operator_credentials.client_context, ear):
            await ear.until(lambda: ear.reports)
            closing = await old.receive()
            assert (closing.data, closing.extra) == (4001, "a newer session of the operator takes its place")
            await old.close()
            await asyncio.wait_for(agent.sessions_ended.get(), 5)
            assert agent.server.has_operator
            agent.server.publish(report(50))
            await ear.until(lambda: ear.reports[-1].seq == 50)
            assert ear.errors == []


async def test_too_many_commands_in_flight(
    agent: Agent, operator_credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener that does not wait for acks is cut off before it fills the agent's memory."""
    monkeypatch.setattr(server_module, "COMMANDS_MAX", 2)
    agent.gate.clear()
    async with aiohttp.ClientSession() as session:
        socket = await dialled(session, agent, operator_credentials)
        for number in range(1, 9):
            await socket.send_bytes(encode(Tick(id=number, term=1, tick=number)))
        closing = await socket.receive()
        assert closing.data == 1013
        assert "more than 2 commands without waiting for an ack" in str(closing.extra)
        await socket.close()
        agent.gate.set()
        await asyncio.wait_for(agent.sessions_ended.get(), 5)


async def test_listener_that_does_not_read(
    agent: Agent, operator_credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener that stops reading costs the proxy a bounded number of reports, then its session ends."""
    monkeypatch.setattr(server_module, "FRAMES_MAX", 3)
    monkeypatch.setattr(server_module, "CLOSE_SECONDS", 0.2)
    bulky = report(1, received={f"edge-{number:05d}~00000000": {1: 1} for number in range(20_000)})
    async with aiohttp.ClientSession() as session:
        socket = await dialled(session, agent, operator_credentials)
        assert socket._conn is not None
        assert isinstance(socket._conn.transport, asyncio.ReadTransport)
        socket._conn.transport.pause_reading()
        for _ in range(100):
            agent.server.publish(bulky)
            await asyncio.sleep(0)
        await asyncio.wait_for(agent.sessions_ended.get(), 10)
        assert not agent.server.has_listener


async def test_listener_falls_silent(
    agent: Agent, operator_credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener that answers no ping loses its session in bounded time, without a word from the network."""
    monkeypatch.setattr(server_module, "HEARTBEAT_SECONDS", 0.2)
    async with aiohttp.ClientSession() as session:
        socket = await dialled(session, agent, operator_credentials)
        await asyncio.wait_for(agent.sessions_ended.get(), 5)
        assert not agent.server.has_operator
        await socket.close()


async def test_reports_to_a_listener_that_just_left(agent: Agent, operator_credentials: Credentials) -> None:
    """A report that finds the connection gone ends that session and nothing else."""
    async with aiohttp.ClientSession() as session:
        socket = await dialled(session, agent, operator_credentials)
        server_session = agent.server._sessions["operator"]
        server_session._transport.close()
        agent.server.publish(report(2))
        await asyncio.wait_for(agent.sessions_ended.get(), 5)
        await socket.close()
