"""The live table: proxy, role, workload against the threshold, calls, assigned, refused."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from e2e.demo.watch import Watch

BAR_CELLS = 40  # the bar's width is 100 % of a proxy's capacity
SNAPSHOT_SECONDS = 4.0  # between tables where the output is not a terminal


def bar(workload: float, threshold: float) -> Text:
    """`workload` and `threshold` are shares of the capacity."""
    filled, mark = min(BAR_CELLS, round(workload * BAR_CELLS)), round(threshold * BAR_CELLS)
    cells = ["█" if cell < filled else "·" for cell in range(BAR_CELLS)]
    text = Text("".join(cells), style="green" if workload < threshold else "yellow")
    text.pad_right(0)
    return text[:mark] + Text("│", style="bold red") + text[mark:]


def table(watch: Watch, threshold: float, title: str) -> Table:
    """One row per proxy, the dead ones too: their calls were real."""
    drawn = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), width=118)
    for heading, justify in (("proxy", "left"), ("role", "left"), ("workload │ threshold", "left")):
        drawn.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # rich's own literal type
    for heading in ("", "calls", "assigned", "refused"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for _, proxy in sorted(watch.proxies.items()):
        report = proxy.report
        if not proxy.alive:
            drawn.add_row(proxy.name, Text("gone", style="red"), "", "", "", str(report.admitted), "")
            continue
        role = Text(report.role, style="bold cyan" if report.role == "primary" else "")
        drawn.add_row(
            *(proxy.name, role, bar(report.workload, threshold), f"{report.workload:.0%}", str(report.calls)),
            *(str(report.admitted), str(report.refused + report.saturated)),
        )
    return drawn


class View:
    """Redraws on a terminal; elsewhere prints a table now and then."""

    def __init__(self, watch: Watch, threshold: float) -> None:
        self.console = Console(highlight=False, width=120)
        self.title = ""
        self._watch = watch
        self._threshold = threshold
        self._live = Live(console=self.console, refresh_per_second=5) if self.console.is_terminal else None
        self._printed_at = 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def draw(self) -> None:
        drawn = table(self._watch, self._threshold, self.title)
        if self._live:
            self._live.update(Group(drawn))
        elif time.monotonic() - self._printed_at >= SNAPSHOT_SECONDS:
            self._printed_at = time.monotonic()
            self.console.print(drawn, "")

    def say(self, text: str) -> None:
        self.console.print(f"[bold]{text}[/bold]")
