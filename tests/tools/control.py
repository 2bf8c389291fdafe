"""Kamailio's control socket from a test: JSON-RPC over a UNIX datagram socket, one request at a time."""

from __future__ import annotations

import itertools
import json
import socket
from pathlib import Path
from typing import Any

REPLY_SECONDS = 3
BUFFER_BYTES = 1 << 20

_serial = itertools.count(1)


class ControlError(Exception):
    """Kamailio refused a command; `code` is its own."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Control:
    """A connection to one Kamailio that answers. Blocking; the agent's client is the same for an event loop."""

    def __init__(self, run: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(REPLY_SECONDS)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self._socket.bind("")  # an abstract name, which answers find from any mount namespace
        try:
            self._socket.connect(str(run / "kamailio.sock"))
            self("core.version")
        except OSError:
            self.close()
            raise

    def __call__(self, method: str, *parameters: str | int) -> Any:
        request = {"jsonrpc": "2.0", "method": method, "params": list(parameters), "id": next(_serial)}
        self._socket.send(json.dumps(request).encode())
        while True:
            # Kamailio ends the names of its sockets' processes with bytes that nobody wrote
            answer = json.loads(self._socket.recv(BUFFER_BYTES).decode(errors="replace"))
            if answer.get("id") == request["id"]:  # not the late answer to one that timed out
                break
        if "error" in answer:
            raise ControlError(answer["error"]["code"], f"{method}{parameters}: {answer['error']['message']}")
        return answer.get("result")

    def get(self, table: str, key: str) -> str:
        """A value of an htable as text, "" where there is none."""
        try:
            return str(self("htable.get", table, key)["item"]["value"])
        except ControlError:
            return ""

    def number(self, table: str, key: str) -> int:
        return int(self.get(table, key) or 0)

    def set(self, table: str, key: str, value: str | int) -> None:
        self("htable.seti" if isinstance(value, int) else "htable.sets", table, key, value)

    def dump(self, table: str) -> dict[str, str]:
        """All of an htable: key → value as text."""
        slots = self("htable.dump", table) or []
        return {item["name"]: str(item["value"]) for slot in slots for item in slot["slot"]}

    def close(self) -> None:
        self._socket.close()
