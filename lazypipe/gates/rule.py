"""What every rule is: arguments in, checks out. A check is an expression; the engine never asks which rule it came from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import polars as pl

from lazypipe.errors import first_line, nearest
from lazypipe.gates.written import exactly, literal, resolved
from lazypipe.spec.arguments import LIMIT, MAPPING, SQL, TEXT, TEXTS, Arguments, arg, choice
from lazypipe.spec.model import Fault, Path
from lazypipe.spec.scope import Scope
from lazypipe.spec.types import dtype_name
from lazypipe.sql.exprs import columns_of

__all__ = ["BAD", "HISTORY", "PREVIOUS", "VALUE", "Action", "Check", "Limit", "Measure", "Part", "Reference", "Rule"]

Action = Literal["fail", "quarantine", "drop", "warn", "repair"]
ACTIONS: tuple[Action, ...] = ("fail", "quarantine", "drop", "warn", "repair")

PREVIOUS = "@previous"
"""The name under which a measure asks for the rows of the output's commit before this run."""
VALUE = "value"
"""The column that holds a measured value."""
HISTORY = "history"
"""The column that holds the values of earlier runs, oldest first, where a measure asks for them."""


@dataclass(frozen=True)
class Limit:
    """How many rows may violate: a count, or a fraction of the rows evaluated.

    Examples
    --------
    >>> Limit.parse("0.1%").exceeded(failed=2, evaluated=1_000), Limit.parse(2).exceeded(2, 10)
    (True, False)
    """

    count: int | None = None
    fraction: Fraction = Fraction(0)

    @classmethod
    def parse(cls, written: int | str) -> Limit:
        """Read ``5`` or ``0.1%``; raises ValueError where it is neither, or more than all rows."""
        number, percent, rest = str(written).strip().partition("%")
        try:
            # exact: as a float, 0.7% of 1000 rows would be less than 7
            value = Fraction(number.strip())
        except ValueError:
            value = Fraction(-1)
        if value < 0 or rest or (not percent and value.denominator > 1):
            raise ValueError(f"{written!r} is not a limit")
        if percent and value > 100:
            raise ValueError(f"{written} is more than all rows")
        return cls(fraction=value / 100) if percent else cls(count=int(value))

    def exceeded(self, failed: int, evaluated: int) -> bool:
        """Whether ``failed`` of ``evaluated`` rows are too many."""
        return failed > (self.fraction * evaluated if self.count is None else self.count)

    def beyond(self, other: Limit) -> bool:
        """Whether it allows more than another limit, as far as a count and a fraction can be compared."""
        if self.count is None or other.count is None:
            return self.count is other.count and self.fraction > other.fraction
        return self.count > other.count

    def __str__(self) -> str:
        return f"{float(self.fraction * 100):g}%" if self.count is None else str(self.count)


BAD = "__lazypipe_bad"
"""The column that a repair may read: true where a row violates the check that it repairs."""


@dataclass(frozen=True)
class Reference:
    """Rows of another frame that a row looks up: how many have its key must lie between ``least`` and ``most``.

    ``to`` is a source or stage of the pipeline, or the URI of a dataset or of files; ``columns`` here are compared with
    ``others`` there, one by one. A key with a null in it is not looked up.
    """

    columns: tuple[str, ...]
    to: str
    others: tuple[str, ...]
    least: int = 1
    most: int | None = None


@dataclass(frozen=True)
class Part:
    """A figure that can be added up batch by batch: an aggregate over a batch's rows, and how two of them become one.

    ``merge`` is an aggregate over the column ``name``, which holds one figure per batch.
    """

    name: str
    over: pl.Expr = field(compare=False)
    merge: pl.Expr = field(compare=False)


@dataclass(frozen=True)
class Measure:
    """One value of a whole frame (or of each group), and what it may be.

    ``parts`` are figures that can be added up on the way, in which case ``value`` is an expression over their columns.
    Without parts, ``value`` is an aggregate over the rows, evaluated in a query of its own. What is no aggregate gives
    ``query`` instead: a function of the rows and of other frames (``frames``: names as in ``Reference.to``, or
    ``PREVIOUS``; one that does not exist yet is left out of the mapping) that returns a frame of one row, or one per
    group, with the columns ``by`` and ``value``, and others that ``accept`` reads. Plans go to other processes, and it with them.

    ``holds`` are the columns whose values the measured value is, or is made of: where they are personal data, so is it.
    How many there are of something is none.

    ``accept`` is a condition over that row: ``value``, the columns of ``by``, what ``query`` added, and ``history``
    (a list of the values that the last runs measured, at most ``history`` of them). Null is accepted: there was nothing
    to measure. ``expected`` says the same in words, for people.
    """

    accept: pl.Expr = field(compare=False)
    expected: str
    value: pl.Expr | None = field(default=None, compare=False)
    parts: tuple[Part, ...] = ()
    query: Callable[[pl.LazyFrame, Mapping[str, pl.LazyFrame]], pl.LazyFrame] | None = field(
        default=None, compare=False
    )
    frames: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    history: int = 0

    @property
    def compares_with_the_past(self) -> bool:
        """Whether it reads rows that were published before, or values that were measured of them."""
        return self.history > 0 or PREVIOUS in self.frames


