"""``aggregate``: one row per group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import polars as pl

from lazypipe.in_order import grouped
from lazypipe.ops.base import MADE, Fold, Operation, Scope, Table, reads_one_row
from lazypipe.spec.arguments import COLUMNS, SQLS, arg
from lazypipe.spec.model import NOTHING
from lazypipe.sql.bind import bind, tried
from lazypipe.sql.exprs import dtype_of, empty
from lazypipe.sql.steps import calls
from lazypipe.sql.text import SqlError


@dataclass(frozen=True)
class Aggregate(Operation):
    """Group rows by columns and compute aggregates: one row per group. Without ``by``, all rows form one group.

    Null is a group of its own. Aggregates ignore nulls, as in SQL; ``count(*)`` counts rows. The order of the result
    is not guaranteed.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> step = {"aggregate": {"by": "g", "aggregate": {"n": "count(*)", "mean": "avg(x)"}}}
    >>> lp.apply(step, pl.LazyFrame({"g": ["a", "a"], "x": [1, 3]})).collect().rows()
    [('a', 2, 2.0)]
    """

    name: ClassVar[str] = "aggregate"
    aggregate: Mapping[str, str | pl.Expr] = arg(SQLS, "New column → SQL aggregate, such as count(*) or avg(x).")
    by: tuple[str, ...] = arg(COLUMNS, "The columns to group by. Default: all rows are one group.", default=())

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``group_by().agg()``, after a sort where aggregates need it; or to ``select`` without groups."""
        return self.lowered(table, scope)

    def lowered(self, table: Table, scope: Scope, **known: Any) -> pl.LazyFrame:
        """Lower it, with what is ``known`` of the columns of groups; see ``in_order.grouped``."""
        exprs = self._exprs(table, scope)
        by = list(dict.fromkeys(self.by))
        return grouped(table.frame, table.schema, by, exprs, **known) if by else table.frame.select(exprs)

    def large(self, large: frozenset[str]) -> bool:
        """It is not known how many groups there are."""
        return False

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Each row is made of those of its group."""
        exprs = self._exprs(table, scope)
        if not self.by:
            return table.frame.select(*exprs, MADE.implode())
        return table.frame.group_by(list(dict.fromkeys(self.by))).agg(*exprs, MADE)

    def check(self, table: Table, scope: Scope) -> None:
        """Raise Fault where an argument does not fit the schema."""
        self._typed(table, scope)

    def _exprs(self, table: Table, scope: Scope) -> list[pl.Expr]:
        return self._typed(table, scope)[0]

    def _typed(self, table: Table, scope: Scope) -> tuple[list[pl.Expr], pl.Schema]:
        """Return the aggregates, and the types that they have."""
        scope.columns(self.by, table.schema, "by")
        exprs = []
        for name, text in self.aggregate.items():
            if name in self.by:
                raise scope.fault(
                    f"{name!r} is a group column already", "give the aggregate another name", "aggregate", name
                )
            exprs.append(scope.expr(text, table.schema, "aggregate", name, keys=self.by).alias(name))
        texts = tuple(
            (name, text) for name, text in self.aggregate.items() if isinstance(text, str) and ":" not in text
        )
        told = len(texts) == len(self.aggregate)  # there are no parameters in any
        plain, grouped = _known_types(texts, tuple(table.schema.items())) if told else _types(exprs, table.schema)
        for name in self.aggregate:
            if grouped[name] == pl.List(plain[name]):
                what = f"{name!r} is not an aggregate"
                raise scope.fault(what, "wrap it in sum(), min(), max(), first() … or add it to by", "aggregate", name)
        return exprs, grouped if self.by else plain

    def fold(self, table: Table, scope: Scope, groups: Iterable[str] | None = None) -> Fold | None:
        """Aggregate each part, then the figures of the parts; where every aggregate is made of calls of functions that add up.

        ``groups`` are the columns that tell apart what is made of parts, where they are others than those of the figures.
        """
        parts: dict[str, pl.Expr] = {}
        merged: list[pl.Expr] = []
        made: list[pl.Expr] = []
        _, final = self._typed(table, scope)
        for index, (name, text) in enumerate(self.aggregate.items()):
            figures = _in_figures(text, figure(index), table, scope) if isinstance(text, str) else None
            if figures is None:
                return None
            parts |= figures.parts
            merged += figures.merged
            made.append(figures.value.cast(final[name]).alias(name))
        by = list(dict.fromkeys(self.by))
        whole = by if groups is None else list(dict.fromkeys(groups))
        each = table.frame.group_by([*by, *table.extra]).agg(e.alias(n) for n, e in parts.items())

        def merge(rows: pl.LazyFrame) -> pl.LazyFrame:
            found = rows.group_by(whole).agg(merged) if whole else rows.select(merged)
            return found.select(*whole, *made)

        # a pattern names columns that no expression does
        plain = not any("columns" in str(text).lower() for text in self.aggregate.values())
        reads = frozenset(by).union(*(e.meta.root_names() for e in parts.values())) if plain else None
        return Fold(each, merge, tuple(whole), reads=reads)


def _types(exprs: Sequence[pl.Expr], schema: pl.Schema) -> tuple[pl.Schema, pl.Schema]:
    """Return the types of expressions over all rows, and over the rows of each group."""
    stub = empty(schema).lazy()
    groups = stub.group_by(pl.lit(1).alias("__lazypipe_group"))
    return stub.select(exprs).collect_schema(), groups.agg(exprs).collect_schema()


# a run asks this of the same texts several times
@lru_cache(maxsize=256)
def _known_types(
    texts: tuple[tuple[str, str], ...], columns: tuple[tuple[str, pl.DataType], ...]
) -> tuple[pl.Schema, pl.Schema]:
    schema = pl.Schema(columns)
    return _types([tried(text, schema, NOTHING).alias(name) for name, text in texts], schema)


@dataclass(frozen=True)
class _Figures:
    """How an aggregate is computed in parts: the figures of each part, how these are merged, and the aggregate's value from the merged ones."""

    parts: Mapping[str, pl.Expr]
    merged: Sequence[pl.Expr]
    value: pl.Expr


