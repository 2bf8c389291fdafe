"""Bounded, reproducible damage to a SIP message: mutation `number` of a seed is the same in every run."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

LARGEST_BYTES = 65000  # of a datagram
MOST_CHANGES = 4
UNCHANGED = 0.03  # of the messages go out as they are, so that calls are set up among the damaged ones

FRAGMENTS = (
    *(
        b"\0",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b"\t",
        b"\r\n ",
        b"%s%n%x",
        b"%00",
        b"%",
        b"\\",
        b'"',
        b"'",
        b"<",
        b">",
    ),
    *(
        b";",
        b";;;;",
        b",",
        b",,,,",
        b"=",
        b":",
        b"::",
        b"@",
        b"?",
        b"[",
        b"]",
        b"[::1]",
        b"[::",
        b"sip:",
        b"sips:",
        b"tel:+1",
    ),
    *(
        b"\xff\xfe",
        b"\xc3\x28",
        "ж".encode(),
        b"SIP/2.0",
        b"SIP/2.0/UDP",
        b"z9hG4bK",
        b";lr",
        b";vp=",
        b";vpt=",
        b";tag=",
    ),
    *(b"v=0\r\n", b"m=audio 0 RTP/AVP 0\r\n", b"m=", b"a=rtpmap:", b"c=IN IP4 0.0.0.0\r\n", b"Content-Length: 5\r\n"),
    *(
        b"X-VP-Token: a.1.c1x1.0\r\n",
        b"X-VP-Visited: a:b\r\n",
        b"X-VP-Known: a yes 0\r\n",
        b"$",
        b"|",
        b"{",
        b"}",
        b"(",
        b")",
    ),
)
NUMBERS: tuple[bytes, ...] = (
    b"0",
    b"-1",
    b"1",
    b"255",
    b"256",
    b"65535",
    b"65536",
    b"2147483647",
    b"2147483648",
    b"4294967295",
)
NUMBERS += (b"4294967296", b"9223372036854775808", b"99999999999999999999999", b"1e9", b"0x10", b"00000000000000000001")
METHODS = (b"INVITE", b"ACK", b"BYE", b"CANCEL", b"REGISTER", b"OPTIONS", b"INFO", b"PRACK", b"UPDATE", b"NOTIFY", b"X")

Change = Callable[[Random, bytes, bytes], bytes]


def _at(random: Random, data: bytes) -> int:
    return random.randrange(len(data) + 1)


def _cut(random: Random, data: bytes) -> tuple[int, int]:
    start = _at(random, data)
    return start, min(len(data), start + int(random.expovariate(1 / 12)) + 1)


def flip(random: Random, data: bytes, _other: bytes) -> bytes:
    start, _ = _cut(random, data)
    return data[:start] + bytes(byte ^ 1 << random.randrange(8) for byte in data[start : start + 1]) + data[start + 1 :]


def drop(random: Random, data: bytes, _other: bytes) -> bytes:
    start, end = _cut(random, data)
    return data[:start] + data[end:]


def repeat(random: Random, data: bytes, _other: bytes) -> bytes:
    """A piece again, once or very often."""
    start, end = _cut(random, data)
    times = random.choice((1, 2, 10, 100, 500))
    return data[:end] + data[start:end] * times + data[end:]


def insert(random: Random, data: bytes, _other: bytes) -> bytes:
    at = _at(random, data)
    return data[:at] + random.choice(FRAGMENTS) + data[at:]


def overwrite(random: Random, data: bytes, _other: bytes) -> bytes:
    start, end = _cut(random, data)
    return data[:start] + random.choice(FRAGMENTS) + data[end:]


def truncate(random: Random, data: bytes, _other: bytes) -> bytes:
    return data[: _at(random, data)]


def renumber(random: Random, data: bytes, _other: bytes) -> bytes:
    found = list(re.finditer(rb"\d+", data))
    if not found:
        return data
    one = random.choice(found)
    return data[: one.start()] + random.choice(NUMBERS) + data[one.end() :]


def rename(random: Random, data: bytes, _other: bytes) -> bytes:
    """Another method, in the first line or everywhere."""
    method = data.split(b" ", 1)[0]
    return data.replace(method, random.choice(METHODS), random.choice((1, -1))) if method else data


def _lines(change: Callable[[Random, list[bytes], list[bytes]], None]) -> Change:
    def mutate(random: Random, data: bytes, other: bytes) -> bytes:
        lines = data.split(b"\r\n")
        change(random, lines, other.split(b"\r\n"))
        return b"\r\n".join(lines)

    mutate.__name__ = change.__name__
    return mutate


@_lines
def drop_line(random: Random, lines: list[bytes], _other: list[bytes]) -> None:
    del lines[random.randrange(len(lines))]


@_lines
def double_line(random: Random, lines: list[bytes], _other: list[bytes]) -> None:
    line = random.choice(lines)
    at = random.randrange(len(lines))
    lines[at:at] = [line] * random.choice((1, 1, 2, 50))


@_lines
def move_line(random: Random, lines: list[bytes], _other: list[bytes]) -> None:
    line = lines.pop(random.randrange(len(lines)))
    lines.insert(random.randrange(len(lines) + 1), line)


@_lines
def borrow_line(random: Random, lines: list[bytes], other: list[bytes]) -> None:
    """A line of another message: its headers, its route, its token, its SDP."""
    lines.insert(random.randrange(len(lines) + 1), random.choice(other))


@_lines
def fold_line(random: Random, lines: list[bytes], _other: list[bytes]) -> None:
    at = random.randrange(len(lines))
    lines[at] = lines[at].replace(b" ", b"\r\n ", 1)


def splice(random: Random, data: bytes, other: bytes) -> bytes:
    """The beginning of this message and the end of another."""
    return data[: _at(random, data)] + other[_at(random, other) :]


def newlines(_random: Random, data: bytes, _other: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n")


CHANGES: tuple[Change, ...] = (
    *(flip, flip, drop, repeat, insert, insert, overwrite, overwrite, truncate, renumber, renumber, rename),
    *(drop_line, double_line, move_line, borrow_line, borrow_line, fold_line, splice, newlines),
)


def mutate(random: Random, message: bytes, others: Sequence[bytes]) -> bytes:
    if random.random() < UNCHANGED:
        return message
    for _ in range(random.randint(1, MOST_CHANGES)):
        message = random.choice(CHANGES)(random, message, random.choice(others))
    return message[:LARGEST_BYTES]