@dataclass(frozen=True)
class Check:
    """One condition of a gate: what violates it, and what happens to rows that do.

    Exactly one of four forms: ``violated``, a boolean expression per row (null: not violated); ``keys``, columns whose
    values must not repeat (rows with a null in them are not compared), which no row can tell alone; ``reference``, rows
    of another frame that each row must find; or ``measure``, a value of the whole frame. ``where`` restricts all of them
    to some rows. ``column`` is the one column that the check is about, if there is one; ``repair`` what stands in it
    afterwards where it violates, and ``action`` then says what happens to rows that violate all the same. ``place`` is where
    its rule stands in the definition.
    """

    id: str
    rule: str
    action: Action
    violated: pl.Expr | None = field(default=None, compare=False)
    keys: tuple[str, ...] = ()
    reference: Reference | None = None
    measure: Measure | None = None
    where: pl.Expr | None = field(default=None, compare=False)
    column: str | None = None
    repair: pl.Expr | None = field(default=None, compare=False)
    warn_above: Limit | None = None
    fail_above: Limit | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    owner: str | None = None
    place: Path = field(default=(), compare=False, repr=False)

    @property
    def per_row(self) -> bool:
        """Whether each row can tell whether it violates (a reference can, once it is joined)."""
        return self.violated is not None or self.reference is not None

    @property
    def removes_rows(self) -> bool:
        """Whether rows that violate do not go on."""
        return self.action in ("quarantine", "drop")

    @property
    def columns(self) -> frozenset[str]:
        """The columns that it reads."""
        exprs = [e for e in (self.violated, self.where, self.repair) if e is not None]
        names: set[str] = {*self.keys, *(self.reference.columns if self.reference else ())} | (
            {self.column} if self.column else set()
        )
        if self.measure is not None:
            names |= {*self.measure.by, *self.measure.columns}
            exprs += [p.over for p in self.measure.parts]
            exprs += [] if self.measure.parts or self.measure.value is None else [self.measure.value]
        return frozenset(names).union(*(columns_of(e) for e in exprs)) - {BAD}

    def mask(self) -> pl.Expr:
        """Return the boolean expression, never null, that is true where a row violates."""
        if self.violated is not None:
            violated = self.violated if self.where is None else self.violated & self.where
            return violated.fill_null(value=False)
        compared = pl.all_horizontal(pl.col(self.keys).is_not_null())
        if self.where is not None:
            compared = compared & self.where.fill_null(value=False)
        return compared & (compared.sum() > 1).over(self.keys)

    def status(self, failed: int, evaluated: int) -> Literal["pass", "warn", "fail"]:
        """Judge the count of violations against the thresholds."""
        limit = self.fail_above or (Limit(count=0) if self.action == "fail" else None)
        if limit is not None and limit.exceeded(failed, evaluated):
            return "fail"
        return "warn" if (self.warn_above or Limit(count=0)).exceeded(failed, evaluated) else "pass"


