"""What a bench row is: a goal, what was measured, and whether one meets the other."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Verdict = Literal["met", "missed", "shown", "failed"]


class Goal(msgspec.Struct, frozen=True):
    """`limit` in `unit`; met at or below it, or at or above it for `at_least`. Without a limit the row only shows."""

    limit: float | None = None
    unit: str = ""
    at_least: bool = False

    def text(self) -> str:
        if self.limit is None:
            return "-"
        return f"{'≥' if self.at_least else '≤'} {number(self.limit)}{space(self.unit)}"

    def verdict(self, value: float) -> Verdict:
        if self.limit is None:
            return "shown"
        return "met" if (value >= self.limit if self.at_least else value <= self.limit) else "missed"

    def missed_by(self, value: float) -> str:
        """How far `value` is on the wrong side, in the goal's unit and as a share of the goal."""
        if self.limit is None or self.verdict(value) != "missed":
            return ""
        gap = abs(value - self.limit)
        share = f" ({gap / self.limit:.0%})" if self.limit else ""
        return f"by {number(gap)}{space(self.unit)}{share}"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. `note` says what the figure stands on: samples, conditions, where the time goes."""

    group: str
    what: str
    goal: Goal
    value: float | None = None  # None: it could not be measured, and `note` says why
    note: str = ""
    details: dict[str, Any] = {}

    def verdict(self) -> Verdict:
        return "failed" if self.value is None else self.goal.verdict(self.value)

    def measured(self) -> str:
        return "not measured" if self.value is None else f"{number(self.value)}{space(self.goal.unit)}"

    def missed_by(self) -> str:
        return "" if self.value is None else self.goal.missed_by(self.value)


def number(value: float) -> str:
    """Three significant digits, whole numbers as such."""
    return str(int(value)) if float(value).is_integer() else f"{value:.3g}"


def space(unit: str) -> str:
    return unit if unit in {"", "x"} else f" {unit}"
