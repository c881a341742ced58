"""Rules on keys and references: ``unique``, ``primary_key``, ``foreign_key``, ``cardinality``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import polars as pl

from lazypipe.errors import nearest
from lazypipe.gates.rule import Check, Reference, Rule
from lazypipe.gates.rules.helpers import comparable, distinct_names
from lazypipe.spec.arguments import COLUMN, COLUMNS, COUNT, MAPPING, arg, choice
from lazypipe.spec.model import Fault
from lazypipe.spec.scope import Scope


@dataclass(frozen=True)
class Unique(Rule):
    """No two rows may have the same values in the key columns. Rows with a null in the key are not compared.

    Every row with a repeated key violates, including the first one (as in dbt and Great Expectations): the key does
    not tell which of the rows is right.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [1, 1, 2, None, None]}), [{"unique": "a"}]).failed
    {'unique:a': 2}
    """

    name: ClassVar[str] = "unique"
    shorthand: ClassVar[str] = "columns"
    columns: tuple[str, ...] = arg(COLUMNS, "The key: one column or several.")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check on the key."""
        _key(self.columns, schema, scope, "columns")
        return [self.check(",".join(self.columns), schema, scope, keys=self.columns)]


@dataclass(frozen=True)
class PrimaryKey(Rule):
    """The key columns must not be null, and no two rows may have the same values in them.

    The rule makes two checks, ``…:not_null`` and ``…:unique``; the thresholds apply to each of them.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": [1, 1, 2, None, None, None]}), [{"primary_key": "a"}]).failed
    {'primary_key:a:not_null': 3, 'primary_key:a:unique': 2}
    """

    name: ClassVar[str] = "primary_key"
    shorthand: ClassVar[str] = "columns"
    columns: tuple[str, ...] = arg(COLUMNS, "The key: one column or several.")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """Two checks: a null in the key, and a repeated key."""
        _key(self.columns, schema, scope, "columns")
        subject = ",".join(self.columns)
        missing = pl.any_horizontal(pl.col(c).is_null() for c in self.columns)
        column = self.columns[0] if len(self.columns) == 1 else None
        whole = self.check(subject, schema, scope, violated=missing, column=column)
        repeated = self.check(subject, schema, scope, keys=self.columns)
        return [replace(whole, id=f"{whole.id}:not_null"), replace(repeated, id=f"{repeated.id}:unique")]


