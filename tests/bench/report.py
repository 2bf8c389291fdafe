"""The table a person reads, and the JSON file that keeps the figures."""

from __future__ import annotations

import datetime as dt
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.rows import Row

COLOURS = {"met": "green", "missed": "red", "shown": "default", "failed": "red bold"}


def show(rows: Sequence[Row], console: Console) -> None:
    table = Table(title="Goals, measured", title_justify="left", show_lines=False, pad_edge=False)
    for heading in ("group", "what", "goal", "measured", "verdict", "note"):
        table.add_column(heading, overflow="fold", no_wrap=heading in {"group", "verdict"})
    group = ""
    for row in rows:
        verdict = row.verdict()
        if group and row.group != group:
            table.add_section()
        table.add_row(
            row.group if row.group != group else "",
            row.what,
            row.goal.text(),
            row.measured(),
            f"[{COLOURS[verdict]}]{verdict}[/] {row.missed_by()}".strip(),
            row.note,
        )
        group = row.group
    console.print(table)


def write(rows: Sequence[Row], path: pathlib.Path, *, quick: bool) -> None:
    """Figures with what they were measured on; a quick run says so, since its samples are too few to stand on."""
    record: dict[str, Any] = {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "cores": os.cpu_count(),
        "kernel": os.uname().release,
        "rows": [
            {
                **msgspec.to_builtins(row),
                "goal": row.goal.text(),
                "measured": row.measured(),
                "verdict": row.verdict(),
                "missedBy": row.missed_by(),
            }
            for row in rows
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