@dataclass(frozen=True, kw_only=True)
class Rule(Arguments):
    """One check on a stage's rows: arguments that give expressions.

    A rule says in its docstring what null means; unless it says otherwise, null is not a violation.
    """

    action: Action = arg(
        choice(*ACTIONS), "What a violation does. Default: the gate's action, or fail.", default="fail"
    )
    repair: Mapping[str, Any] | None = arg(
        MAPPING,
        "One of {set: SQL}, {null: true}, {default: value}, {clip: true} (the nearest bound), {previous: [columns to "
        "order by]} (the last valid value before it), or {previous: {order_by: [columns], by: [columns to group by]}}: "
        "what action: repair puts in place of a violating value. Add {then: action} for rows that violate even so; its "
        "default is fail.",
        default=None,
    )
    where: str | pl.Expr | None = arg(SQL, "SQL condition; only rows for which it is true are checked.", default=None)
    max_failures: int | str | None = arg(
        LIMIT,
        "The largest number of violations that does not fail the gate: a count of rows, or a percentage such as 0.1%.",
        default=None,
    )
    warn_above: int | str | None = arg(
        LIMIT,
        "The largest number of violations that gives no warning. Default: 0. With action: fail, also give fail_above.",
        default=None,
    )
    fail_above: int | str | None = arg(LIMIT, "Same as max_failures.", default=None)
    id: str | None = arg(TEXT, "The name of the rule in reports. Default: rule and columns.", default=None)
    description: str | None = arg(TEXT, "What the rule is for.", default=None)
    tags: tuple[str, ...] = arg(TEXTS, "Words to find the rule by.", default=())
    owner: str | None = arg(TEXT, "The person or team responsible for the rule.", default=None)

    def __post_init__(self) -> None:
        """Check the thresholds, and that there is a repair where one is asked for."""
        if self.action not in ACTIONS:
            raise Fault(f"unknown action {self.action!r}", nearest(str(self.action), ACTIONS, "actions"), ("action",))
        _check_repair(self.action, self.repair)
        if self.max_failures is not None and self.fail_above is not None:
            raise Fault("max_failures and fail_above say the same", "give one of them", ("fail_above",))
        limits = {}
        for name in ("warn_above", "max_failures", "fail_above"):
            try:
                limits[name] = _limit(getattr(self, name))
            except ValueError as error:
                raise Fault(str(error), "write a count of rows, or 0% to 100%", (name,)) from None
        failing = "max_failures" if self.fail_above is None else "fail_above"
        warning, most = limits["warn_above"], limits[failing]
        if warning is not None and most is not None and warning.beyond(most):
            what = f"{failing} {most} fails the gate before it could warn above {warning}"
            raise Fault(what, f"write a warn_above that is less than {failing}", ("warn_above",))

    def frames(self) -> Mapping[str, str]:
        """Return the arguments that name other frames, with the frames they name."""
        return {}

    @abstractmethod
    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """Return what is to be measured.

        Raises
        ------
        Fault
            If a column is missing or of a type that the rule cannot serve.
        """

    def bind(self, written: str | pl.Expr, schema: pl.Schema, scope: Scope, argument: str) -> pl.Expr:
        """Bind a condition; raises Fault where it does not fit the columns."""
        condition = scope.condition(written, schema, argument)
        if isinstance(written, pl.Expr):
            try:
                pl.DataFrame(schema=schema).select(condition)
            except pl.exceptions.PolarsError as error:
                raise scope.fault(first_line(error), None, argument) from error
        return condition.cast(pl.Boolean)  # NULL alone has no type

    def check(
        self,
        subject: str,
        schema: pl.Schema,
        scope: Scope,
        *,
        violated: pl.Expr | None = None,
        keys: tuple[str, ...] = (),
        reference: Reference | None = None,
        measure: Measure | None = None,
        column: str | None = None,
        clipped: pl.Expr | None = None,
    ) -> Check:
        """Return one check of this rule about ``subject`` (a column, or a few; empty: all rows), with the common arguments.

        ``column`` is the one column that the check is about; ``clipped`` the nearest value that would not violate.
        """
        where = None if self.where is None else self.bind(self.where, schema, scope, "where")
        repair = None
        if self.repair is not None:
            if violated is None or column is None:
                what = f"{self.name} is not about the values of one column, and cannot repair"
                raise scope.fault(what, "write action: quarantine", "action")
            repair = bound_repair(self.repair, column, clipped, schema, scope)
        return Check(
            id=self.id or (f"{self.name}:{subject}" if subject else self.name),
            rule=self.name,
            action=self.action if self.repair is None else self.repair.get("then", "fail"),
            repair=repair,
            violated=violated,
            keys=keys,
            reference=reference,
            measure=measure,
            column=column,
            where=where,
            warn_above=_limit(self.warn_above),
            fail_above=_limit(self.fail_above if self.max_failures is None else self.max_failures),
            description=self.description,
            tags=self.tags,
            owner=self.owner,
        )


_REPAIRS = ("set", "null", "default", "clip", "previous")


def _check_repair(action: Action, repair: Mapping[str, Any] | None) -> None:
    """Raise Fault where a repair is missing, one too many, or not one."""
    if (action == "repair") != (repair is not None):
        if repair is None:
            raise Fault(
                "action repair needs a repair",
                "add repair: {set: …}, or another of null, default, clip, previous",
                ("action",),
            )
        raise Fault("repair is for action: repair", "write action: repair, or remove repair", ("repair",))
    if repair is None:
        return
    for name in repair:
        if name not in (*_REPAIRS, "then"):
            raise Fault(f"unknown repair {name!r}", nearest(name, (*_REPAIRS, "then"), "repairs"), ("repair", name))
    given = [n for n in _REPAIRS if n in repair]
    if len(given) != 1:
        what = f"{' and '.join(given)} cannot both be the repair" if given else "this repairs nothing"
        raise Fault(what, f"give one of {', '.join(_REPAIRS)}", ("repair",))
    kind = given[0]
    if kind in ("null", "clip") and repair[kind] is not True:
        raise Fault(f"{kind} has no argument", f"write {kind}: true", ("repair", kind))
    if kind == "default" and repair[kind] is None:
        raise Fault("default needs a value", "write one, or null: true", ("repair", kind))
    if kind == "previous":
        _check_previous(repair[kind])
    if kind == "set" and not isinstance(repair[kind], str | int | float | pl.Expr):
        raise Fault(f"{_shown(repair[kind])} is not a SQL expression", "write one, or null: true", ("repair", kind))
    if repair.get("then", "fail") not in ("fail", "quarantine", "drop", "warn"):
        what = f"{repair['then']!r} is not an action for rows that stay invalid after a repair"
        raise Fault(what, "write fail, quarantine, drop or warn", ("repair", "then"))


