"""Rules on whole frames: ``row_count``, ``column_count``, ``schema``, ``completeness``, ``proportion``, ``distinct_count``, ``most_common``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import and_
from typing import Any, ClassVar, Literal

import polars as pl

from lazypipe.gates import figures
from lazypipe.gates.frame_rule import (
    Bounds,
    CountRule,
    FrameRule,
    GroupedRule,
    bounds,
    fraction,
    literal,
    need_bound,
    percent,
    typed,
)
from lazypipe.gates.rule import VALUE, Check, Measure
from lazypipe.gates.rules.helpers import comparable, distinct_names, namable
from lazypipe.spec.arguments import (
    BOUND,
    CHOSEN,
    COLUMN,
    COLUMNS,
    FLAG,
    INPUT,
    SCALAR,
    SQL,
    Kind,
    arg,
    check_dtype,
    choice,
)
from lazypipe.spec.model import Fault, freeze
from lazypipe.spec.scope import Scope
from lazypipe.spec.types import dtype_name, instance_of
from lazypipe.sql.exprs import columns_of

_OTHER = "__lazypipe_other"
_ITEM = "__lazypipe_item"
_TIMES = "__lazypipe_times"
_RIGHT = "__lazypipe_right"
_WRONG = "__lazypipe_wrong"


@dataclass(frozen=True, kw_only=True)
class RowCount(CountRule, GroupedRule):
    """The number of rows must lie within bounds, or equal that of another frame. Rows of nothing but nulls count.

    With ``by``, each group that has rows is counted. A group without rows is noticed only by ``same_as``, which takes
    the groups of the other frame into account. ``where`` restricts the rows of this frame, not those of the other
    one.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [1, None]}), [{"row_count": {"min": 3}}]).failed
    {'row_count': 1}
    """

    name: ClassVar[str] = "row_count"
    others: ClassVar[tuple[str, ...]] = ("same_as",)
    same_as: str | None = arg(
        INPUT,
        "The frame that must have as many rows: a source, a stage, or the URI of a dataset or of files.",
        default=None,
    )

    def frames(self) -> Mapping[str, str]:
        """Return the frame whose rows are counted too."""
        return {} if self.same_as is None else {"same_as": self.same_as}

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: too few or too many."""
        figure = figures.row_count()
        allowed = self.allowed(scope, "the number of rows")
        if self.same_as is None:
            assert allowed is not None
            return [self.measured("", schema, scope, figure, allowed)]
        other = self.same_as
        same = Bounds(pl.col(VALUE) == pl.col(_OTHER), f"as many as in {other}")
        both = [b for b in (allowed, same) if b is not None]
        measure = Measure(
            accept=reduce(and_, (b.accept for b in both)),
            expected=" and ".join(b.expected for b in both),
            query=partial(_counted_beside, other=other, by=self.by),
            frames=(other,),
            by=self.by,
        )
        return [self.check(self.subject("", schema, scope), schema, scope, measure=measure)]


def _counted_beside(
    rows: pl.LazyFrame, frames: Mapping[str, pl.LazyFrame], *, other: str, by: Sequence[str]
) -> pl.LazyFrame:
    """Return how many rows there are here and in the other frame, null where there is none."""
    here = _counted(rows, by, VALUE)
    if other not in frames:
        return here.with_columns(pl.lit(None, dtype=pl.Int64).alias(_OTHER))
    there = _counted(frames[other], by, _OTHER)
    if not by:
        return here.join(there, how="cross")
    joined = here.join(there, on=by, how="full", nulls_equal=True, coalesce=True)
    return joined.with_columns(pl.col(VALUE, _OTHER).fill_null(0))


def _counted(rows: pl.LazyFrame, by: Sequence[str], name: str) -> pl.LazyFrame:
    count = pl.len().cast(pl.Int64).alias(name)
    return rows.group_by(by).agg(count) if by else rows.select(count)


