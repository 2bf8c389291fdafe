"""Kamailio's control socket: JSON-RPC over UNIX datagrams.

Kamailio serves the socket with one process, one request at a time, in order; so requests of one batch are carried out
in the order given, and a batch is sent without waiting for each answer (a window of 8, the kernel queues 10). Batches
do not mix. A datagram holds less than 64 KB on either side.

When Kamailio restarts, the socket it left behind refuses: that is how a restart is noticed, within one sample.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from switchboard.errors import KamailioError
from switchboard.link.codec import MALFORMED

WINDOW: Final = 8
DATAGRAM_BYTES: Final = 64 * 1024
FULL_SECONDS: Final = 0.002
ANSWER_SECONDS: Final = 2.0  # it answers in 0.1 ms; one that is paused or starved gets this long

Value = int | str
Key = tuple[str, str]  # (htable, key)
Call = tuple[str, tuple[Value, ...]]  # (method, parameters)


class _Error(msgspec.Struct):
    code: int
    message: str


class _Answer(msgspec.Struct):
    id: int
    result: Any = None
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Answer).decode
_encode = msgspec.json.Encoder().encode


class Refusal(msgspec.Struct, frozen=True):
    """Kamailio carried out the call, and says no."""

    code: int
    message: str


class Kamailio:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._lock = asyncio.Lock()
        self._ids = itertools.count(1)
        self._answers: dict[int, _Answer] = {}
        self._arrived: asyncio.Future[None] | None = None

    async def call(self, method: str, *params: Value) -> Any:
        """One RPC; KamailioError when it is refused."""
        (result,) = await self.batch([(method, params)])
        if isinstance(result, Refusal):
            raise KamailioError(f"Kamailio refused {method} {' '.join(map(str, params))}: {result.message}")
        return result

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Carry out `calls` in order; each result is what Kamailio answered, or a Refusal."""
        async with self._lock:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await self._exchange(calls)
            except TimeoutError:
                self._drop()
                raise KamailioError(f"{self._path}: Kamailio does not answer within {ANSWER_SECONDS:g} s") from None
            except OSError as error:
                self._drop()
                raise KamailioError(f"{self._path}: Kamailio does not listen: {error.strerror}") from error

    async def get(self, keys: Iterable[Key]) -> list[Value | None]:
        """Values of htable keys, read in order; None for one that is not there."""
        results = await self.batch([("htable.get", key) for key in keys])
        return [None if isinstance(result, Refusal) else result["item"]["value"] for result in results]

    async def set(self, entries: Mapping[Key, Value]) -> None:
        """Write htable entries, in order."""
        results = await self.batch(
            [
                ("htable.seti" if isinstance(value, int) else "htable.sets", (*key, value))
                for key, value in entries.items()
            ]
        )
        for key, result in zip(entries, results, strict=True):
            if isinstance(result, Refusal):
                # Not the key: of ha1 it is a user's name.
                raise KamailioError(f"Kamailio refused to set an entry of {key[0]}: {result.message}")

    async def delete(self, keys: Iterable[Key]) -> None:
        """Delete htable entries; one that is not there is as good as deleted."""
        await self.batch([("htable.delete", key) for key in keys])

    async def dump(self, table: str) -> dict[str, Value]:
        """A whole htable; only for one that stays small."""
        slots = await self.call("htable.dump", table)
        return {item["name"]: item["value"] for entry in slots or () for item in entry["slot"]}

    def close(self) -> None:
        self._drop()

    async def _exchange(self, calls: Sequence[Call]) -> list[Any]:
        link = self._connected()
        self._answers.clear()
        numbers: list[int] = []
        waiting = 0
        for method, params in calls:
            if waiting == WINDOW:
                await self._answered(numbers)
                waiting = 0
            number = next(self._ids)
            request = _encode({"jsonrpc": "2.0", "method": method, "params": params, "id": number})
            if len(request) > DATAGRAM_BYTES:
                raise KamailioError(f"a request of {len(request)} bytes to Kamailio is too large for one datagram")
            await self._send(link, request)
            numbers.append(number)
            waiting += 1
        await self._answered(numbers)
        return [self._result(number) for number in numbers]

    async def _send(self, link: socket.socket, request: bytes) -> None:
        while True:
            try:
                link.send(request)
            except BlockingIOError:  # its queue still holds what a batch left that was given up
                await asyncio.sleep(FULL_SECONDS)
            else:
                return

    async def _answered(self, numbers: Sequence[int]) -> None:
        """Wait until every request sent so far has its answer."""
        while not self._answers.keys() >= set(numbers[-WINDOW:]):
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived

    def _result(self, number: int) -> Any:
        answer = self._answers[number]
        return Refusal(answer.error.code, answer.error.message) if answer.error else answer.result

    def _connected(self) -> socket.socket:
        if self._socket is None:
            link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                link.bind("")  # an abstract name: answers find it from any mount namespace, and no file is left behind
                link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                link.connect(str(self._path))
            except OSError:
                link.close()
                raise
            asyncio.get_running_loop().add_reader(link, self._read, link)
            self._socket = link
        return self._socket

    def _read(self, link: socket.socket) -> None:
        try:
            while True:
                answer = _decode(link.recv(DATAGRAM_BYTES))
                self._answers[answer.id] = answer
        except BlockingIOError:
            error: Exception | None = None
        except OSError as problem:
            error = problem
        except MALFORMED as problem:
            error = KamailioError(f"{self._path}: Kamailio answered what is not JSON-RPC: {problem}")
        if self._arrived is not None and not self._arrived.done():
            if error is not None:
                self._arrived.set_exception(error)
            else:
                self._arrived.set_result(None)

    def _drop(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
