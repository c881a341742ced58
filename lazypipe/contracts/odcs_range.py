"""The range that a quality check allows, and rules that count rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lazypipe.contracts.contract import Written, made
from lazypipe.contracts.document import Node
from lazypipe.errors import nearest

__all__ = ["OPERATORS", "Range", "allowed_range", "counted", "negated"]

OPERATORS = (
    "mustBe",
    "mustNotBe",
    "mustBeGreaterThan",
    "mustBeGreaterOrEqualTo",
    "mustBeLessThan",
    "mustBeLessOrEqualTo",
    "mustBeBetween",
    "mustNotBeBetween",
)


@dataclass(frozen=True)
class Range:
    """What a measured number must be: within bounds (either may be missing, either may be left out), or not a number."""

    least: int | float | None = None
    most: int | float | None = None
    open_least: bool = False
    open_most: bool = False
    unlike: int | float | None = None

    @property
    def closed(self) -> str | None:
        """The argument ``closed`` of a rule; None where it is the default."""
        left, right = not self.open_least, not self.open_most
        return None if left and right else "left" if left else "right" if right else "none"

    def counts(self) -> tuple[int | None, int | None]:
        """Return the least and the greatest count in it: one that is not to be 0 is at least 1."""
        if self.unlike == 0:
            return 1, None
        least = None if self.least is None else math.floor(self.least) + 1 if self.open_least else math.ceil(self.least)
        most = None if self.most is None else math.ceil(self.most) - 1 if self.open_most else math.floor(self.most)
        return least if least is not None and least > 0 else None, most


def allowed_range(check: Node) -> Range | None:
    """Return what the check's operators allow; several must all hold."""
    given = [op for op in check.value if op.startswith("must")]
    wrong = [op for op in given if op not in OPERATORS]
    for op in wrong:
        check.unknown(f"unknown operator {op!r}", nearest(op, OPERATORS, "operators"), op)
    if not given:
        check.fault("the check compares with nothing", "add an operator such as mustBe: 0")
    ranges = [] if wrong else [_one(check, op) for op in given]
    bounds = [r for r in ranges if r is not None]
    if len(bounds) < len(given) or not bounds:
        return None
    if any(r.unlike is not None for r in bounds) and len(bounds) > 1:
        check.unmapped(" and ".join(given), "mustNotBe together with others has no rule")
        return None
    return _both(check, bounds)


def _both(check: Node, ranges: list[Range]) -> Range | None:
    lows = [(r.least, r.open_least) for r in ranges if r.least is not None]
    highs = [(r.most, not r.open_most) for r in ranges if r.most is not None]
    least, open_least = max(lows, default=(None, False))
    most, shut_most = min(highs, default=(None, True))
    if least is not None and most is not None and (least > most or (least == most and (open_least or not shut_most))):
        check.fault("no number could pass the check", "fix its operators")
        return None
    return Range(least, most, open_least, not shut_most, ranges[0].unlike)


def _one(check: Node, op: str) -> Range | None:
    if op in ("mustBeBetween", "mustNotBeBetween"):
        match check.get(op, "list"):
            case [int() | float() as low, int() | float() as high] if low < high:
                if op == "mustNotBeBetween":
                    check.unmapped(f"{op}: [{low}, {high}]", "no rule allows two separate ranges", op)
                    return None
                check.note(
                    f"{op}: [{low}, {high}]",
                    "both ends are allowed, as other tools read it; the text of the standard may be read without them",
                    op,
                )
                return Range(low, high)
            case None:
                return None
        check.fault(f"{op} needs two numbers, the smaller one first", f"write {op}: [0, 100]", op)
        return None
    number = check.get(op, "number")
    match op, number:
        case _, None:
            return None
        case "mustBe", _:
            return Range(number, number)
        case "mustNotBe", _:
            return Range(unlike=number)
        case "mustBeGreaterThan", _:
            return Range(least=number, open_least=True)
        case "mustBeGreaterOrEqualTo", _:
            return Range(least=number)
        case "mustBeLessThan", _:
            return Range(most=number, open_most=True)
    return Range(most=number)


def counted(condition: str | None, least: int | None, most: int | None, common: Mapping[str, Any]) -> Written:
    """Return a rule on the number of rows, of those for which a condition holds."""
    if least is not None and least == most:
        return made("row_count", {"equals": least, "where": condition}, common)
    return made("row_count", {"min": least, "max": most, "where": condition}, common)


def negated(condition: str) -> str:
    """Return the condition that another is not true."""
    return f"NOT ({condition})"