@dataclass(frozen=True, kw_only=True)
class ColumnCount(CountRule):
    """The number of columns must lie within bounds, whatever their names. Rows and nulls do not matter.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [1], "b": ["x"]}), [{"column_count": {"min": 3, "max": 5}}]).checks[0].value
    2
    """

    name: ClassVar[str] = "column_count"

    def __post_init__(self) -> None:
        """Check that no rows are asked for."""
        super().__post_init__()
        _no_rows(self)

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: too few or too many."""
        allowed = self.allowed(scope, "the number of columns")
        assert allowed is not None
        return [_known(self, "", schema, scope, len(schema), allowed)]


def _no_rows(rule: FrameRule) -> None:
    """Raise Fault where a rule on columns is restricted to some rows."""
    if rule.where is not None:
        raise Fault(f"{rule.name} is about columns, not rows", "remove where", ("where",))


def _known(rule: FrameRule, subject: str, schema: pl.Schema, scope: Scope, found: Any, allowed: Bounds) -> Check:
    """Return the check of what is known of the columns before any row is read."""
    # a part, though nothing is to be added: rows need not be asked in a query of their own
    parts = figures.row_count().parts
    measure = Measure(accept=allowed.accept, expected=allowed.expected, value=pl.lit(found), parts=parts)
    return rule.check(subject, schema, scope, measure=measure)


@dataclass(frozen=True)
class Schema(FrameRule):
    """The frame must have these columns and, given a mapping, these types. Rows and nulls do not matter.

    A difference is known at compile time, but is reported like any other violation: by the run, which then fails or
    warns.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> frame = pl.DataFrame({"a": [1], "b": ["x"]})
    >>> report = lp.check(frame, [{"schema": {"a": "String", "c": "Date"}}])
    >>> report.checks[0].value
    'missing: c; not expected: b; type of a is Int64, not String'
    """

    name: ClassVar[str] = "schema"
    shorthand: ClassVar[str] = "columns"
    columns: tuple[str, ...] | Mapping[str, str] = arg(CHOSEN, "The column → type, or a list of columns.")
    mode: Literal["exact", "superset", "subset"] = arg(
        choice("exact", "superset", "subset"),
        "exact: these columns only; superset: these columns, and perhaps others; subset: no other columns than these.",
        default="exact",
    )
    ordered: bool = arg(
        FLAG, "Whether the columns must come in this order; other columns may stand between them.", default=False
    )
    types: Literal["exact", "kind"] = arg(
        choice("exact", "kind"),
        "exact: the same type; kind: the same kind of type, such as integers of any width, floats of any "
        "width, text in any encoding, datetimes and durations of any unit.",
        default="exact",
    )

    def __post_init__(self) -> None:
        """Check that columns are named once and types exist."""
        super().__post_init__()
        if not self.columns:
            raise Fault("schema needs columns", "name at least one", ("columns",))
        _no_rows(self)
        for argument, words in (("mode", ("exact", "superset", "subset")), ("types", ("exact", "kind"))):
            if getattr(self, argument) not in words:
                what = f"unknown {argument} {getattr(self, argument)!r}"
                raise Fault(what, f"write {', '.join(words[:-1])} or {words[-1]}", (argument,))

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: what differs, in words."""
        wanted: dict[str, pl.DataType | None]
        if isinstance(self.columns, Mapping):
            wanted = {}
            for name, written in self.columns.items():
                try:
                    wanted[name] = check_dtype(written)
                except Fault as fault:
                    raise scope.fault(fault.what, fault.fix, "columns", name) from None
        else:
            distinct_names(self.columns, scope, "columns")
            wanted = dict.fromkeys(self.columns)
        found = self._difference(wanted, schema)
        words = {"exact": "", "superset": " and perhaps more", "subset": " or fewer"}[self.mode]
        expected = ", ".join(n if d is None else f"{n} {dtype_name(d)}" for n, d in wanted.items())
        return [_known(self, "columns", schema, scope, found, Bounds(pl.col(VALUE) == "", f"{expected}{words}"))]

    def _difference(self, wanted: Mapping[str, pl.DataType | None], schema: pl.Schema) -> str:
        said = []
        missing = [n for n in wanted if n not in schema]
        if missing and self.mode != "subset":
            said.append(f"missing: {', '.join(missing)}")
        more = [n for n in schema if n not in wanted]
        if more and self.mode != "superset":
            said.append(f"not expected: {', '.join(more)}")
        for name, dtype in wanted.items():
            if dtype is not None and name in schema and not self._same(schema[name], dtype):
                said.append(f"type of {name} is {dtype_name(schema[name])}, not {dtype_name(dtype)}")
        order, there = [n for n in wanted if n in schema], [n for n in schema if n in wanted]
        if self.ordered and order != there:
            said.append(f"order is {', '.join(there)}, not {', '.join(order)}")
        return "; ".join(said)

    def _same(self, one: pl.DataType, other: pl.DataType) -> bool:
        return one == other or (self.types == "kind" and _kind(one) == _kind(other))


def _kind(dtype: pl.DataType) -> Any:
    """Return what types of one kind have in common."""
    match dtype:
        case pl.Datetime():
            return pl.Datetime, dtype.time_zone is None
        case pl.List() | pl.Array():
            return pl.List, _kind(instance_of(dtype.inner))
        case pl.Struct():
            return pl.Struct, tuple((f.name, _kind(instance_of(f.dtype))) for f in dtype.fields)
        case pl.String() | pl.Categorical() | pl.Enum():
            return pl.String
        case pl.Duration() | pl.Decimal():
            return dtype.base_type()
    return "integer" if dtype.is_integer() else "float" if dtype.is_float() else dtype


