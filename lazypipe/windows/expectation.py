"""When a window is complete: what must have arrived, and what happens if something is missing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from lazypipe.errors import nearest
from lazypipe.spec.arguments import Kind
from lazypipe.spec.model import NOTHING, Fault, freeze
from lazypipe.sql.bind import bind
from lazypipe.sql.exprs import empty, try_out
from lazypipe.sql.literal import literal
from lazypipe.sql.text import SqlError, quoted
from lazypipe.windows.late import lateness

__all__ = ["EXPECT", "ROWS", "STATS", "Expectation", "expected", "known_values", "mark"]

_COUNT = {"type": "integer", "minimum": 1}
EXPECT = Kind(
    {
        "type": "object",
        "properties": {
            "files": {
                "description": "The smallest number of files with event times in the window. Only for sources whose watermark "
                "advances file by file.",
                **_COUNT,
            },
            "rows": {"description": "The smallest number of rows.", **_COUNT},
            "values": {
                "description": "Column → the values that must all occur; for a column of by, this may also be how many different "
                "ones.",
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "description": "A list of values, or how many different ones",
                    "type": ["array", "integer"],
                    "items": {"type": ["string", "number", "boolean"]},
                    "minItems": 1,
                    "minimum": 1,
                },
            },
            "marker": {
                "description": "A file, relative to the definition, that exists once the window is complete, such as "
                "done/{start:%Y-%m-%dT%H}.ok. {end:…} may be used too.",
                "type": "string",
                "minLength": 1,
            },
        },
        "additionalProperties": False,
        "minProperties": 1,
    },
    freeze,
)
"""What must be there of a window."""

ROWS = "__lazypipe_rows"
"""The column that windows have where something is expected of them: how many rows each is made of."""
STATS = "__lazypipe_stats"
"""The column with what was found of the window that a row is of."""
_PLACE = re.compile(r"\{(start|end)(?::([^{}]+))?\}")


def mark(column: int, place: int) -> str:
    """Return the name of the column that counts rows with an expected value, both by their places."""
    return f"__lazypipe_value_{column}_{place}"


@dataclass(frozen=True)
class Expectation:
    """What must be there of a window, all of it.

    ``values`` are those of columns that must be there, or how many different ones. ``column`` says whether a row is of a window that
    was given though it is not whole. After ``deadline``, in microseconds after its end and by the run's clock, it is given, or the
    run ``fails``; None: it is waited for.
    """

    files: int | None = None
    rows: int | None = None
    values: Mapping[str, int | tuple[Any, ...]] = NOTHING
    marker: str | None = None
    deadline: int | None = None
    fails: bool = False
    column: str | None = None

    def is_due(self, end: int, now: int) -> bool:
        """Whether a window that ends there is not waited for any more."""
        return self.deadline is not None and end + self.deadline <= now

    def counts(self) -> dict[str, str]:
        """Return what windows count of their rows: new column → SQL aggregate, which adds up."""
        found = {ROWS: "count(*)"}
        for number, (column, wanted) in enumerate(self.values.items()):
            for place, value in enumerate(wanted if isinstance(wanted, tuple) else ()):
                found[mark(number, place)] = f"count(CASE WHEN {self.condition(column, value)} THEN 1 END)"
        return found

    def condition(self, column: str, value: Any) -> str:
        """Return in SQL whether a row has a value."""
        return f"{quoted(column)} = {literal(value)}"

    def found(self, schema: pl.Schema) -> pl.Expr:
        """Return what is found of each window, over rows of windows with ``counts``, or over rows of others."""
        counted = ROWS in schema
        said = {ROWS: pl.col(ROWS).sum() if counted else pl.len().cast(pl.Int64)}
        for number, (column, wanted) in enumerate(self.values.items()):
            if not isinstance(wanted, tuple):
                said[f"__lazypipe_values_{number}"] = pl.col(column).drop_nulls().n_unique().cast(pl.Int64)
                continue
            for place, value in enumerate(wanted):
                name = mark(number, place)
                said[name] = (
                    pl.col(name).sum() if counted else bind(self.condition(column, value), schema).sum().cast(pl.Int64)
                )
        return pl.struct(expr.alias(name) for name, expr in said.items())

    def lacks(self, stats: Mapping[str, int], files: int, *, marked: bool) -> list[str]:
        """Describe what a window lacks, given what was found of it; empty if it is whole."""
        said = []
        if self.files is not None and files < self.files:
            said.append(f"{files:,} of {self.files:,} files")
        rows = stats.get(ROWS, 0)
        if self.rows is not None and rows < self.rows:
            said.append(f"{rows:,} of {self.rows:,} rows")
        for number, (column, wanted) in enumerate(self.values.items()):
            if isinstance(wanted, tuple):
                gone = [str(v) for place, v in enumerate(wanted) if not stats.get(mark(number, place))]
                if gone:
                    more = f" and {len(gone) - 3:,} more" if len(gone) > 3 else ""
                    said.append(f"no {column} {', '.join(gone[:3])}{more}")
            elif (there := stats.get(f"__lazypipe_values_{number}", 0)) < wanted:
                said.append(f"{there:,} of {wanted:,} values of {column}")
        if not marked:
            said.append("no marker")
        return said

    @property
    def pattern(self) -> str | None:
        """The glob that all markers match."""
        return None if self.marker is None else _PLACE.sub("*", self.marker)

    def names(self, start: pl.Expr, end: pl.Expr, dtype: pl.DataType, folder: str = "") -> pl.Expr:
        """Return the marker that each window must have, by its ends; ``folder`` is what it is relative to."""
        assert self.marker is not None
        ends = {"start": start, "end": end}
        if dtype == pl.Date:
            ends = {n: e.cast(pl.Datetime("us")) for n, e in ends.items()}
        parts, last = [], 0
        for found in _PLACE.finditer(self.marker):
            parts.append(pl.lit(self.marker[last : found.start()]))
            parts.append(ends[found[1]].dt.strftime(found[2] or "%Y-%m-%dT%H:%M:%S"))
            last = found.end()
        return pl.concat_str(pl.lit(folder), *parts, pl.lit(self.marker[last:]))


def expected(
    written: Mapping[str, Any] | None, on_partial: str | None, deadline: str | None, partial: str | None
) -> Expectation | None:
    """Read what is expected of windows, None if nothing is.

    Raises
    ------
    Fault
        At ``expect``, ``on_partial``, ``deadline`` or ``partial``, if that does not go together.
    """
    if written is None:
        for argument, given in (("on_partial", on_partial), ("deadline", deadline), ("partial", partial)):
            if given is not None:
                what = f"{argument} is for incomplete windows, and there is no expect"
                raise Fault(what, "add expect, such as expect: {rows: 100}", (argument,))
        return None
    if (on_partial or "wait") == "wait":
        for argument, given in (("deadline", deadline), ("partial", partial)):
            if given is not None:
                what = f"on_partial: wait publishes no incomplete window, so it takes no {argument}"
                raise Fault(what, f"say on_partial: emit, or remove {argument}", (argument,))
    elif deadline is None:
        what = f"on_partial: {on_partial} needs to know how long to wait for a window"
        raise Fault(what, "add deadline, such as deadline: 6h", ("on_partial",))
    if on_partial == "emit" and partial is None:
        what = "on_partial: emit needs a column that marks incomplete windows"
        raise Fault(what, "add partial: the name of that column", ("on_partial",))
    if on_partial == "fail" and partial is not None:
        raise Fault(
            "on_partial: fail publishes no incomplete window, so it takes no partial",
            "say on_partial: emit, or remove partial",
            ("partial",),
        )
    marker = written.get("marker")
    if marker is not None:
        _check_marker(marker)
    return Expectation(
        written.get("files"),
        written.get("rows"),
        written.get("values", NOTHING),
        marker,
        None if deadline is None else lateness(deadline, "deadline"),
        on_partial == "fail",
        partial,
    )


def _check_marker(marker: str) -> None:
    rest = _PLACE.sub("", marker)
    if rest == marker or "{" in rest or "}" in rest:
        what = f"marker {marker!r} does not say which window it is for"
        raise Fault(what, "write the window's start into it, such as done/{start:%Y-%m-%dT%H}.ok", ("expect", "marker"))
    for found in _PLACE.finditer(marker):
        try:
            pl.select(pl.lit(0).cast(pl.Datetime("us")).dt.strftime(found[2] or "%Y"))
        except pl.exceptions.PolarsError:
            what = f"marker {marker!r} has a time format that cannot be used"
            raise Fault(what, "write it such as {start:%Y-%m-%dT%H}", ("expect", "marker")) from None


def known_values(expectation: Expectation, schema: pl.Schema, by: Sequence[str] | None) -> None:
    """Raise Fault at ``expect`` where columns are not there, values are none of theirs, or different ones cannot be counted.

    ``by`` are the columns of groups, None where rows are no groups.
    """
    for column, wanted in expectation.values.items():
        at = ("expect", "values", column)
        if column not in schema:
            raise Fault(f"unknown column {column!r}", nearest(column, schema, "columns"), at)
        if not isinstance(wanted, tuple):
            if by is not None and column not in by:
                what = f"how many different values of {column!r} a window has is known only of columns of by"
                raise Fault(what, f"list the values, or add {column} to by", at)
            continue
        for place, value in enumerate(wanted):
            try:
                condition = bind(expectation.condition(column, value), schema)
                try_out(condition, empty(schema))
            except (SqlError, pl.exceptions.PolarsError):
                what = f"{value!r} is not a value of column {column!r}, which is {schema[column]}"
                raise Fault(what, "write values of the column's type", (*at, place)) from None
