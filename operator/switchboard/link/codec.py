"""Frames of a link to messages and back: the only place that reads what came from the wire.

Typed decoders check while they read; a 300-byte report takes a few microseconds, which is what lets one operator hear
a thousand proxies twice a second.
"""

from __future__ import annotations

import msgspec

from switchboard.errors import MessageError, ProtocolMismatchError
from switchboard.link.messages import MAX_MESSAGE_BYTES, PROTOCOL, FromAgent, Hello, Message, ToAgent

# What msgspec raises for a frame that is not what it should be: no JSON, other types, no UTF-8, nested without end.
MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_encoder = msgspec.json.Encoder()
_from_agent: msgspec.json.Decoder[FromAgent] = msgspec.json.Decoder(FromAgent)
_to_agent: msgspec.json.Decoder[ToAgent] = msgspec.json.Decoder(ToAgent)


class _Greeting(Message, frozen=True, tag="hello"):
    """What a hello of any protocol version has."""

    protocol: int


_greeting = msgspec.json.Decoder(_Greeting)


def encode(message: Message) -> bytes:
    frame = _encoder.encode(message)
    if len(frame) > MAX_MESSAGE_BYTES:
        raise MessageError(
            f"a {type(message).__name__} of {len(frame)} bytes is above the link's limit of {MAX_MESSAGE_BYTES}; "
            "split the pool: a table of 10,000 rows is below it"
        )
    return frame


def decode_from_agent(frame: bytes) -> FromAgent:
    try:
        return _from_agent.decode(frame)
    except MALFORMED as error:
        raise MessageError(f"malformed message from the agent: {error}; do both ends run the same release?") from error


def decode_to_agent(frame: bytes) -> ToAgent:
    try:
        return _to_agent.decode(frame)
    except MALFORMED as error:
        raise MessageError(f"malformed message to the agent: {error}; do both ends run the same release?") from error


def decode_hello(frame: bytes) -> Hello:
    """Read the first message; the version is looked at before the rest, which another version may shape differently."""
    try:
        protocol = _greeting.decode(frame).protocol
    except MALFORMED as error:
        raise MessageError(f"the agent did not begin with a hello: {error}; is it a Switchboard agent?") from error
    if protocol != PROTOCOL:
        raise ProtocolMismatchError(
            f"the agent speaks link protocol {protocol}, this end {PROTOCOL}; run the same release on both ends"
        )
    hello = decode_from_agent(frame)
    if not isinstance(hello, Hello):  # pragma: no cover  # the tag was read above
        raise TypeError(type(hello))
    return hello
