"""Running the programs that a cluster is made with, and saying what goes on."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.kind.errors import KindError

LAST_LINES = 12


def run(*command: str | Path, stdin: str | None = None, timeout_seconds: float = 300) -> str:
    """What the program printed; KindError with the last lines of its error output when it failed."""
    words = [str(word) for word in command]
    try:
        ran = subprocess.run(
            words, input=stdin, capture_output=True, text=True, timeout=timeout_seconds, check=False, env=os.environ
        )
    except FileNotFoundError:
        raise KindError(f"{words[0]} is missing: see e2e/kind/packages") from None
    except subprocess.TimeoutExpired:
        raise KindError(f"`{' '.join(words[:6])}` still ran after {timeout_seconds:g} s") from None
    if ran.returncode != 0:
        last = " | ".join((ran.stderr.strip() or ran.stdout.strip()).splitlines()[-LAST_LINES:])
        raise KindError(f"`{' '.join(words[:6])}` failed ({ran.returncode}): {last}")
    return ran.stdout


def succeeds(*command: str | Path) -> bool:
    """Whether the program is there and ends with 0."""
    try:
        run(*command, timeout_seconds=60)
    except KindError:
        return False
    return True


@contextmanager
def step(what: str) -> Iterator[None]:
    """One line of progress, with the time it took."""
    started = time.monotonic()
    print(f"kind: {what} ", end="", flush=True)
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{time.monotonic() - started:.0f} s", flush=True)
