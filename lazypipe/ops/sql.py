"""``sql``: one whole query over the stage's inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.ops.base import Operation, Scope, Table
from lazypipe.spec.arguments import QUERY, TEXT, arg
from lazypipe.spec.model import Fault
from lazypipe.sql.query import query, tried_out
from lazypipe.sql.text import SqlError, carrying


@dataclass(frozen=True)
class Sql(Operation):
    """Run one SELECT over the stage's inputs. ``self`` is the frame as it stands at this step.

    The dialect is Polars SQL, and only the stage's inputs can be read. Keep a long query in a ``file``: it is read
    together with the definition, and errors give the line and column in that file.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.apply({"sql": "SELECT sum(a) AS n FROM self"}, pl.LazyFrame({"a": [1, 2]})).collect().rows()
    [(3,)]
    """

    name: ClassVar[str] = "sql"
    shorthand: ClassVar[str] = "query"
    query: str = arg(QUERY, "The SELECT statement.", default="")
    file: str | None = arg(
        TEXT, "The file with the SELECT statement, instead of query; relative to the definition.", default=None
    )

    def __post_init__(self) -> None:
        """Check that there is a query."""
        if not self.query and self.file is None:
            raise Fault(
                "there is no query", "write a SELECT statement, or the file with it: sql: {file: a.sql}", ("query",)
            )

    def multiplies(self) -> bool:
        """Perhaps: a query may join."""
        return True

    def large(self, large: frozenset[str]) -> bool:
        """It is not known how many rows a query gives."""
        return False

    def lower(self, table: Table, scope: Scope) -> pl.LazyFrame:
        """Lower through a SQL context."""
        tables = {name: other.frame for name, other in scope.tables.items()} | {"self": table.frame}
        try:
            found = self._carrying(tables, table.extra, scope)
            rows = query(self.query, tables, scope.params) if found is None else found
            schemas = {name: other.schema for name, other in scope.tables.items()} | {"self": table.schema}
            tried_out(self.query, schemas, scope.params)
        except SqlError as error:
            fix = error.fix
            if unknown := re.fullmatch("unknown table '(.*)'", error.what):
                read = ", ".join([*scope.tables, unknown[1]])
                fix = f"{fix}; list all inputs of the stage: from: [{read}]"
            raise scope.fault(error.what, fix, "query", place=error.place) from error
        return rows

    def _carrying(self, tables: Mapping[str, pl.LazyFrame], extra: Sequence[str], scope: Scope) -> pl.LazyFrame | None:
        """Return the rows with extra columns, if there is a way to select these; whether it is the right one, its plan says."""
        for deep in (True, False) if extra else ():
            with suppress(SqlError):
                return query(carrying(self.query, extra, deep=deep), tables, scope.params)
        return None