def _in_figures(text: str, name: str, table: Table, scope: Scope) -> _Figures | None:
    schema = _named(text, table.schema)
    if ":" in text:  # perhaps parameters
        return _taken_apart(text, name, schema, scope.params)
    return _known(text, name, tuple(schema.items()))


def _named(text: str, schema: pl.Schema) -> pl.Schema:
    """Return the columns that an expression may name: it need not be tried out over a thousand others."""
    if "columns" in text.lower():  # by a pattern
        return schema
    # quotes in names are doubled
    found = {n: t for n, t in schema.items() if n in text or '"' in n}
    return pl.Schema(found or [*schema.items()][:1])


# a run asks this of the same text several times
@lru_cache(maxsize=256)
def _known(text: str, name: str, columns: tuple[tuple[str, pl.DataType], ...]) -> _Figures | None:
    return _taken_apart(text, name, pl.Schema(columns), NOTHING)


def _taken_apart(text: str, name: str, schema: pl.Schema, params: Mapping[str, Any]) -> _Figures | None:
    found = calls(text, name)
    if found is None:
        return None
    rest, made_of = found
    parts: dict[str, pl.Expr] = {}
    stub = empty(schema).lazy()
    merged, types = list[pl.Expr](), dict[str, pl.DataType]()
    for column, call in made_of.items():
        figures = figures_of(column, call.function, call.argument, schema, params)
        if figures is None:
            return None
        whole = bind(f"{call.function}({call.argument})", schema, params)
        types[column] = stub.select(whole.alias(column)).collect_schema()[column]
        parts |= figures[0]
        merged.append(figures[1].cast(types[column]).alias(column))
    made = pl.Schema(types)
    try:
        value = bind(rest, made, params)
    except SqlError:  # something else is made of rows in it
        return None
    return _Figures(parts, merged, value) if reads_one_row([value], made) else None


def figure(place: int) -> str:
    """Return the name of what is kept of each part for the aggregate at a place, if that is one figure."""
    return f"__lazypipe_{place}"


def figures_of(
    name: str, function: str, argument: str, schema: pl.Schema, params: Mapping[str, Any]
) -> tuple[dict[str, pl.Expr], pl.Expr] | None:
    """Return what is kept of each part for a call, and what all parts together make of it; None if that would not be the same."""
    value = pl.lit(0) if argument == "*" else bind(argument, schema, params)
    if not reads_one_row([value], schema):  # it looks at other rows of its part, as sum(a - min(a)) does
        return None
    if function == "avg":
        dtype = dtype_of(value, schema)
        if not (dtype.is_integer() or dtype in (pl.Float64, pl.Boolean)):
            return None
        count = bind(f"count({argument})", schema, params)
        number = pl.col(f"{name}_count")
        # not its sum twice: Polars would compute that once, as a column, and of one row for all make as many as there are parts
        mean = pl.when(number.max() > 0).then(pl.col(f"{name}_sum").sum() / number.sum())
        return {f"{name}_sum": value.cast(pl.Float64).sum(), f"{name}_count": count}, mean
    figure = {name: bind(f"{function}({argument})", schema, params)}
    number = pl.col(name)
    # the sum of no values is null in SQL
    total = pl.when(number.count() > 0).then(number.sum())
    return figure, {"min": number.min(), "max": number.max(), "count": number.sum()}.get(function, total)
