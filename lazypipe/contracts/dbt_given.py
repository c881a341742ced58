"""A generic test of dbt while it is being read, and what the readers of its arguments share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lazypipe.contracts import sqltext
from lazypipe.contracts.contract import Written
from lazypipe.contracts.document import Node
from lazypipe.sql.text import SqlError

__all__ = ["NAME", "PERIODS", "Given", "Reader", "Readers", "column_of", "condition_of", "referred", "unquoted"]

NAME = r'"[^"]+"|\w+'
"""The name of a column, as SQL writes it."""
PERIODS = {"minute": "m", "hour": "h", "day": "d", "week": "w"}
"""dbt's words for lengths of time that are always as long."""


@dataclass(frozen=True)
class Given:
    """A test with its arguments, and what holds for the rule it becomes."""

    name: str
    arguments: Node
    common: Mapping[str, Any]

    @property
    def column(self) -> str | None:
        """The column it is about: where it stands, or its argument ``column_name``."""
        return self.arguments.column

    def need(self, key: str, kind: str) -> Any:
        """Return an argument that must be there."""
        return self.arguments.need(key, kind)

    def unmapped(self, why: str) -> None:
        """Note that the test has no rule."""
        self.arguments.unmapped(f"the test {self.name}", why)

    def note(self, why: str) -> None:
        """Note that its rule does not mean quite the same."""
        self.arguments.note(f"the test {self.name}", why)


Reader = Callable[[Given], Iterable[Written]]
"""Gives the rules of one test; raises SqlError for SQL that cannot be taken over."""
Readers = Mapping[str, tuple[Reader, tuple[str, ...], bool]]
"""Name of a test → its reader, the arguments it knows, and whether dbt counts values rather than rows."""


def column_of(test: Given) -> str | None:
    """Return the test's column; None, and a note, where it is an expression or none is named."""
    if test.column is None:
        test.arguments.fault(f"{test.name} of a table needs a column", "add column_name, or write it at the column")
    elif not isinstance(test.column, str) or not re.fullmatch(r'"[^"]+"|[\w ]+', test.column):
        test.unmapped(f"{test.column!r} is not a column; derive it in a stage")
    else:
        return test.column.strip('"')
    return None


def condition_of(written: str) -> str:
    """Return a condition in SQL; raises SqlError where it cannot be taken over."""
    if why := sqltext.problem(written):
        raise SqlError(f"{written!r} cannot be taken over: {why}")
    return written


_REF = re.compile(
    r"""\s*(?:\{\{)?\s*(?:ref|source)\(\s*(?:(["'])[^"']*\1\s*,\s*)?(["'])(?P<name>[^"']+)\2\s*(?:,\s*(?:v|version)\s*=\s*\d+\s*)?\)\s*(?:\}\})?\s*"""
)


def referred(written: str | None) -> str | None:
    """Return the table that ``ref('…')`` or ``source('…', '…')`` names; None for anything else.

    Examples
    --------
    >>> referred("ref('orders')"), referred("{{ source('shop', 'orders') }}"), referred("orders")
    ('orders', 'orders', None)
    """
    match = _REF.fullmatch(written or "")
    return match["name"] if match else None


def unquoted(value: Any) -> Any:
    """Return what SQL reads where a value stands without quotes; raises SqlError if it is no plain value.

    Examples
    --------
    >>> unquoted("'a'"), unquoted("1.5"), unquoted("true"), unquoted(2)
    ('a', 1.5, True, 2)
    """
    if not isinstance(value, str):
        return value
    words = {"true": True, "false": False}
    if value.lower() in words:
        return words[value.lower()]
    if re.fullmatch(r"[-+]?\d+(\.\d+)?", value):
        return float(value) if "." in value else int(value)
    if text := re.fullmatch(r"'((?:[^']|'')*)'", value):
        return text[1].replace("''", "'")
    raise SqlError(f"{value} without quotes is an expression, not a value")
