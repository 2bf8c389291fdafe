"""A client's side of WebSockets (RFC 6455, RFC 7118), by bytes, so that they can be damaged."""

from __future__ import annotations

from random import Random

TEXT, CONTINUED, BINARY, CLOSE, PING, PONG = 1, 0, 2, 8, 9, 10
LONGEST = 125  # bytes, whose number fits into the second byte
DAMAGED = 0.2  # of the frames, or of the handshakes


def handshake(host: str, port: int) -> bytes:
    return "\r\n".join(
        [
            "GET /ws HTTP/1.1",
            f"Host: {host}:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: sip",
            "Origin: https://phone.example.test",
            "",
            "",
        ]
    ).encode()


def frame(payload: bytes, opcode: int = TEXT, *, last: bool = True, mask: bytes = b"\x11\x22\x33\x44") -> bytes:
    """Masked, as a client's are."""
    size = len(payload)
    if size <= LONGEST:
        length = bytes([0x80 | size])
    elif size < 1 << 16:
        length = bytes([0x80 | 126]) + size.to_bytes(2)
    else:
        length = bytes([0x80 | 127]) + size.to_bytes(8)
    hidden = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([(0x80 if last else 0) | opcode]) + length + mask + hidden


def frames(random: Random, message: bytes) -> bytes:
    """A message as it goes over the wire: most in one frame; some in pieces, among others, or damaged."""
    if random.random() >= DAMAGED:
        return frame(message)
    at = random.randrange(len(message) + 1)
    pieces = frame(message[:at], last=False) + frame(message[at:], CONTINUED)
    head = bytearray(frame(message))
    for _ in range(random.randint(1, 3)):
        head[random.randrange(min(len(head), 10))] = random.randrange(256)
    return random.choice(
        (
            pieces,
            frame(b"\r\n\r\n") + frame(message, BINARY),
            frame(message[:LONGEST], PING) + frame(message),
            frame(b"\x03\xe8" + message[:20], CLOSE) + frame(message),
            frame(b"", PONG) + frame(b"") + frame(message, random.randrange(16)),
            bytes(head),
            frame(message)[:at],
        )
    )
