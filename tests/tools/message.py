"""SIP messages as the tests see them: parsed far enough to be asked for any header, and built from parts.

Deliberately independent of what is tested, and lenient: a proxy that sends something odd should fail the test that
looks at it, not the parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

Address = tuple[str, int]
Headers = tuple[tuple[str, str], ...]

_COMPACT = {
    "v": "Via",
    "f": "From",
    "t": "To",
    "i": "Call-ID",
    "m": "Contact",
    "l": "Content-Length",
    "c": "Content-Type",
    "k": "Supported",
    "r": "Refer-To",
}
_LISTS = {"via", "route", "record-route", "path", "service-route", "contact"}


@dataclass(frozen=True)
class Message:
    """One request or response."""

    start: str
    headers: Headers
    body: str = ""

    @classmethod
    def parse(cls, raw: bytes) -> Message:
        head, _, body = raw.decode(errors="replace").partition("\r\n\r\n")
        start, *lines = head.split("\r\n")
        unfolded: list[str] = []
        for line in lines:
            if line[:1] in (" ", "\t") and unfolded:
                unfolded[-1] += " " + line.strip()
            elif ":" in line:
                unfolded.append(line)
        pairs = ((name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in unfolded))
        return cls(start, tuple((_COMPACT.get(name.lower(), name), value) for name, value in pairs), body)

    def encode(self) -> bytes:
        kept = [(name, value) for name, value in self.headers if name.lower() != "content-length"]
        body = self.body.encode()
        lines = [self.start, *(f"{name}: {value}" for name, value in kept), f"Content-Length: {len(body)}"]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    @property
    def is_response(self) -> bool:
        return self.start.startswith("SIP/2.0 ")

    @property
    def status(self) -> int:
        """A response's status; 0 for a request."""
        return int(self.start.split()[1]) if self.is_response else 0

    @property
    def method(self) -> str:
        """A request's method, or the method a response answers."""
        return self.header("CSeq").split()[-1] if self.is_response else self.start.split()[0]

    @property
    def uri(self) -> str:
        """A request's Request-URI."""
        return "" if self.is_response else self.start.split()[1]

    @property
    def call_id(self) -> str:
        return self.header("Call-ID")

    @property
    def cseq(self) -> int:
        return int(self.header("CSeq").split()[0])

    @property
    def branch(self) -> str:
        """The topmost Via's branch: what tells transactions apart."""
        return parameter((self.all("Via") or [""])[0], "branch")

    def header(self, name: str) -> str:
        """The first header of that name, "" where there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def all(self, name: str) -> list[str]:
        """Every value of that name in order; headers that are lists are split at their commas."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        if name.lower() not in _LISTS:
            return values
        return [part.strip() for value in values for part in re.split(r",(?![^<]*>)", value)]

    def having(self, prefix: str) -> Headers:
        """The headers whose name starts with `prefix`."""
        return tuple((name, value) for name, value in self.headers if name.lower().startswith(prefix.lower()))


def request(method: str, uri: str, headers: Iterable[tuple[str, str]], body: str = "") -> Message:
    return Message(f"{method} {uri} SIP/2.0", (*headers, *_content(body)), body)


def response(
    to: Message, status: int, headers: Iterable[tuple[str, str]] = (), body: str = "", tag: str = ""
) -> Message:
    """A response to request `to`, with the headers that a response takes over from its request."""
    copied: list[tuple[str, str]] = [
        pair for pair in to.headers if pair[0].lower() in ("via", "from", "call-id", "cseq")
    ]
    copied += [pair for pair in to.headers if pair[0].lower() == "record-route"] if 100 < status < 300 else []
    target = to.header("To")
    if tag and ";tag=" not in target:
        target += f";tag={tag}"
    return Message(f"SIP/2.0 {status} {_reason(status)}", (*copied, ("To", target), *headers, *_content(body)), body)


def _content(body: str) -> Headers:
    return (("Content-Type", "application/sdp"),) if body else ()


def _reason(status: int) -> str:
    known = {100: "Trying", 180: "Ringing", 183: "Session Progress", 200: "OK", 202: "Accepted", 486: "Busy Here"}
    return known.get(status, "Answer")


def uri_in(value: str) -> str:
    """The URI of a Contact, Route, From ... value: what stands between < and >, or before the first parameter."""
    found = re.search(r"<([^>]*)>", value)
    return found.group(1) if found else value.partition(";")[0].strip()


def parameter(value: str, name: str) -> str:
    """Parameter `name` of a header value or URI, "" where there is none."""
    found = re.search(rf";\s*{re.escape(name)}=\"?([^;>,\"\s]+)", value, re.IGNORECASE)
    return found.group(1) if found else ""


def hop(uri: str) -> Address:
    """Host and port that a SIP URI names, for numeric hosts."""
    found = re.match(r"sips?:(?:[^@;>]*@)?\[?((?<=\[)[0-9a-f:]+|[0-9.]+)\]?(?::(\d+))?", uri)
    if found is None:
        raise ValueError(f"{uri!r} names no numeric address; say where to send it")
    return found.group(1), int(found.group(2) or 5060)