@dataclass(frozen=True, kw_only=True)
class ForeignKey(Rule):
    """Every key must exist in another frame. A key with a null in it passes, as in SQL.

    ``references`` names the frame: ``{to: airports, column: faa}`` or ``{to: …, columns: [a, b]}``, in the order of
    the columns here. Without columns, the key has the same names there. ``to`` is a source or stage of the pipeline,
    or the URI of a dataset or of files.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> flights = pl.DataFrame({"origin": ["JFK", "XXX", None]})
    >>> rules = [{"foreign_key": {"column": "origin", "references": {"to": "airports", "column": "faa"}}}]
    >>> lp.check(flights, rules, airports=pl.DataFrame({"faa": ["JFK", "LGA"]})).failed
    {'foreign_key:origin': 1}
    """

    name: ClassVar[str] = "foreign_key"
    columns: tuple[str, ...] = arg(COLUMNS, "The key in this frame: one column or several.", default=())
    column: str | None = arg(COLUMN, "The key in this frame, if it is one column.", default=None)
    references: Mapping[str, Any] = arg(
        MAPPING, "The frame and columns in which the key must exist: {to: frame, columns: [its key]}."
    )

    def __post_init__(self) -> None:
        """Check that the keys fit each other."""
        super().__post_init__()
        _referenced(self)

    def frames(self) -> Mapping[str, str]:
        """Return the frame that is looked up."""
        return {"references": str(self.references["to"])}

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: the key is not there."""
        here, to, there = _referenced(self)
        _key(here, schema, scope, "column" if self.column else "columns")
        reference = Reference(here, to, there)
        column = here[0] if len(here) == 1 else None
        return [self.check(",".join(here), schema, scope, reference=reference, column=column)]


@dataclass(frozen=True, kw_only=True)
class Cardinality(Rule):
    """Every key must occur in another frame a given number of times. A key with a null in it passes.

    ``is`` reads this frame:other frame. ``1`` for the other frame means exactly one row per key, ``m`` one or more.
    ``1`` for this frame means that no two rows have the same key, which is a check of its own, ``…:unique``. If a key
    may be absent there, write ``min: 0, max: 1``.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> orders, lines = pl.DataFrame({"id": [1, 2, 2, None]}), pl.DataFrame({"id": [1, 1, 3]})
    >>> rules = [{"cardinality": {"column": "id", "references": {"to": "lines"}, "is": "1:m"}}]
    >>> lp.check(orders, rules, lines=lines).failed
    {'cardinality:id': 2, 'cardinality:id:unique': 2}
    """

    name: ClassVar[str] = "cardinality"
    columns: tuple[str, ...] = arg(COLUMNS, "The key in this frame: one column or several.", default=())
    column: str | None = arg(COLUMN, "The key in this frame, if it is one column.", default=None)
    references: Mapping[str, Any] = arg(
        MAPPING, "The frame in which rows are counted: {to: frame, columns: [its key]}."
    )
    min: int | None = arg(COUNT, "The smallest number of rows there. Default: 0, with max.", default=None)
    max: int | None = arg(COUNT, "The largest number of rows there. Default: no limit.", default=None)
    is_: Literal["1:1", "1:m", "m:1", "m:m"] | None = arg(
        choice("1:1", "1:m", "m:1", "m:m"), "Instead of min and max: how rows here relate to rows there.", default=None
    )

    def __post_init__(self) -> None:
        """Check that the keys fit each other, and that there are bounds."""
        super().__post_init__()
        _referenced(self)
        if (self.is_ is None) is (self.min is None and self.max is None):
            what = "cardinality needs a bound" if self.is_ is None else "'is' already sets min and max"
            raise Fault(what, "give is, or min and max", ("is" if self.is_ else "references",))
        if self.is_ not in (None, "1:1", "1:m", "m:1", "m:m"):
            raise Fault(f"unknown cardinality {self.is_!r}", "write 1:1, 1:m, m:1 or m:m", ("is",))
        if self.max is None and self.min == 0:
            raise Fault("min: 0 allows any number", "give max too, or another min", ("min",))
        if self.max is not None and (self.min or 0) > self.max:
            raise Fault(f"min {self.min} is greater than max {self.max}", "swap them", ("min",))

    def frames(self) -> Mapping[str, str]:
        """Return the frame that is looked up."""
        return {"references": str(self.references["to"])}

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: too few or too many there; and perhaps one that keys are unique here."""
        here, to, there = _referenced(self)
        _key(here, schema, scope, "column" if self.column else "columns")
        subject, column = ",".join(here), here[0] if len(here) == 1 else None
        if self.is_ is None:
            reference = Reference(here, to, there, self.min or 0, self.max)
            return [self.check(subject, schema, scope, reference=reference, column=column)]
        mine, theirs = self.is_.split(":")
        reference = Reference(here, to, there, 1, 1 if theirs == "1" else None)
        found = [self.check(subject, schema, scope, reference=reference, column=column)]
        if mine == "1":
            repeated = self.check(subject, schema, scope, keys=here)
            found.append(replace(repeated, id=f"{repeated.id}:unique"))
        return found


def _key(columns: Sequence[str], schema: pl.Schema, scope: Scope, argument: str) -> None:
    """Raise Fault where columns are no key: unknown, named twice, or of a type whose values cannot be compared."""
    scope.columns(columns, schema, argument)
    distinct_names(columns, scope, argument)
    comparable(columns, schema, scope, argument)


def _referenced(rule: ForeignKey | Cardinality) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """Return the key here, the frame, and the key there; raises Fault if they are not given."""
    if (rule.column is None) is (not rule.columns):
        fix = "give column or columns"
        raise Fault(
            f"{rule.name} needs a key" if not rule.columns else "column and columns say the same", fix, ("column",)
        )
    here = rule.columns or (str(rule.column),)
    written = rule.references
    for name in written:
        if name not in ("to", "column", "columns"):
            fix = nearest(str(name), ("to", "column", "columns"), "arguments")
            raise Fault(f"unknown argument {name!r} of references", fix, ("references", name))
    to = written.get("to")
    if not isinstance(to, str) or not to:
        what = "references needs a frame" if to is None else f"{to!r} is not the name of a frame"
        raise Fault(what, "write to: and a source, a stage or a URI", ("references",))
    if "column" in written and "columns" in written:
        raise Fault("column and columns say the same", "give one of them", ("references", "column"))
    argument = "column" if "column" in written else "columns"
    found = written.get(argument, here)
    there = (found,) if isinstance(found, str) else found
    if not isinstance(there, list | tuple) or not all(isinstance(c, str) and c for c in there):
        raise Fault(f"{found!r} is not a list of columns", "write names of columns", ("references", argument))
    if len(there) != len(here):
        what = f"{len(here)} columns here cannot be compared with {len(there)} there"
        raise Fault(what, "name the same number there as here, in the same order", ("references", argument))
    return here, to, tuple(there)