@dataclass(frozen=True)
class Completeness(GroupedRule):
    """At least a fraction of the rows, by default all, must have a value in the column. NaN is a value; without rows the rule passes.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> frame = pl.DataFrame({"a": [1, None, 3]})
    >>> report = lp.check(frame, [{"completeness": {"column": "a", "min": "60%"}}, {"completeness": {"column": "a"}}])
    >>> [c.status for c in report.checks]
    ['pass', 'fail']
    """

    name: ClassVar[str] = "completeness"
    column: str = arg(COLUMN, "The column to check.")
    min: Any = arg(BOUND, "The smallest fraction of rows with a value: 0.95 or 95%.", default="100%")

    def __post_init__(self) -> None:
        """Check the fraction."""
        super().__post_init__()
        fraction(self.min, "min")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: too many nulls."""
        scope.columns([self.column], schema, "column")
        figure = figures.share(pl.col(self.column).is_not_null(), pl.len())
        least = float(fraction(self.min, "min"))
        allowed = bounds(scope, pl.Float64(), "a part of rows", least=least, show=percent)
        return [self.measured(self.column, schema, scope, figure, allowed, columns=[self.column], column=self.column)]


@dataclass(frozen=True, kw_only=True)
class Proportion(GroupedRule):
    """The fraction of rows that have a value, or meet a condition, must lie within bounds. Nulls are ignored.

    The fraction is that of the rows for which the condition is true or false; if there are none, the rule passes.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> rules = [{"proportion": {"column": "a", "value": "x", "max": "50%"}}]
    >>> lp.check(pl.DataFrame({"a": ["x", "x", "y", None]}), rules).failed
    {'proportion:a = x': 1}
    """

    name: ClassVar[str] = "proportion"
    column: str | None = arg(COLUMN, "The column in which the value is counted.", default=None)
    value: Any = arg(SCALAR, "The value.", default=None)
    condition: str | pl.Expr | None = arg(SQL, "Instead of column and value: a SQL condition.", default=None)
    min: Any = arg(BOUND, "The smallest fraction of rows: 0.2 or 20%.", default=None)
    max: Any = arg(BOUND, "The largest fraction of rows: 0.2 or 20%.", default=None)

    def __post_init__(self) -> None:
        """Check that there is a bound, that bounds are fractions, and that what is counted is given exactly once."""
        super().__post_init__()
        need_bound(self, "min", "max")
        for name in ("min", "max"):
            if getattr(self, name) is not None:
                fraction(getattr(self, name), name)
        pair = (self.column is not None, self.value is not None)
        if pair != (True, True) if self.condition is None else any(pair):
            fix = "give column and value, or a condition"
            raise Fault("proportion must count exactly one thing", fix, ("condition",))

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: too small or too large a part."""
        if self.column is not None:
            scope.columns([self.column], schema, "column")
            namable(self.column, schema, scope)
            wanted = literal(self.value, schema[self.column], scope, "value", f"column {self.column!r}")
            hits, said = (pl.col(self.column) == wanted).cast(pl.Boolean), f"{self.column} = {self.value}"
        else:
            assert self.condition is not None
            hits, said = self.bind(self.condition, schema, scope, "condition"), str(self.condition)
        least, most = (None if w is None else float(fraction(w, "min")) for w in (self.min, self.max))
        allowed = bounds(scope, pl.Float64(), "a part of rows", least=least, most=most, show=percent)
        columns = sorted(columns_of(hits))
        figure = figures.share(hits, hits.count())
        return [self.measured(said, schema, scope, figure, allowed, columns=columns, column=self.column)]


