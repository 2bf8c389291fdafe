"""A program of the clients' root file system (tests/tools/rootfs.sh), and what a soft phone reads."""

from __future__ import annotations

import contextlib
import math
import struct
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path

from tests.tools.foreign import sandbox
from tests.tools.nat import inside

TONE_HZ = 440
TONE_RATE = 8000  # samples a second
TONE_SECONDS = 60


@contextlib.contextmanager
def running(run: Path, *command: str, host: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """It runs on that host, or in the caller's network, and writes `run`/log; killed at the end, whatever it does."""
    words = [*sandbox("clients", run), *command]
    with (run / "log").open("wb") as log, inside(host) if host else contextlib.nullcontext():
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()  # bubblewrap, and with it all of its PID namespace
        process.wait()


def equip(run: Path, trusted: bytes) -> None:
    """A tone for its microphone, and the certificate (PEM) of the authority that it trusts."""
    (run / "ca.crt").write_bytes(trusted)
    samples = [round(8000 * math.sin(2 * math.pi * TONE_HZ * at / TONE_RATE)) for at in range(TONE_RATE)]
    with wave.open(str(run / "tone.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(TONE_RATE)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples) * TONE_SECONDS)
