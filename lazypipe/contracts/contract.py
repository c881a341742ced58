"""The result of an import: rules and columns as plain data, and everything that could not be converted, with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lazypipe.errors import Location, nearest
from lazypipe.spec.loader import dump
from lazypipe.spec.model import NOTHING, Path

__all__ = ["SHORTHANDS", "Column", "Contract", "Finding", "Written", "foreign_key", "joined", "made"]

Written = Mapping[str, Any]
"""A rule as a gate writes it: a mapping with one key, its name."""


@dataclass(frozen=True)
class Column:
    """What a contract says about a column: the name of its lazypipe type, its tags and its description."""

    dtype: str | None = None
    tags: tuple[str, ...] = ()
    description: str | None = None


@dataclass(frozen=True)
class Finding:
    """A part of the document that could not be converted, or not exactly: ``what`` it is, and ``why``.

    ``path`` is its place in the document; ``where`` is its line and column, if the document is a file.
    """

    what: str
    why: str
    table: str | None = None
    column: str | None = None
    path: Path = ()
    where: Location | None = None

    def __str__(self) -> str:
        about = ".".join(part for part in (self.table, self.column) if part is not None)
        text = f"{about}: {self.what}: {self.why}" if about else f"{self.what}: {self.why}"
        return text if self.where is None else f"{self.where}: {text}"


@dataclass(frozen=True)
class Contract:
    """Tables with their rules and columns, as returned by an import and accepted by ``to_odcs``.

    ``rules`` are plain mappings, as written in a gate, to be edited and put into a definition. ``unmapped`` lists everything that could not be converted;
    ``notes`` lists rules that do not mean exactly the same as the original. Nothing is dropped silently.

    Examples
    --------
    >>> contract = Contract("shop", {"orders": ({"not_null": "id"},)}, {"orders": {"id": Column("Int64", ("key",))}})
    >>> contract.source("orders")
    {'contract': {'columns': {'id': 'Int64'}}, 'columns': {'id': {'tags': ['key']}}, 'gate': [{'not_null': 'id'}]}
    >>> print(contract.to_yaml(), end="")
    orders:
      contract:
        columns:
          id: Int64
      columns:
        id:
          tags:
          - key
      gate:
      - not_null: id
    """

    name: str
    rules: Mapping[str, tuple[Written, ...]] = field(default_factory=lambda: NOTHING)
    columns: Mapping[str, Mapping[str, Column]] = field(default_factory=lambda: NOTHING)
    unmapped: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()
    description: str | None = None

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that it says anything about, in the order of the document."""
        return tuple(dict.fromkeys((*self.columns, *self.rules)))

    def source(self, table: str) -> dict[str, Any]:
        """Return the part of a source definition with the columns and rules of ``table``; only the ``uri`` is to be added.

        Raises
        ------
        KeyError
            If the contract does not know the table.
        """
        if table not in self.tables:
            raise KeyError(f"unknown table {table!r}; {nearest(table, self.tables, 'tables')}")
        columns = self.columns.get(table, {})
        types = {name: column.dtype for name, column in columns.items()}
        written: dict[str, Any] = {}
        if types and None not in types.values():
            written["contract"] = {"columns": types}
        if tagged := {name: {"tags": list(column.tags)} for name, column in columns.items() if column.tags}:
            written["columns"] = tagged
        if rules := self.rules.get(table):
            written["gate"] = list(rules)
        return written

    def to_yaml(self, table: str | None = None) -> str:
        """Return the tables (or one of them) as YAML to be put under ``sources``. What could not be converted is in comments."""
        data = {name: self.source(name) for name in self.tables} if table is None else self.source(table)
        text = dump(data) if data else ""
        return text + "".join(self._comments(table))

    def _comments(self, table: str | None) -> Iterable[str]:
        for kind, findings in (("not taken over", self.unmapped), ("note", self.notes)):
            for finding in findings:
                if table is None or finding.table in (None, table):
                    yield f"# {kind}: {' '.join(str(finding).split())}\n"


def made(name: str, arguments: Written, common: Written = NOTHING) -> dict[str, Any]:
    """Return a rule as a gate writes it, as short as that is usual; arguments that are None are left out.

    Conditions (``where``) of both are joined.

    Examples
    --------
    >>> made("not_null", {"columns": ["a"]}), made("between", {"column": "a", "min": 0, "max": None}, {"id": "x"})
    ({'not_null': 'a'}, {'between': {'column': 'a', 'min': 0, 'id': 'x'}})
    """
    given = {k: v for k, v in {**arguments, **common}.items() if v is not None}
    if condition := joined([arguments.get("where"), common.get("where")]):
        given["where"] = condition
    if name != "schema" and isinstance(given.get("columns"), list) and len(given["columns"]) == 1:
        given["columns"] = given["columns"][0]
    short = SHORTHANDS.get(name, "columns")
    return {name: given[short] if list(given) == [short] else given}


SHORTHANDS = {"expression": "condition", "json": "column", "in_past": "column", "in_future": "column"}
"""The argument that a rule may be written as alone; ``columns`` for all others."""


def foreign_key(columns: Sequence[str], to: str, others: Sequence[str], common: Written = NOTHING) -> dict[str, Any]:
    """Return the rule that a key exists in another table.

    Examples
    --------
    >>> foreign_key(["origin"], "airports", ["faa"])
    {'foreign_key': {'column': 'origin', 'references': {'to': 'airports', 'column': 'faa'}}}
    """
    if len(columns) == len(others) == 1:
        return made("foreign_key", {"column": columns[0], "references": {"to": to, "column": others[0]}}, common)
    return made("foreign_key", {"columns": list(columns), "references": {"to": to, "columns": list(others)}}, common)


def joined(conditions: Iterable[str | None], word: str = "AND") -> str | None:
    """Return conditions as one, in brackets where there are several; None where there is none.

    Examples
    --------
    >>> joined(["a > 1", None]), joined(["a > 1", "b = 2 OR c"])
    ('a > 1', '(a > 1) AND (b = 2 OR c)')
    """
    given = [c for c in conditions if c is not None]
    return given[0] if len(given) == 1 else f" {word} ".join(f"({c})" for c in given) or None
