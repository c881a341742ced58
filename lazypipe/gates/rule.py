"""What every rule is: arguments in, checks out. A check is an expression; nobody asks which rule it came from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import polars as pl

from lazypipe.errors import first_line
from lazypipe.spec.arguments import LIMIT, SQL, TEXT, TEXTS, Arguments, arg, choice
from lazypipe.spec.model import Fault
from lazypipe.spec.scope import Scope

__all__ = ["Action", "Check", "Limit", "Rule"]

Action = Literal["fail", "quarantine", "drop", "warn"]


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
            raise ValueError(f"{written!r} is no limit")
        if percent and value > 100:
            raise ValueError(f"{written} is more than all rows")
        return cls(fraction=value / 100) if percent else cls(count=int(value))

    def exceeded(self, failed: int, evaluated: int) -> bool:
        """Whether ``failed`` of ``evaluated`` rows are too many."""
        return failed > (self.fraction * evaluated if self.count is None else self.count)

    def __str__(self) -> str:
        return f"{float(self.fraction * 100):g}%" if self.count is None else str(self.count)


@dataclass(frozen=True)
class Check:
    """One thing that is measured: which rows violate it, and what that does.

    Exactly one of two forms: ``violated``, a boolean expression per row (null: not violated); or ``keys``, columns whose
    values must not repeat (rows with a null in them are not compared), which no row can tell alone. ``where`` restricts
    either to some rows.
    """

    id: str
    rule: str
    action: Action
    violated: pl.Expr | None = field(default=None, compare=False)
    keys: tuple[str, ...] = ()
    where: pl.Expr | None = field(default=None, compare=False)
    warn_above: Limit | None = None
    fail_above: Limit | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    owner: str | None = None

    @property
    def removes_rows(self) -> bool:
        """Whether rows that violate do not go on."""
        return self.action in ("quarantine", "drop")

    @property
    def columns(self) -> frozenset[str]:
        """The columns that it reads."""
        exprs = [e for e in (self.violated, self.where) if e is not None]
        return frozenset(self.keys).union(*(e.meta.root_names() for e in exprs))

    def mask(self) -> pl.Expr:
        """Return the boolean expression, never null, that is true where a row violates."""
        where = pl.lit(value=True) if self.where is None else self.where.fill_null(value=False)
        if self.violated is not None:
            return (self.violated & where).fill_null(value=False)
        compared = where & pl.all_horizontal(pl.col(self.keys).is_not_null())
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
        choice("fail", "quarantine", "drop", "warn"), "What a violation does. Default: fail.", default="fail"
    )
    where: str | pl.Expr | None = arg(SQL, "Only rows for which this SQL condition is true are checked.", default=None)
    max_failures: int | str | None = arg(LIMIT, "More violations than this fail the gate: rows, or 0.1%.", default=None)
    warn_above: int | str | None = arg(LIMIT, "More violations than this give a warning. Default: 0.", default=None)
    fail_above: int | str | None = arg(LIMIT, "The same as max_failures.", default=None)
    id: str | None = arg(TEXT, "The name of the rule in reports. Default: rule and columns.", default=None)
    description: str | None = arg(TEXT, "What the rule is for.", default=None)
    tags: tuple[str, ...] = arg(TEXTS, "Words to find the rule by.", default=())
    owner: str | None = arg(TEXT, "Who answers for it.", default=None)

    def __post_init__(self) -> None:
        """Check the thresholds."""
        if self.max_failures is not None and self.fail_above is not None:
            raise Fault("max_failures and fail_above say the same", "give one of them", ("fail_above",))
        for name in ("max_failures", "warn_above", "fail_above"):
            written = getattr(self, name)
            try:
                _limit(written)
            except ValueError as error:
                raise Fault(str(error), "write a count of rows, or 0% to 100%", (name,)) from None

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
    ) -> Check:
        """Return one check of this rule about ``subject`` (a column, or a few), with the common arguments."""
        where = None if self.where is None else self.bind(self.where, schema, scope, "where")
        return Check(
            id=self.id or f"{self.name}:{subject}",
            rule=self.name,
            action=self.action,
            violated=violated,
            keys=keys,
            where=where,
            warn_above=_limit(self.warn_above),
            fail_above=_limit(self.fail_above if self.max_failures is None else self.max_failures),
            description=self.description,
            tags=self.tags,
            owner=self.owner,
        )


def _limit(written: int | str | None) -> Limit | None:
    return None if written is None else Limit.parse(written)
