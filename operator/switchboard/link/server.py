"""The agent's end of a link: lets listeners in, hands them reports, and has their commands carried out.

One session for each kind of listener: the operator, who may command, and a peer, the primary's agent in peer mode, who
may read, and send ticks while no operator is linked: without ticks the places of calls that never arrived would stay
taken. A newer session of a kind takes the place of the older one, whose other end may be gone without a word.

What a listener was told to wait for is done even if it goes away: commands that were accepted before its session ended
are carried out, and only their acks are lost. Commands are carried out one at a time, in the order they came.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from aiohttp import WSCloseCode, WSMsgType, web

from switchboard.errors import MessageError, StaleTermError, SwitchboardError
from switchboard.link.codec import decode_to_agent, encode
from switchboard.link.messages import MAX_MESSAGE_BYTES, Ack, Command, Hello, Report, RequestReport, Tick
from switchboard.link.tls import Identity, RoleOnLink, identify

HEARTBEAT_SECONDS = 2.0  # as in link/client
COMMANDS_MAX = 64  # waiting; an operator waits for acks long before that
CLOSE_SECONDS = 2.0
FRAMES_MAX = 256  # unsent; two minutes of reports to a listener that does not read
CODE_SUPERSEDED = 4001
PEER_REFUSED = "refused: a peer may read reports, and send ticks while no operator is linked"

_log = logging.getLogger(__name__)


class Proxy(Protocol):
    """What the link serves."""

    def hello(self) -> Hello: ...

    async def carry_out(self, command: Command) -> None:
        """Return once `command` is in effect; raise a SwitchboardError when it is not."""

    def report_to(self, session: Session) -> None:
        """Send `session` a whole report, with reason `request`."""

    def ended(self, session: Session) -> None: ...


class Session:
    """One listener's connection, from after its handshake to its end."""

    def __init__(
        self,
        who: Identity,
        socket: web.WebSocketResponse,
        transport: asyncio.WriteTransport,
        proxy: Proxy,
        may: Callable[[Command], bool],
    ) -> None:
        self.who = who
        self._may = may
        self._socket = socket
        self._transport = transport
        self._proxy = proxy
        self._frames: asyncio.Queue[bytes] = asyncio.Queue(FRAMES_MAX)
        self._commands: asyncio.Queue[Command | None] = asyncio.Queue(COMMANDS_MAX)
        self._closing: asyncio.Task[None] | None = None

    def send(self, frame: bytes) -> None:
        """Queue a frame; a listener that does not read is cut off, so that it costs this proxy nothing."""
        try:
            self._frames.put_nowait(frame)
        except asyncio.QueueFull:
            self.close(WSCloseCode.TRY_AGAIN_LATER, "the listener reads too slowly")

    def close(self, code: int, reason: str) -> None:
        """End the session for `reason`, which the listener is told."""
        if self._closing is None:
            _log.info("link of the %s closed: %s", self.who.role, reason)
            self._closing = asyncio.create_task(self._close(code, reason))

    async def _close(self, code: int, reason: str) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._socket.close(code=code, message=reason.encode()[:120]), CLOSE_SECONDS)
        if self._socket.close_code == WSCloseCode.ABNORMAL_CLOSURE:
            self._transport.abort()  # it does not read; closing politely would wait until it does

    async def run(self) -> None:
        """Serve the listener until either end closes."""
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._write())
            worker = tasks.create_task(self._carry_out())
            await self._read()
            await self._commands.put(None)
            await worker
            writer.cancel()
        if self._closing is not None:
            await self._closing

    async def _read(self) -> None:
        while True:
            frame = await self._socket.receive()
            if frame.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                if isinstance(frame.data, Exception):  # too large, or silent for too long
                    _log.warning("link of the %s: %s", self.who.role, frame.data)
                return
            try:
                message = decode_to_agent(frame.data)
            except MessageError as error:
                _log.warning("link of the %s: %s", self.who.role, error)
                self.close(WSCloseCode.INVALID_TEXT, str(error))
                return
            if isinstance(message, RequestReport):
                self._proxy.report_to(self)
            elif not self._may(message):
                self.send(encode(Ack(id=message.id, error=PEER_REFUSED)))
            elif self._commands.full():
                self.close(WSCloseCode.TRY_AGAIN_LATER, f"more than {COMMANDS_MAX} commands without waiting for an ack")
                return
            else:
                self._commands.put_nowait(message)

    async def _carry_out(self) -> None:
        while (command := await self._commands.get()) is not None:
            try:
                await self._proxy.carry_out(command)
            except SwitchboardError as error:
                _log.warning("%s not in effect: %s", type(command).__name__.lower(), error)
                ack = Ack(id=command.id, error=str(error), stale=isinstance(error, StaleTermError))
            else:
                ack = Ack(id=command.id)
            self.send(encode(ack))

    async def _write(self) -> None:
        while True:
            frame = await self._frames.get()
            try:
                await self._socket.send_bytes(frame)
            except ConnectionError:
                return  # reading ends as well, and says so


class LinkServer:
    """All sessions of one agent; `handle` is the handler of `/v1/link`."""

    def __init__(self, pool: str, namespace: str, proxy: Proxy) -> None:
        self._allowed = {role: Identity(role, pool, namespace) for role in ("operator", "agent")}
        self._proxy = proxy
        self._sessions: dict[RoleOnLink, Session] = {}

    @property
    def has_operator(self) -> bool:
        return "operator" in self._sessions

    @property
    def has_listener(self) -> bool:
        return bool(self._sessions)

    def publish(self, report: Report) -> None:
        """Send a report to every listener."""
        frame = encode(report)
        for session in self._sessions.values():
            session.send(frame)

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        who = self.require_member(request)
        transport = request.transport
        if transport is None:  # pragma: no cover  # gone between its handshake and now
            raise web.HTTPBadRequest
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS, compress=False, max_msg_size=MAX_MESSAGE_BYTES, timeout=CLOSE_SECONDS / 2
        )
        try:
            await socket.prepare(request)
        except ConnectionError:  # gone already
            return socket
        session = Session(who, socket, transport, self._proxy, partial(self._may, who))
        session.send(encode(self._proxy.hello()))
        previous = self._sessions.get(who.role)
        self._sessions[who.role] = session
        if previous is not None:
            previous.close(CODE_SUPERSEDED, f"a newer session of the {who.role} takes its place")
        self._proxy.report_to(session)
        try:
            await session.run()
        finally:
            if self._sessions.get(who.role) is session:
                del self._sessions[who.role]
            self._proxy.ended(session)
        return socket

    def require_member(self, request: web.Request) -> Identity:
        """Let in whoever has a certificate of this pool; answer 403 to others, saying why."""
        transport = request.transport
        who = identify(transport.get_extra_info("peercert")) if transport else None
        if who is None:
            raise web.HTTPForbidden(text="a client certificate of this pool is required\n")
        if who != self._allowed[who.role]:
            mine = self._allowed[who.role]
            raise web.HTTPForbidden(text=f"the client certificate is for {who.san}; {mine.san} is required\n")
        return who

    def _may(self, who: Identity, command: Command) -> bool:
        return who.role == "operator" or (isinstance(command, Tick) and not self.has_operator)

    async def close(self) -> None:
        """End every session, so that a listener sees at once that this agent stops."""
        for session in self._sessions.values():
            session.close(WSCloseCode.GOING_AWAY, "the agent stops")
