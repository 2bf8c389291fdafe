"""Logs of operator and agents: one JSON object a line on stderr, with what the line is about beside its words.

    {"time": "2026-01-02T03:04:05.678Z", "level": "warning", "logger": "switchboard.control.fleet", "message": "...",
     "namespace": "voice", "pool": "edge"}

`about` adds fields for a task and all that it starts. `error` has the traceback, where there is one.
"""

from __future__ import annotations

import datetime as dt
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar

import msgspec

_about: ContextVar[Mapping[str, str]] = ContextVar("about")


def about(**fields: str) -> None:
    """What this task's lines are about from now on, and those of the tasks that it starts."""
    _about.set({**_about.get({}), **fields})


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_about.get({}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
