"""Rules that compare columns of one row: ``compare``, ``sum_equals``."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from typing import Any, ClassVar, Literal, get_args

import polars as pl

from lazypipe.gates.rule import Check, Rule
from lazypipe.gates.rules.helpers import NUMBERS, comparable, fitting, is_text, spacing
from lazypipe.spec.arguments import BOUND, COLUMN, COLUMNS, NUMBER, arg, choice
from lazypipe.spec.model import Fault
from lazypipe.spec.scope import Scope
from lazypipe.spec.types import dtype_name

Op = Literal["<", "<=", "=", "!=", ">=", ">"]
_OPS: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Compare(Rule):
    """Two columns of a row must compare as stated, such as ``start <= end``. If either is null, the row passes.

    NaN equals NaN, and violates every comparison by order. Numbers compare with numbers (an integer and a float as
    floats), text with text, and dates with datetimes (a date counts as its midnight). Other types compare only with
    the same type. Two datetimes must either both have a time zone, and compare as instants, or both have none.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> frame = pl.DataFrame({"start": [1, 5, None], "end": [2, 2, 2]})
    >>> lp.check(frame, [{"compare": {"left": "start", "op": "<=", "right": "end"}}]).failed
    {'compare:start <= end': 1}
    """

    name: ClassVar[str] = "compare"
    left: str = arg(COLUMN, "The column on the left.")
    op: Op = arg(choice(*get_args(Op)), 'The comparison. In YAML, put ">", ">=" and "!=" in quotes.')
    right: str = arg(COLUMN, "The column on the right.")

    def __post_init__(self) -> None:
        """Check the operator."""
        super().__post_init__()
        if self.op not in _OPS:
            raise Fault(f"unknown op {self.op!r}", f"write one of {' '.join(_OPS)}", ("op",))

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: the comparison is false."""
        scope.columns([self.left], schema, "left")
        scope.columns([self.right], schema, "right")
        comparable([self.left], schema, scope, "left")
        comparable([self.right], schema, scope, "right")
        left, right = schema[self.left], schema[self.right]
        holds = _OPS[self.op](*self._sides(left, right, scope))
        violated = ~holds
        floats = [c for c, t in ((self.left, left), (self.right, right)) if t.is_float()]
        if floats and self.op not in ("=", "!="):
            # Polars orders NaN above everything
            violated = violated | (holds & pl.any_horizontal(pl.col(c).is_nan() for c in floats))
        return [self.check(f"{self.left} {self.op} {self.right}", schema, scope, violated=violated)]

    def _sides(self, left: pl.DataType, right: pl.DataType, scope: Scope) -> tuple[pl.Expr, pl.Expr]:
        """Return both columns in forms that compare exactly."""
        a, b = pl.col(self.left), pl.col(self.right)
        if pl.Null in (left, right):
            nothing = pl.lit(None, dtype=pl.Int8)
            return nothing, nothing
        if left == right:
            if self.op not in ("=", "!=") and left.is_nested():
                what = f"column {self.left!r} is {dtype_name(left)}, which has no order"
                raise scope.fault(what, "compare with = or !=, or compare parts of it with expression", "left")
            return a, b
        if left.is_numeric() and right.is_numeric() and _meet(left, right):
            return a, b
        if is_text(left) and is_text(right):
            return a.cast(pl.String), b.cast(pl.String)
        if _clock(left) is not None and _clock(left) == _clock(right):
            return _nanoseconds(a, left), _nanoseconds(b, right)
        what = f"{self.left!r} is {dtype_name(left)} and {self.right!r} is {dtype_name(right)}, which do not compare"
        raise scope.fault(what, "cast one of them first", "right")