@dataclass(frozen=True, kw_only=True)
class DistinctCount(CountRule, GroupedRule):
    """The number of distinct values, or combinations of values, must lie within bounds: numbers, or fractions of the rows (``50%``).

    Rows with a null are ignored, also when fractions are computed. Without other rows, fractions pass.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> rules = [{"distinct_count": {"columns": "a", "equals": 3}}, {"distinct_count": {"columns": "a", "min": "70%"}}]
    >>> report = lp.check(pl.DataFrame({"a": ["x", "x", "y", None]}), rules)
    >>> [(c.value, c.expected) for c in report.checks]
    [(2, 'exactly 3'), (0.6666666666666666, 'at least 70%')]
    """

    name: ClassVar[str] = "distinct_count"
    columns: tuple[str, ...] = arg(COLUMNS, "One column, or several whose combinations are counted.")

    def __post_init__(self) -> None:
        """Check that bounds are parts, or none of them is."""
        super().__post_init__()
        parts = self._parts()
        if parts and any(getattr(self, n) is not None and n not in parts for n in ("min", "max", "equals")):
            what = "a number and a part cannot bound the same"
            raise Fault(what, "write both as a part, such as 50%, or two rules", (*parts,)[:1])

    def _parts(self) -> dict[str, float]:
        """Return the bounds that are parts of the rows."""
        given = {n: getattr(self, n) for n in ("min", "max", "equals")}
        return {n: float(fraction(v, n)) for n, v in given.items() if isinstance(v, str) and v.strip().endswith("%")}

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: too few or too many."""
        scope.columns(self.columns, schema, "columns")
        distinct_names(self.columns, scope, "columns")
        comparable(self.columns, schema, scope, "columns")
        parts = self._parts()
        if parts:
            least, most, equals = (parts.get(n) for n in ("min", "max", "equals"))
            of = "a part of rows"
            allowed: Bounds | None = bounds(
                scope, pl.Float64(), of, least=least, most=most, equals=equals, show=percent
            )
        else:
            allowed = self.allowed(scope, "the number of values")
        assert allowed is not None
        figure, subject = figures.distinct(self.columns, part=bool(parts)), ",".join(self.columns)
        column = self.columns[0] if len(self.columns) == 1 else None
        return [self.measured(subject, schema, scope, figure, allowed, columns=self.columns, column=column)]


_VALUES = Kind(
    {"type": [*SCALAR.schema["type"], "array"], "items": SCALAR.schema, "minItems": 1},
    lambda v: freeze(v) if isinstance(v, list | tuple) else (v,),
)


@dataclass(frozen=True, kw_only=True)
class MostCommon(GroupedRule):
    """The most common value of a column must be one of those given. Nulls are ignored; without values the rule passes.

    If several values are equally common, all of them must be among those given; with ``ties: true``, one of them is
    enough.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> rules = [{"most_common": {"column": "a", "is": "y"}}]
    >>> lp.check(pl.DataFrame({"a": ["x", "x", "y", None]}), rules).failed
    {'most_common:a': 1}
    """

    name: ClassVar[str] = "most_common"
    column: str = arg(COLUMN, "The column to check.")
    is_: tuple[Any, ...] = arg(_VALUES, "The expected value, or a list of accepted ones.")
    ties: bool = arg(FLAG, "Whether one of several equally common values is enough.", default=False)

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: a value that is not given is the most common."""
        scope.columns([self.column], schema, "column")
        namable(self.column, schema, scope)
        dtype = schema[self.column]
        wanted = typed(self.is_, dtype, scope, "is", f"column {self.column!r}")
        if wanted.dtype.is_float() and dtype.is_integer():
            what = f"column {self.column!r} holds whole numbers, and {self.is_[0]} is none"
            raise scope.fault(what, "write whole numbers", "is")
        column = self.column
        right, wrong = pl.col(_RIGHT) > 0, pl.col(_WRONG) == 0
        shown = ", ".join(map(str, self.is_))
        measure = Measure(
            accept=(right | wrong) if self.ties else wrong,
            expected=f"one of {shown}" if len(self.is_) > 1 else shown,
            query=partial(_most_common, by=self.by, column=column, wanted=wanted, ties=self.ties),
            by=self.by,
            columns=(*self.by, column),
            holds=(column,),
        )
        return [self.check(self.subject(column, schema, scope), schema, scope, measure=measure, column=column)]


def _most_common(
    rows: pl.LazyFrame,
    _: Mapping[str, pl.LazyFrame],
    *,
    by: Sequence[str],
    column: str,
    wanted: pl.Series,
    ties: bool,
) -> pl.LazyFrame:
    """Return the value that decides, and how many of the most common ones are wanted, and are not."""
    item, times = pl.col(_ITEM), pl.col(_TIMES)
    top = item.filter((times > 0) & (times == times.max()))
    given = top.is_in(wanted.implode())
    counts = rows.select(*by, pl.col(column).alias(_ITEM)).group_by(*by, _ITEM).agg(item.count().alias(_TIMES))
    # the value to report is one that decides
    right, wrong = top.filter(given).min(), top.filter(~given).min()
    value = pl.coalesce(right, wrong) if ties else pl.coalesce(wrong, right)
    found = (value.alias(VALUE), given.sum().alias(_RIGHT), (~given).sum().alias(_WRONG))
    return counts.group_by(by).agg(found) if by else counts.select(found)
