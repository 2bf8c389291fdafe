"""Waiting for something to become true, with a deadline and words for when it does not."""

import time
from collections.abc import Callable
from typing import TypeVar

from e2e.embedded.errors import DeadlineError

T = TypeVar("T")


def wait_for(predicate: Callable[[], T], seconds: float, what: str, *, every_seconds: float = 0.1) -> T:
    """Asks `predicate` until its answer is true, and returns it; DeadlineError names `what` and the last answer."""
    deadline = time.monotonic() + seconds
    while not (answer := predicate()):
        if time.monotonic() >= deadline:
            raise late(what, seconds, answer)
        time.sleep(every_seconds)
    return answer


def late(what: str, seconds: float, answer: object) -> DeadlineError:
    """What is raised when the deadline has passed and the last answer was this."""
    seen = "" if answer in (None, False) else f" (last seen: {answer!r})"
    return DeadlineError(f"waited {seconds:g} s for {what}, in vain{seen}")
