"""``fill``: replace nulls."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Literal
from zoneinfo import ZoneInfo

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table, carry_partitions, ordering
from lazypipe.spec.arguments import COLUMNS, SCALAR, TEXTS, arg, choice
from lazypipe.spec.model import Fault


@dataclass(frozen=True)
class Fill(Operation):
    """Replace nulls with a value, or with the last (forward) or next (backward) value in an order.

    Every row stays, and so do the types: a value of another type than the column's is refused. Write dates and times
    as ISO text, such as 2013-01-31T12:00. Forward and backward need ``order_by``, and stay within the groups of
    ``by``. Where there is no value to fill from, null stays.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> step = {"fill": {"columns": "a", "strategy": "forward", "order_by": "t"}}
    >>> lp.apply(step, pl.LazyFrame({"t": [1, 2], "a": [7, None]})).collect().rows()
    [(1, 7), (2, 7)]
    """

    name: ClassVar[str] = "fill"
    columns: tuple[str, ...] = arg(COLUMNS, "The columns to fill.")
    value: Any = arg(SCALAR, "The value to put in place of null.", default=None)
    strategy: Literal["forward", "backward"] | None = arg(
        choice("forward", "backward"), "Fill with the last value (forward) or the next one (backward).", default=None
    )
    order_by: tuple[str, ...] = arg(TEXTS, "The order of the rows; needed for forward and backward.", default=())
    by: tuple[str, ...] = arg(COLUMNS, "The groups to fill within. Default: all rows are one group.", default=())

    def __post_init__(self) -> None:
        """Check that there is one way to fill."""
        if (self.value is None) == (self.strategy is None):
            raise Fault("fill needs one way to fill", "give value or strategy", ("columns",))
        if self.strategy is not None and not self.order_by:
            raise Fault(f"strategy: {self.strategy} needs an order", "add order_by: [column]", ("strategy",))
        if self.value is not None and (self.order_by or self.by):
            raise Fault("a value needs no order and no groups", "remove order_by and by", ("value",))

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``fill_null``, or to a fill over partitions in an order."""
        scope.columns(self.columns, table.schema, "columns")
        if self.strategy is None:
            return table.frame.with_columns(self._filled(c, table.schema, scope) for c in self.columns)
        scope.columns(self.by, table.schema, "by")
        order = ordering(self.order_by, table.schema, scope, "order_by")
        names = [pl.col(c) for c in self.columns]
        filled = [c.forward_fill() if self.strategy == "forward" else c.backward_fill() for c in names]
        frame = order.sort(table.frame)
        return frame.with_columns([e.over(self.by) for e in filled] if self.by else filled)

    def each(self, table: Table, scope: Scope) -> bool:
        """Yes, unless values come from other rows."""
        return self.strategy is None

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Each row is made of itself, or of those of its partition if values come from others."""
        return self.lower(table, scope) if self.strategy is None else carry_partitions(self, table, scope, self.by)

    def _filled(self, column: str, schema: pl.Schema, scope: Scope) -> pl.Expr:
        dtype = schema[column]
        value = _fitting(self.value, dtype)
        if value is None:
            what = f"{self.value!r} does not fit column {column!r}, which is {dtype}"
            raise scope.fault(what, "write a value of that type", "value")
        return pl.col(column).fill_null(pl.lit(value, dtype=dtype))


def _fitting(value: Any, dtype: pl.DataType) -> Any:
    """Return ``value`` as one of ``dtype``; None if it is not, so that a column never changes its type."""
    number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    try:
        match dtype:
            case pl.Boolean():
                value = value if isinstance(value, bool) else None
            case _ if dtype.is_float():
                return float(value) if number else None
            case pl.Decimal():
                value = Decimal(str(value)) if number else None
            case pl.String() | pl.Categorical() | pl.Enum():
                value = value if isinstance(value, str) else None
            case pl.Date() | pl.Time():
                kind = date if isinstance(dtype, pl.Date) else time
                value = kind.fromisoformat(value) if isinstance(value, str) else value
            case pl.Datetime():
                value = datetime.fromisoformat(value) if isinstance(value, str) else value
                zone = None if dtype.time_zone is None else ZoneInfo(dtype.time_zone)
                if value.tzinfo is None:
                    value = value.replace(tzinfo=zone)
                else:
                    value = None if zone is None else value.astimezone(zone)
            case pl.Duration():
                value = value if isinstance(value, timedelta) else None
            case _:
                value = value if number and dtype.is_integer() else None
        return value if value == pl.Series([value], dtype=dtype, strict=True)[0] else None
    except (ValueError, ArithmeticError, AttributeError, TypeError, pl.exceptions.PolarsError):
        return None
