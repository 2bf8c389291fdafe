"""Log lines are for machines first: one JSON object each, with what they are about in fields of its own."""

from __future__ import annotations

import asyncio
import json
import logging

from switchboard.logs import JsonFormatter, about


def line(message: str, *arguments: object, error: BaseException | None = None) -> dict[str, str]:
    exc = (type(error), error, error.__traceback__) if error is not None else None
    record = logging.LogRecord("switchboard.test", logging.WARNING, __file__, 1, message, arguments, exc)
    record.created = 1767323045.678
    text = JsonFormatter().format(record)
    assert "\n" not in text
    return dict(json.loads(text))


def test_a_line_is_one_object() -> None:
    """Time, level, who and what; a traceback stays within the line."""
    assert line("%s: lost\nagain", "edge-a") == {
        "time": "2026-01-02T03:04:05.678Z",
        "level": "warning",
        "logger": "switchboard.test",
        "message": "edge-a: lost\nagain",
    }
    assert "ValueError: why" in line("x", error=ValueError("why"))["error"]


async def test_what_a_task_is_about_is_in_its_lines() -> None:
    """Also in those of the tasks that it starts, and in nobody else's."""

    async def inner() -> dict[str, str]:
        about(proxy="edge-a")
        return line("x")

    async def outer() -> dict[str, str]:
        about(pool="edge")
        return await asyncio.create_task(inner())

    inside = await asyncio.create_task(outer())
    assert (inside["pool"], inside["proxy"]) == ("edge", "edge-a")
    assert "pool" not in line("x")