def _check_previous(written: Any) -> None:
    told = written if isinstance(written, Mapping) else {"order_by": written}
    for name in told:
        if name not in ("order_by", "by"):
            what = f"unknown argument {name!r} of previous"
            raise Fault(what, nearest(name, ("order_by", "by"), "arguments"), ("repair", "previous", name))
    for name, purpose in (("order_by", "that order the rows"), ("by", "to group by")):
        if (name in told or name == "order_by") and not _are_names(told.get(name)):
            what = f"{_shown(told.get(name))} is not a list of columns"
            at = [name] if told is written and name in told else []
            raise Fault(what, f"name the columns {purpose}", ("repair", "previous", *at))


def _are_names(written: Any) -> bool:
    names = (written,) if isinstance(written, str) else written
    return isinstance(names, list | tuple) and len(names) > 0 and all(isinstance(n, str) and n for n in names)


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)


def bound_repair(
    repair: Mapping[str, Any], column: str, clipped: pl.Expr | None, schema: pl.Schema, scope: Scope
) -> pl.Expr:
    """Return what stands in ``column`` after its repair, in its own type; raises Fault where that cannot be."""
    dtype = schema[column]
    if "null" in repair:
        return pl.lit(None, dtype=dtype)
    if "clip" in repair:
        if clipped is None:
            raise scope.fault("there is no nearest value to clip to", "write set: or default:", "repair", "clip")
        return clipped.cast(dtype)
    if "previous" in repair:
        return _previous(repair["previous"], column, schema, scope)
    if "default" in repair:
        value = resolved(repair["default"], scope, "repair", "default")
        made = exactly(value, dtype)
        if made is None:
            what = f"{value!r} does not fit column {column!r}, which is {dtype_name(dtype)}"
            raise scope.fault(what, "write a value of that type", "repair", "default")
        return literal(made)
    text = repair["set"]
    expr = scope.expr(text if isinstance(text, pl.Expr) else str(text), schema, "repair", "set")
    found = pl.LazyFrame(schema=schema).select(expr.alias(column)).collect_schema()[column]
    if found != dtype and not _widens(found, dtype):
        what = f"the repair gives {dtype_name(found)}, and column {column!r} is {dtype_name(dtype)}"
        raise scope.fault(what, "cast it", "repair", "set")
    return expr.cast(dtype)


def _previous(written: Any, column: str, schema: pl.Schema, scope: Scope) -> pl.Expr:
    """Return the value of the row before: rows come in no order of their own, so which one that is must be said."""
    told = written if isinstance(written, Mapping) else {"order_by": written}
    order, groups = _names(told["order_by"]), _names(told.get("by", ()))
    scope.columns(order, schema, "repair", "previous", *(["order_by"] if told is written else []))
    scope.columns(groups, schema, "repair", "previous", "by")
    # a row without a place in the order is before no other; of rows in one place those that violate are last
    placed = pl.all_horizontal(pl.col(order).is_not_null())
    kept = pl.when(placed & ~pl.col(BAD)).then(pl.col(column)).forward_fill()
    return kept.over(groups or None, order_by=[*order, BAD, column])


def _names(written: Any) -> tuple[str, ...]:
    return (written,) if isinstance(written, str) else tuple(written)


def _widens(found: pl.DataType, dtype: pl.DataType) -> bool:
    """Whether a value of type ``found`` is taken for one of ``dtype`` in SQL: not where it would lose its fraction."""
    if found == pl.Null or (found.is_numeric() and dtype.is_numeric()):
        return not (dtype.is_integer() and (found.is_float() or found.is_decimal()))
    pair = (found.base_type(), dtype.base_type())
    return pair in {(pl.Date, pl.Datetime), (pl.String, pl.Categorical), (pl.String, pl.Enum)}


def _limit(written: int | str | None) -> Limit | None:
    return None if written is None else Limit.parse(written)
