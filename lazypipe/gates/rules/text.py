"""Rules on text: ``regex``, ``like``, their opposites, ``length_between`` and ``json``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from lazypipe.errors import first_line
from lazypipe.gates.rule import Check, Rule
from lazypipe.gates.rules.helpers import LONG, fitting, length, text
from lazypipe.spec.arguments import COLUMN, COUNT, TEXT, arg
from lazypipe.spec.model import Fault
from lazypipe.spec.scope import Scope


@dataclass(frozen=True)
class _Pattern(Rule):
    column: str = arg(COLUMN, "The text column to check.")
    pattern: str = arg(TEXT, "The regular expression that must match.")
    fits: ClassVar[bool] = True

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: a match where there must be none, or none where there must be one."""
        matches = self._matches(text(self.column, schema, scope), scope)
        return [self.check(self.column, schema, scope, violated=~matches if self.fits else matches, column=self.column)]

    def _matches(self, column: pl.Expr, scope: Scope) -> pl.Expr:
        return _found(column, self.pattern, scope)


@dataclass(frozen=True)
class Regex(_Pattern):
    r"""A regular expression must match some part of the text. Null passes.

    To match the whole text, write ``^`` and ``$``. The syntax is that of Rust's ``regex``, which runs in linear time
    and so has no look-around and no back-references. ``\d``, ``\w`` and ``\s`` know Unicode, and ``$`` is the very
    end of the text.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> rules = [{"regex": {"column": "a", "pattern": "^[A-Z]{2}[0-9]+$"}}]
    >>> lp.check(pl.DataFrame({"a": ["LH400", "400", None]}), rules).failed
    {'regex:a': 1}
    """

    name: ClassVar[str] = "regex"


@dataclass(frozen=True)
class NotRegex(Regex):
    """A regular expression must not match any part of the text. Null passes. The syntax is that of ``regex``.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> rules = [{"not_regex": {"column": "a", "pattern": "(?i)test"}}]
    >>> lp.check(pl.DataFrame({"a": ["Ada", "TESTER", None]}), rules).failed
    {'not_regex:a': 1}
    """

    name: ClassVar[str] = "not_regex"
    fits: ClassVar[bool] = False
    pattern: str = arg(TEXT, "The regular expression that must not match.")


@dataclass(frozen=True)
class Like(_Pattern):
    r"""The whole text must match a SQL ``LIKE`` pattern: ``%`` stands for any text, ``_`` for any one character. Null passes.

    A backslash makes the next character literal: ``100\%``. Upper and lower case differ.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> rules = [{"like": {"column": "a", "pattern": "N___%"}}]
    >>> lp.check(pl.DataFrame({"a": ["N14228", "N1", "D-AIMA", None]}), rules).failed
    {'like:a': 2}
    """

    name: ClassVar[str] = "like"
    pattern: str = arg(TEXT, "The pattern, with % and _.")

    def _matches(self, column: pl.Expr, scope: Scope) -> pl.Expr:
        return _like(column, self.pattern, scope)


@dataclass(frozen=True)
class NotLike(Like):
    """The whole text must not match a SQL ``LIKE`` pattern, written as in ``like``. Null passes.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> rules = [{"not_like": {"column": "a", "pattern": "tmp%"}}]
    >>> lp.check(pl.DataFrame({"a": ["tmp1", "a", None]}), rules).failed
    {'not_like:a': 1}
    """

    name: ClassVar[str] = "not_like"
    fits: ClassVar[bool] = False


