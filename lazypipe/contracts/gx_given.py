"""An expectation of Great Expectations while it is being read, and what the readers of its arguments share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from lazypipe.contracts import sqltext
from lazypipe.contracts.contract import Written, made
from lazypipe.contracts.document import Node
from lazypipe.sql.text import quoted

__all__ = [
    "NUMBERS",
    "OLD",
    "Given",
    "Reader",
    "Readers",
    "Unmappable",
    "Wrong",
    "bounds",
    "checked_regex",
    "note_dates",
    "patterns_of",
    "vacuous",
    "values_of",
]


@dataclass(frozen=True)
class Given:
    """An expectation while it is read: its arguments, and what holds for every rule it becomes."""

    name: str
    kwargs: Node
    mostly: Decimal
    condition: str | None
    common: Mapping[str, Any]
    order_by: tuple[str, ...] = ()

    @property
    def column(self) -> str:
        """The one column that it is about."""
        return str(self.kwargs.column)

    def value(self, key: str) -> Any:
        """Return an argument as it was written."""
        return self.kwargs.value.get(key)

    def rule(self, name: str, arguments: Written, among: str | None = None) -> Written:
        """Return a rule; ``among`` says which rows are counted, where a part of them may fail."""
        share = 100 * (1 - self.mostly)
        counted = {"where": self.condition, "max_failures": f"{share.normalize():f}%" if share else None}
        own = {**arguments, "where": among} if share else arguments
        return made(name, own, {**counted, **self.common})

    def frame_rule(self, name: str, arguments: Written) -> Written:
        """Return a rule about the whole frame."""
        return made(name, arguments, {"where": self.condition, **self.common})

    def schema_rule(self, arguments: Written) -> Written:
        """Return a rule about columns, whatever the rows are."""
        return made("schema", arguments, self.common)

    def on_values(self, name: str, arguments: Written) -> Written:
        """Return a rule about the column's values that are not null."""
        return self.rule(name, arguments, f"{quoted(self.column)} IS NOT NULL")


Reader = Callable[[Given], Iterable[Written]]
"""Gives the rules of one expectation; raises Unmappable or Wrong."""
Readers = Mapping[str, tuple[tuple[str, ...], tuple[str, ...], Reader]]
"""Name of an expectation → the arguments that it needs, further ones, and its reader."""

NUMBERS = ("min_value", "max_value", "strict_min", "strict_max")
OLD = ("parse_strings_as_datetimes", "output_strftime_format", "allow_cross_type_comparisons")
"""Arguments of 0.x about dates in texts."""


class Unmappable(Exception):
    """An expectation with these arguments has no rule; the message says why."""


class Wrong(Exception):
    """An argument is wrong; ``path`` says which."""

    def __init__(self, what: str, *path: str | int) -> None:
        super().__init__(what)
        self.path = path


def bounds(given: Given, *, kind: str = "scalar", whole: bool = False) -> tuple[Any, Any, str | None]:
    """Return the bounds and how they are closed; of whole numbers, strict ones become the next number."""
    low, high = (given.kwargs.get(key, kind) for key in ("min_value", "max_value"))
    strict = (given.kwargs.flag("strict_min"), given.kwargs.flag("strict_max"))
    if low is not None and high is not None and isinstance(low, str) == isinstance(high, str) and low > high:
        raise Wrong(f"min_value {low} is greater than max_value {high}", "min_value")
    if whole:
        low = low if low is None else math.floor(low) + 1 if strict[0] else math.ceil(low)
        high = high if high is None else math.ceil(high) - 1 if strict[1] else math.floor(high)
        return low, high, None
    left, right = not strict[0] or low is None, not strict[1] or high is None
    return low, high, None if left and right else "left" if left else "right" if right else "none"


def values_of(given: Given) -> list[Any] | None:
    """Return a list of values without null; None where there is none, so that anything passes."""
    values = given.kwargs.get("value_set", "list")
    return None if values is None else [v for v in values if v is not None]


def vacuous(given: Given) -> Iterable[Written]:
    """Return no rule, and note that."""
    given.kwargs.note(given.name, "it allows everything, so it needs no rule")
    return ()


def patterns_of(given: Given, key: str) -> list[str]:
    """Return a list of patterns; raises Wrong where there is none."""
    patterns = list(given.kwargs.texts(key))
    if not patterns:
        raise Wrong(f"{key} is empty", key)
    return patterns


def checked_regex(pattern: str) -> str:
    """Return a regular expression; raises Unmappable where Polars does not know it."""
    if not sqltext.is_regex(pattern):
        raise Unmappable(f"{pattern!r} has look-around or back references, which are not known here")
    return pattern


def note_dates(given: Given) -> None:
    """Note that texts are not parsed as dates here, although 0.x was asked to."""
    if given.kwargs.flag("parse_strings_as_datetimes"):
        given.kwargs.note(
            given.name, "the columns are taken to hold dates or datetimes already", "parse_strings_as_datetimes"
        )