@dataclass(frozen=True)
class SumEquals(Rule):
    """The sum of columns must equal a total: another column or a number. If any of them is null, the row passes.

    Integers and decimals are added exactly, and may differ by ``tolerance``. If one of the columns is a float (or a
    UInt128, which is added as a float), the sum is a float too, and the rounding error of that type is allowed on
    top. NaN and infinities violate.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> frame = pl.DataFrame({"net": [0.1, 1.0, None], "tax": [0.2, 0.2, 0.0], "gross": [0.3, 1.3, 1.0]})
    >>> lp.check(frame, [{"sum_equals": {"columns": ["net", "tax"], "total": "gross"}}]).failed
    {'sum_equals:net,tax': 1}
    """

    name: ClassVar[str] = "sum_equals"
    columns: tuple[str, ...] = arg(COLUMNS, "The columns to add.")
    total: str | int | float | Decimal = arg(BOUND, "The total that the sum must equal: a column or a number.")
    tolerance: int | float | Decimal = arg(
        NUMBER, "The greatest difference allowed between sum and total. Default: 0.", default=0
    )

    def __post_init__(self) -> None:
        """Check that the numbers are numbers."""
        super().__post_init__()
        if not _is_finite(self.tolerance) or self.tolerance < 0:
            raise Fault(f"{self.tolerance!r} is not a tolerance", "write a number, zero or more", ("tolerance",))
        if not isinstance(self.total, str) and not _is_finite(self.total):
            raise Fault(f"{self.total!r} is not a total", "write a column or a number", ("total",))

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: the sum differs."""
        sides = [fitting(c, schema, scope, NUMBERS, "columns", i) for i, c in enumerate(self.columns)]
        total = Fraction(0)
        if isinstance(self.total, str):
            column, dtype = fitting(self.total, schema, scope, NUMBERS, "total")
            sides.append((column, dtype))
        else:
            total = Fraction(Decimal(str(self.total)))
        exact = not any(t.is_float() or t == pl.UInt128 for _, t in sides)
        differs = self._differs_exactly if exact else self._differs
        return [self.check(",".join(self.columns), schema, scope, violated=differs(sides, total))]

    def _signed(self, terms: Sequence[pl.Expr]) -> pl.Expr:
        """Return the sum less the total, if that is a column (then it is the last term)."""
        added, taken = terms[: len(self.columns)], terms[len(self.columns) :]
        left: pl.Expr = reduce(operator.add, added)
        return reduce(operator.sub, taken, left)

    def _differs_exactly(self, sides: Sequence[tuple[pl.Expr, pl.DataType]], total: Fraction) -> pl.Expr:
        scale = max(t.scale if isinstance(t, pl.Decimal) else 0 for _, t in sides)
        # sums that wrap round are equal where the true ones are
        sums = self._signed([_scaled(c, t, scale) for c, t in sides])
        least, most = (total + sign * Fraction(Decimal(str(self.tolerance))) for sign in (-1, 1))
        low, high = math.ceil(least * 10**scale), math.floor(most * 10**scale)
        return ~sums.is_between(_wide(low), _wide(high))

    def _differs(self, sides: Sequence[tuple[pl.Expr, pl.DataType]], total: Fraction) -> pl.Expr:
        terms = [c.cast(pl.Float64) for c, _ in sides]
        away = (self._signed(terms) - float(total)).abs()
        amount: pl.Expr = reduce(operator.add, (t.abs() for t in terms)) + abs(float(total))
        lost = len(terms) * max(spacing(t) for _, t in sides)
        return ~(away <= float(self.tolerance) + amount * lost) | ~amount.is_finite()


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool) and math.isfinite(value)


def _scaled(column: pl.Expr, dtype: pl.DataType, scale: int) -> pl.Expr:
    """Return a number counted in steps of ``10**-scale``."""
    own = dtype.scale if isinstance(dtype, pl.Decimal) else 0
    steps = column.to_physical().cast(pl.Int128)
    return steps if own == scale else steps * _wide(10 ** (scale - own))


def _wide(value: int) -> pl.Expr:
    return pl.lit(max(-(2**127), min(value, 2**127 - 1)), dtype=pl.Int128)


def _meet(left: pl.DataType, right: pl.DataType) -> bool:
    """Whether Polars has a type that holds both numbers: there is none for UInt128 and signed ones."""
    return pl.UInt128 not in (left, right) or all(t.is_float() or t.is_unsigned_integer() for t in (left, right))


def _clock(dtype: pl.DataType) -> str | None:
    """Return which kind of time a type holds; only times of one kind can be compared. None for other types."""
    match dtype:
        case pl.Date():
            return "local"
        case pl.Datetime():
            return "local" if dtype.time_zone is None else "moment"
        case pl.Duration():
            return "span"
    return None


_NANOSECONDS = {"ms": 10**6, "us": 10**3, "ns": 1}


def _nanoseconds(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    # the units differ, and the finer one does not reach as far
    each = _NANOSECONDS[dtype.time_unit] if isinstance(dtype, pl.Datetime | pl.Duration) else 86_400 * 10**9
    return column.to_physical().cast(pl.Int128) * each
