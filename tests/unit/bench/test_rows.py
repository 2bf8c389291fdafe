"""What a reader of the bench's table may rely on."""

from __future__ import annotations

import io
import pathlib

import msgspec
from rich.console import Console

from tests.bench import report
from tests.bench.rows import Goal, Row

COST = Row(group="cost", what="redirect", goal=Goal(1.15, "x"), value=1.38)


def test_a_missed_goal_says_by_how_much() -> None:
    """The verdict comes with the distance to the goal, absolute and as a share."""
    assert (COST.verdict(), COST.missed_by()) == ("missed", "by 0.23x (20%)")


def test_a_goal_is_met_on_its_own_side() -> None:
    """At most for times and ratios, at least for shares in use; a goal of zero is met by zero alone."""
    assert Goal(100, "ms").verdict(100) == "met"
    assert Goal(99, "%", at_least=True).verdict(98.9) == "missed"
    assert Goal(0, "calls").verdict(1) == "missed"
    assert Goal(0, "calls").missed_by(1) == "by 1 calls"
    assert Goal().verdict(5) == "shown"


def test_what_could_not_be_measured_is_not_met() -> None:
    """A row without a figure counts as failed and never as met."""
    row = Row(group="cost", what="forward", goal=Goal(1.1, "x"), note="Kamailio did not start")
    assert (row.verdict(), row.measured(), row.missed_by()) == ("failed", "not measured", "")


def test_the_file_holds_every_row_with_goal_and_verdict(tmp_path: pathlib.Path) -> None:
    """The JSON file says the same as the table, and whether the run was a quick one."""
    path = tmp_path / "build" / "bench.json"
    report.write([COST], path, quick=True)
    record = msgspec.json.decode(path.read_bytes())
    assert record["quick"] is True
    assert record["rows"][0]["goal"] == "≤ 1.15x"
    assert record["rows"][0]["verdict"] == "missed"
    assert record["rows"][0]["missedBy"] == "by 0.23x (20%)"


def test_the_table_shows_goal_and_figure_side_by_side() -> None:
    """Each line of the printed table carries goal, measured value and verdict."""
    out = io.StringIO()
    report.show([COST, Row(group="kill", what="x", goal=Goal(2, "s"), value=1)], Console(file=out, width=160))
    line = next(line for line in out.getvalue().splitlines() if "redirect" in line)
    assert all(word in line for word in ("≤ 1.15x", "1.38x", "missed", "by 0.23x"))