@dataclass(frozen=True)
class LengthBetween(Rule):
    """The length must lie within bounds: characters of text, items of a list, bytes of a binary value. Null passes.

    A character is a Unicode code point.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> rules = [{"length_between": {"column": "a", "min": 1, "max": 2}}]
    >>> lp.check(pl.DataFrame({"a": ["", "ä", "abc", None]}), rules).failed
    {'length_between:a': 2}
    """

    name: ClassVar[str] = "length_between"
    column: str = arg(COLUMN, "The column to check.")
    min: int | None = arg(COUNT, "The smallest length. Default: none.", default=None)
    max: int | None = arg(COUNT, "The largest length. Default: none.", default=None)

    def __post_init__(self) -> None:
        """Check that there is a bound, and that it bounds."""
        super().__post_init__()
        if self.min is None and self.max is None:
            raise Fault("length_between needs a bound", "give min, max or both", ("column",))
        for argument in ("min", "max"):
            value = getattr(self, argument)
            if value is not None and (type(value) is not int or not 0 <= value < 2**32):
                raise Fault(f"{value!r} is not a length", "write a whole number, zero or more", (argument,))
        if self.min is not None and self.max is not None and self.min > self.max:
            what = f"min {self.min} is greater than max {self.max}"
            raise Fault(what, "no row could pass; swap them", ("min",))

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: shorter or longer."""
        size = length(*fitting(self.column, schema, scope, LONG, "column"))
        if self.min is None:
            violated = size > self.max
        elif self.max is None:
            violated = size < self.min
        else:
            violated = ~size.is_between(self.min, self.max)
        return [self.check(self.column, schema, scope, violated=violated, column=self.column)]


@dataclass(frozen=True)
class Json(Rule):
    """The text must be one JSON value (RFC 8259), with nothing but white space around it. Null passes.

    The check is strict: no comments, no trailing commas, no NaN. As RFC 8259 allows, it also refuses what many
    readers cannot represent: nesting deeper than 127 levels, numbers beyond the range of a double, and unpaired
    surrogates.

    Examples
    --------
    >>> import lazypipe as lp
    >>> import polars as pl
    >>> lp.check(pl.DataFrame({"a": ['{"x": [1, null]}', "{'x': 1}", "null", None]}), [{"json": "a"}]).failed
    {'json:a': 1}
    """

    name: ClassVar[str] = "json"
    shorthand: ClassVar[str] = "column"
    column: str = arg(COLUMN, "The text column to check.")

    def checks(self, schema: pl.Schema, scope: Scope) -> Sequence[Check]:
        """One check: not to be read."""
        column = text(self.column, schema, scope)
        # a path gives null for what cannot be read, but also for JSON's own null
        unread = column.is_not_null() & column.str.json_path_match("$").is_null()
        violated = unread & (column.str.strip_chars(" \t\n\r") != "null")
        return [self.check(self.column, schema, scope, violated=violated, column=self.column)]


_SIGNS = frozenset(r"\.+*?()|[]{}^$")


def _found(column: pl.Expr, pattern: str, scope: Scope) -> pl.Expr:
    """Return whether a regular expression is found; raises Fault where it is none."""
    head, start = pattern.removeprefix("^"), pattern.startswith("^")
    if start and not _SIGNS & set(head):
        return column.str.starts_with(head)  # measured: a sixth of the time
    try:
        pl.DataFrame(schema={"a": pl.String}).select(pl.col("a").str.contains(pattern))
    except pl.exceptions.ComputeError as error:
        said = re.search(r"^error: (.*)$", str(error), re.MULTILINE)
        why = said[1] if said else first_line(error).removeprefix("regex error: ")
        fix = "write it as Rust's regex takes it (https://docs.rs/regex), without look-around and back-references"
        raise scope.fault(
            f"{pattern!r} is not a valid regular expression: {why.rstrip('.')}", fix, "pattern"
        ) from error
    return column.str.contains(pattern)


_ANY, _ONE = object(), object()


def _like(column: pl.Expr, pattern: str, scope: Scope) -> pl.Expr:
    """Return whether the whole text matches; the common forms need no regular expression."""
    match _tokens(pattern, scope):
        case [str(part)]:
            return column == part
        case [str(part), end] if end is _ANY:
            return column.str.starts_with(part)
        case [start, str(part)] if start is _ANY:
            return column.str.ends_with(part)
        case [start, str(part), end] if start is _ANY and end is _ANY:
            return column.str.contains(part, literal=True)
        case tokens:
            parts = (pl.escape_regex(t) if isinstance(t, str) else ".*" if t is _ANY else "." for t in tokens)
            return column.str.contains(f"(?s)^{''.join(parts)}$")


def _tokens(pattern: str, scope: Scope) -> list[object]:
    tokens: list[object] = []
    signs = iter(pattern)
    for sign in signs:
        if sign in ("%", "_"):
            tokens.append(_ANY if sign == "%" else _ONE)
            continue
        literal = next(signs, None) if sign == "\\" else sign
        if literal is None:
            fix = r"write \\ for a backslash itself"
            raise scope.fault(
                f"the pattern {pattern!r} ends in a backslash, which must be followed by a character", fix, "pattern"
            )
        if tokens and isinstance(tokens[-1], str):
            tokens[-1] += literal
        else:
            tokens.append(literal)
    return tokens
