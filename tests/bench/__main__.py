"""`python -m tests.bench [GROUP ...] [--quick]`: the goals measured on real parts, as a table and in build/bench.json.

Runs inside the embedded cluster's namespace (`make bench`). Exit status 1 when a row could not be measured; a goal that
is missed is a finding, not an error: `--strict` makes it one.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator

from rich.console import Console

from e2e import product
from tests.bench import bursts, cost, handover, reaction, report, serving
from tests.bench.context import Context
from tests.bench.rows import Goal, Row
from tests.tools.proxies import rootfs

GROUPS: dict[str, Callable[[Context], Iterator[Row]]] = {
    "cost": cost.measure,
    "burst": bursts.measure,
    "short": bursts.measure_short,
    "reaction": reaction.measure,
    "kill": handover.measure_kill,
    "change": handover.measure_change,
    "serve": serving.measure,
}
WITHOUT_CLUSTER = {"cost"}
LOG_COLUMNS = 200  # of a table that goes to a file
RESULT = pathlib.Path(__file__).parents[2] / "build" / "bench.json"


def main() -> int:
    options = _parse()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else LOG_COLUMNS)
    work = pathlib.Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))  # short, for UNIX socket paths
    started = time.monotonic()

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:6.1f} s  {line}[/]")

    context = Context(quick=options.quick, work=work, root=rootfs(), say=say)
    rows: list[Row] = []
    try:
        if set(options.groups or GROUPS) - WITHOUT_CLUSTER:
            say("installing the operator")
            product.install()
        for group in options.groups or GROUPS:
            for row in _measured(group, context):
                say(f"{row.verdict():6}  {row.what}: {row.measured()} (goal {row.goal.text()})")
                rows.append(row)
                report.write(rows, options.out, quick=options.quick)  # what is measured is kept, whatever comes after
    finally:
        shutil.rmtree(work, ignore_errors=True)
    report.show(rows, console)
    console.print(f"{options.out}, {time.monotonic() - started:.0f} s")
    verdicts = {row.verdict() for row in rows}
    return int("failed" in verdicts or (options.strict and "missed" in verdicts))


def _measured(group: str, context: Context) -> Iterator[Row]:
    """The group's rows; one that breaks off leaves the rows so far and one that says why."""
    try:
        yield from GROUPS[group](context)
    except Exception as error:  # noqa: BLE001 - the other groups are still worth measuring; the traceback is shown
        traceback.print_exc()
        yield Row(group=group, what="broke off", goal=Goal(), note=f"{type(error).__name__}: {error}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measures the goals on real parts.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="few samples: shows that every row can be measured")
    parser.add_argument("--strict", action="store_true", help="exit status 1 for a goal that is missed, too")
    parser.add_argument("--out", type=pathlib.Path, default=RESULT, help="the JSON file (default: build/bench.json)")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
