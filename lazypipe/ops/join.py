"""``join``: add the columns of another stage, by equal keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import polars as pl

from lazypipe.in_order import together
from lazypipe.ops.base import (
    AHEAD,
    MADE,
    MADE_FROM,
    OTHER_MADE_FROM,
    Change,
    Match,
    Operation,
    Scope,
    Table,
    both_made,
    with_other_made,
)
from lazypipe.spec.arguments import CHOSEN, COLUMNS, FLAG, INPUT, TEXT, arg, choice
from lazypipe.spec.model import Fault


@dataclass(frozen=True)
class Join(Operation):
    """Join with another source or stage on equal keys.

    Null keys match nothing unless ``nulls_equal`` is true. The order of the result is not guaranteed.

    The key columns appear once, under this side's names, with the values of the side whose rows are kept (of both
    sides in a full join). A right join without ``columns`` keeps the other side's names instead.

    ``validate`` fails the run if the keys are not as unique as stated. Null keys count only if ``nulls_equal`` is
    true.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> left, right = pl.LazyFrame({"k": [1, 2]}), pl.LazyFrame({"k": [1], "v": ["x"]})
    >>> lp.apply({"join": {"with": "r", "on": "k", "how": "left"}}, left, r=right).sort("k").collect().rows()
    [(1, 'x'), (2, None)]
    """

    name: ClassVar[str] = "join"
    with_: str = arg(INPUT, "The other source or stage.")
    on: tuple[str, ...] = arg(COLUMNS, "The key columns that have the same name on both sides.", default=())
    left_on: tuple[str, ...] = arg(COLUMNS, "The key columns of this side, in the order of right_on.", default=())
    right_on: tuple[str, ...] = arg(COLUMNS, "The key columns of the other side, in the order of left_on.", default=())
    how: Literal["inner", "left", "right", "full", "semi", "anti", "cross"] = arg(
        choice("inner", "left", "right", "full", "semi", "anti", "cross"),
        "Which rows to keep. semi keeps rows of this side that match, anti those that do not, cross pairs "
        "every row with every other.",
        default="inner",
    )
    columns: tuple[str, ...] | Mapping[str, str] | None = arg(
        CHOSEN, "The columns of the other side to add; a mapping also renames them. Default: all.", default=None
    )
    suffix: str = arg(TEXT, "The suffix for columns of the other side whose name is already taken.", default="_right")
    validate: Literal["m:m", "m:1", "1:m", "1:1"] = arg(
        choice("m:m", "m:1", "1:m", "1:1"),
        "The uniqueness that the keys must have, as this side:other side; 1 means that each key occurs at "
        "most once, m any number of times.",
        default="m:m",
    )
    nulls_equal: bool = arg(FLAG, "Whether null keys match each other.", default=False)

    def __post_init__(self) -> None:
        """Check that the keys are given exactly once, and equally many on both sides."""
        if self.how == "cross":
            if self.on or self.left_on or self.right_on:
                raise Fault("a cross join has no keys", "remove them, or choose another how", ("how",))
        elif bool(self.on) == bool(self.left_on or self.right_on):
            raise Fault("the keys of a join must be given once", "give on, or left_on and right_on", ("with",))
        refuse_uneven("on", self.left_on, self.right_on)
        if self.columns is not None and self.how in ("semi", "anti"):
            raise Fault(f"{self.how} joins take no columns of the other side", "remove columns", ("columns",))
        if self.validate != "m:m" and self.how in ("semi", "anti", "cross"):
            raise Fault(f"{self.how} joins need no unique keys", "remove validate", ("validate",))

    def multiplies(self) -> bool:
        """Unless one side's keys are unique for sure: each row then finds one at most, and is there once."""
        return self.how not in ("semi", "anti") and self.validate == "m:m"

    def inputs(self) -> tuple[str, ...]:
        """Return the other side."""
        return (self.with_,)

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower to ``join``."""
        other = scope.table(self.with_)
        left, right = self.on or self.left_on, self.on or self.right_on
        scope.columns(left, table.schema, "on" if self.on else "left_on")
        scope.columns(right, other.schema, "on" if self.on else "right_on", of=self.with_)
        check_keys(left, right, table.schema, other.schema, scope, "on" if self.on else "left_on")
        if self.how in ("semi", "anti"):
            return table.frame.join(
                other.frame, how=self.how, left_on=left, right_on=right, nulls_equal=self.nulls_equal
            )
        chosen = self._chosen(table.schema, other.schema, scope)
        if self.how == "cross":
            # one column more, which keeps the number of rows if none is chosen
            helper = {"__lazypipe_key_0": next(iter(other.schema))}
            return table.frame.join(renamed(other.frame, helper | chosen), how="cross").drop(*helper)
        if self.columns is None and self.how != "right":
            keys, that = {c: c for c in right}, other.frame
        else:
            # keys under names of their own: a key may also be chosen, under any name
            keys = {f"__lazypipe_key_{i}": c for i, c in enumerate(right)}
            that = renamed(other.frame, keys | chosen)
        this, validate = table.frame, self.validate
        if scope.guard is not None and not self.nulls_equal:
            if validate in ("1:1", "1:m"):
                this = scope.guard(this, table.schema, left)
            if validate in ("1:1", "m:1"):
                that = scope.guard(that, pl.Schema({k: other.schema[c] for k, c in keys.items()}), tuple(keys))
            validate = "m:m"
        if table.large and other.large and validate == "m:m":
            this, that = together(this, left), together(that, [*keys])
        if self.how != "right":
            return this.join(
                that,
                how=self.how,
                left_on=left,
                right_on=list(keys),
                suffix=self.suffix,
                validate=validate,
                nulls_equal=self.nulls_equal,
                coalesce=True,
            )
        # the other way round: Polars validates no right joins, and drops the names of this side's keys
        joined = that.join(
            this,
            how="left",
            left_on=list(keys),
            right_on=left,
            validate=_TURNED[validate],
            nulls_equal=self.nulls_equal,
            coalesce=True,
        )
        named = dict(zip(left, keys, strict=True)) if self.columns is not None else {}
        here = {c: named.get(c, c) for c in table.schema if c in named or c not in left}
        return renamed(joined, here | {n: n for n in chosen})

    def large(self, large: frozenset[str]) -> bool:
        """Rows of the other side come too, unless it only decides which stay."""
        return AHEAD in large or (bool(large) and self.how not in ("semi", "anti"))

    def change(self, table: Table, scope: Scope, changed: frozenset[str]) -> Change:
        """Rows of this side are joined with the other side as it is; a right or full join may also unmatch others."""
        alone = self.how not in ("right", "full") and self.validate in ("m:m", "m:1")
        return "each" if changed == {AHEAD} and alone else "all"

    def match(self, table: Table, scope: Scope) -> Match | None:
        """Rows of this side find those with their key; a right or full join also returns rows of the other side that match nothing, with their keys."""
        if self.how == "cross":
            return None
        left, right = self.on or self.left_on, self.on or self.right_on
        if self.how in ("semi", "anti"):
            return Match(left, self.with_, right, times=False, nulls=self.nulls_equal)
        taken = tuple(self._chosen(table.schema, scope.table(self.with_).schema, scope).values())
        unique = self.validate in ("1:1", "m:1")
        if self.how in ("right", "full"):  # rows without a key stay too, and may be many whatever is validated
            taken = tuple(dict.fromkeys([*taken, *right]))
            return Match(left, self.with_, right, taken, nulls=True, unique=unique and self.nulls_equal)
        return Match(left, self.with_, right, taken, nulls=self.nulls_equal, unique=unique)

    def apart(self, table: Table, scope: Scope) -> Mapping[str, str] | None:
        """Rows of both sides have to do with those of their key only, also where they find none, or must be the only one."""
        left, right, there = self.on or self.left_on, self.on or self.right_on, scope.table(self.with_).schema
        if self.how == "cross" or not all(
            _in_one_type(table.schema[a], there[b]) for a, b in zip(left, right, strict=True)
        ):
            return {}
        if self.how != "right" or self.columns is not None:
            return {c: c for c in left}
        names = {there: here for here, there in self._chosen(table.schema, there, scope).items()}
        return {a: names[b] for a, b in zip(left, right, strict=True)}

    def carry(self, table: Table, scope: Scope) -> pl.LazyFrame | None:
        """Each row is made of the rows of both sides that it joins; of a semi join, of all that match."""
        left, right = self.on or self.left_on, self.on or self.right_on
        if self.how == "anti":
            return self.lower(table, scope)
        if self.how == "semi":
            keys = [f"__lazypipe_key_{number}" for number in range(len(right))]
            those = (
                scope.table(self.with_)
                .frame.group_by(pl.col(c).alias(k) for c, k in zip(right, keys, strict=True))
                .agg(MADE)
            )
            return both_made(
                table.frame.join(
                    those.rename({MADE_FROM: OTHER_MADE_FROM}),
                    left_on=left,
                    right_on=keys,
                    nulls_equal=self.nulls_equal,
                )
            )
        wider = replace(self, columns=and_made(self.columns))
        listed = Table(table.frame, pl.Schema({**table.schema, MADE_FROM: pl.List(pl.UInt64)}))
        return both_made(wider.lower(listed, with_other_made(scope, self.with_)))

    def _chosen(self, here: pl.Schema, there: pl.Schema, scope: Scope) -> dict[str, str]:
        """Return what comes from the other side: its name in the result → its name there."""
        taken, keys = set(here), self.on or self.right_on
        if self.how == "right" and self.columns is None:
            taken, keys = taken - set(self.on or self.left_on), ()
        return chosen_columns(self.columns, self.suffix, taken, there, keys, scope, of=self.with_)


def _in_one_type(one: pl.DataType, other: pl.DataType) -> bool:
    """Whether keys of two types can be compared as values of a type that files can hold, which a 128-bit type is not."""
    if one == other:
        return True
    if one.is_float() or other.is_float():
        return one.is_float() and other.is_float()
    large = (pl.Int128(), pl.UInt128(), pl.UInt64())
    return one.is_integer() and other.is_integer() and one not in large and other not in large


_TURNED: Mapping[str, Literal["m:m", "m:1", "1:m", "1:1"]] = {"m:m": "m:m", "m:1": "1:m", "1:m": "m:1", "1:1": "1:1"}


def refuse_uneven(argument: str, left: Sequence[str], right: Sequence[str]) -> None:
    """Raise Fault where the sides of a join do not name as many columns, in ``left_`` and ``right_`` of an argument."""
    if len(left) != len(right):
        what = f"left_{argument} has {len(left)} columns and right_{argument} {len(right)}"
        raise Fault(what, "name the same number on both sides", (f"left_{argument}" if left else f"right_{argument}",))


def renamed(frame: pl.LazyFrame, names: Mapping[str, str]) -> pl.LazyFrame:
    """Select columns under new names."""
    return frame.select(pl.col(old).alias(new) for new, old in names.items())


def check_keys(
    left: Sequence[str], right: Sequence[str], here: pl.Schema, there: pl.Schema, scope: Scope, argument: str
) -> None:
    """Raise Fault at the argument where keys of both sides cannot be compared."""
    for index, (ours, others) in enumerate(zip(left, right, strict=True)):
        if here[ours] == there[others]:
            continue
        this, that = pl.LazyFrame(schema={ours: here[ours]}), pl.LazyFrame(schema={others: there[others]})
        try:
            this.join(that, how="semi", left_on=ours, right_on=others).collect_schema()
        except pl.exceptions.PolarsError as error:
            what = f"key {ours!r} is {here[ours]} and key {others!r} is {there[others]}"
            raise scope.fault(what, "cast one of them first", argument, index) from error


def and_made(columns: Sequence[str] | Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Add the column that says what made the other side's rows to those taken of it; None, for all columns, stays None."""
    if columns is None:
        return None
    chosen = columns if isinstance(columns, Mapping) else {c: c for c in columns}
    return {**chosen, OTHER_MADE_FROM: OTHER_MADE_FROM}


def chosen_columns(
    columns: Sequence[str] | Mapping[str, str] | None,
    suffix: str,
    taken: Collection[str],
    there: pl.Schema,
    keys: Sequence[str],
    scope: Scope,
    *,
    of: str,
) -> dict[str, str]:
    """Return what comes from the other side of a join, by default all but its keys: the name in the result → the name there.

    Names that are ``taken`` get the suffix; raises Fault where that does not help.
    """
    if columns is None:
        pairs = [(c, c) for c in there if c not in keys]
    else:
        scope.columns(columns, there, "columns", of=of)
        pairs = list(columns.items()) if isinstance(columns, Mapping) else [(c, c) for c in columns]
    made: dict[str, str] = {}
    for source, wanted in pairs:
        name = f"{wanted}{suffix}" if wanted in taken else wanted
        if name in taken or name in made:
            what = f"two columns would be called {name!r}"
            fix = "rename one of them, or choose a suffix"
            raise scope.fault(what, fix, "columns" if columns is not None else "with")
        made[name] = source
    return made
