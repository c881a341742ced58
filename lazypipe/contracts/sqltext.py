"""SQL text and patterns written for other tools: checked whether they mean the same here."""

from __future__ import annotations

import re

import polars as pl

from lazypipe.errors import first_line
from lazypipe.sql.bind import bind
from lazypipe.sql.text import SqlError, parameters

__all__ = ["is_regex", "like_as_regex", "like_escaped", "problem"]

_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*\"""")


def problem(text: str) -> str | None:
    """Return why a condition that another tool wrote cannot be taken over as it is; None if it can.

    Examples
    --------
    >>> problem("a > 1 AND b IS NOT NULL"), problem("a > now()")
    (None, "now would read the machine's clock; write :now, the time of the run, which the caller can set")
    >>> problem("{{ var('x') }} = 1")
    'it holds a template, which only the tool that wrote it can fill in'
    """
    if "{{" in text or "{%" in text or "${" in text:
        return "it holds a template, which only the tool that wrote it can fill in"
    if re.search(r"\bselect\b", _QUOTED.sub("", text), re.IGNORECASE):
        return "it holds a query of its own; join what it reads in a stage"
    try:
        if used := parameters(text):
            return f"it uses the parameter :{min(used)}"
        # names that are not known yet: as columns without a type
        roots = pl.sql_expr(text).meta.root_names() if "date_trunc" not in text.lower() else []
        bind(text, pl.Schema({root: pl.Null() for root in roots}))
    except SqlError as error:
        # date_trunc needs types, and the columns are not known here
        return None if "date_trunc" in text.lower() and "column" in error.what else str(error)
    except (pl.exceptions.PolarsError, UnicodeError) as error:
        return f"Polars SQL cannot read it: {first_line(error)}"
    return None


def is_regex(pattern: str) -> bool:
    """Return whether Polars knows the regular expression: it has no look-around and no back references.

    Examples
    --------
    >>> is_regex("^[a-z]+$"), is_regex("(?!x)y")
    (True, False)
    """
    try:
        pl.select(pl.lit("").str.contains(pattern))
    except pl.exceptions.PolarsError:
        return False
    return True


def like_as_regex(pattern: str, escape: str) -> str:
    r"""Return a LIKE pattern as a regular expression; the character after ``escape`` is taken literally.

    Examples
    --------
    >>> like_as_regex("10!%_", "!")
    '(?s:^10%.$)'
    """
    out, signs = [], iter(pattern)
    for sign in signs:
        if sign == escape:
            out.append(pl.escape_regex(next(signs, escape)))
        else:
            out.append({"%": ".*", "_": "."}.get(sign) or pl.escape_regex(sign))
    return f"(?s:^{''.join(out)}$)"


def like_escaped(pattern: str, escape: str) -> str:
    r"""Return a LIKE pattern whose escape is another sign with the backslash, which rules take.

    Examples
    --------
    >>> print(like_escaped("10!%_", "!"))
    10\%_
    """
    out, signs = [], iter(pattern)
    for sign in signs:
        literal = next(signs, escape) if sign == escape else sign
        out.append("\\" + literal if sign in (escape, "\\") else literal)
    return "".join(out)
