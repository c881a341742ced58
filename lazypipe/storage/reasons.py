"""Why a file could not be read: what Polars' readers say, in the words of somebody who looks at the file."""

from __future__ import annotations

import re

from lazypipe.spec.words import type_name

__all__ = ["MASKED", "grouped", "in_plain_words", "too_narrow"]

MASKED = "***"
"""What stands in messages for personal data."""

_READINGS = (
    (
        r"could not parse `(.*?)` as dtype `(.*?)` at column '(.*?)' \(column number \d+\)",
        r"{1!r} in column {3!r} is no {2}",
    ),
    (r"could not parse `(.*)", "a quote is not closed after {1!r}"),
    (r"found more fields than defined in 'Schema'", "a line has too many fields"),
    (r"invalid utf-8 sequence|error parsing line: InvalidUtf8 at character .*", "the text is not UTF-8"),
    (r"cannot parse '(.*)' \([\w ]+\) as (.*)", r"{1!r} is no {2}"),
    (r"error parsing line: .*", "a line is not JSON"),
    (r"NDJSON line expected to contain JSON object: .*", "a line is JSON, but no object"),
    (r"(?:parquet: )?File out of specification: The file must end with .*", "the file does not end as Parquet does"),
    (r"(?:parquet: )?File out of specification: (.*)", "{1}"),
    (r"out-of-spec: InvalidFooter", "the file does not end as Arrow IPC does"),
    (r"incomplete frame|unexpected end of file|Compressed file ended before .*", "the packed text ends too early"),
    (
        r"Data corruption detected|corrupt (?:deflate|gzip) stream.*|CRC check failed.*|Error -3 while decompressing.*",
        "the packed text is damaged",
    ),
)


_TOO_NARROW = re.compile(
    r"could not parse `[+-]?\d+` as dtype `([iu]\d+)`|cannot parse '[+-]?\d+' \([\w ]+\) as (U?Int\d+)|'[+-]?\d+'.* is no (U?Int\d+)"
)


def too_narrow(reason: str) -> str | None:
    """Return the type that is too narrow for a whole number, if that is why a reader stopped; None if it is not.

    Examples
    --------
    >>> too_narrow("could not parse `5000000000` as dtype `i32` at column 'x' (column number 1)"), too_narrow("cannot parse 'a' (string) as Int32")
    ('Int32', None)
    """
    found = _TOO_NARROW.search(reason)
    return None if found is None else type_name(next(filter(None, found.groups())))


_GROUPED = re.compile(
    r"could not parse `([^`]*)` as dtype `([^`]*)` at column '(.*)' \(column number \d+\)|'([^']*)' in column '(.*)' is no (.*)",
    re.DOTALL,
)
_MARKS = re.compile(r"[+-]?\d{1,3}([., ])\d{3}(?:\1\d{3})*(?:(?!\1)([.,])\d*)?")


def grouped(reason: str) -> str | None:
    """Return the SQL that reads a number in whose digits marks stand for thousands, if that is why a reader stopped; None if it is not.

    Examples
    --------
    >>> grouped("could not parse `1.234,50` as dtype `f64` at column 'x' (column number 1)")
    "replace(replace(x, '.', ''), ',', '.')::double"
    >>> grouped("'1,234' in column 'x' is no Decimal(12, 2)"), grouped("'1.5' in column 'x' is no Int64")
    ("replace(x, ',', '')::decimal(12, 2)", None)
    """
    found = _GROUPED.search(reason)
    text, dtype, column = (
        ("", "", "") if found is None else found.group(1, 2, 3) if found.group(2) else found.group(4, 6, 5)
    )
    marks = _MARKS.fullmatch(text)
    if marks is None:
        return None
    name = column if column.isidentifier() else f'"{column}"'
    made = f"replace({name}, '{marks[1]}', '')"
    made = f"replace({made}, ',', '.')" if marks[2] == "," else made
    named = type_name(dtype).lower()
    return f"{made}::{named if named.startswith('decimal') else 'bigint' if 'int' in named else 'double'}"


def in_plain_words(reason: str, *, masked: bool = False) -> str:
    """Return what a reader said in plain words; what is not known stays as it is.

    With ``masked``, nothing that it quotes of the file is told.

    Examples
    --------
    >>> in_plain_words("could not parse `abc` as dtype `f64` at column 'z' (column number 3)")
    "'abc' in column 'z' is no Float64"
    >>> in_plain_words("cannot parse 'abc' (string) as Int64", masked=True)
    '*** is no Int64'
    >>> in_plain_words("cannot make 'abc' out"), in_plain_words("cannot make 'abc' out", masked=True)
    ("cannot make 'abc' out", 'cannot make *** out')
    """
    for pattern, words in _READINGS:
        if found := re.fullmatch(pattern, reason, re.DOTALL):
            told = words.replace("{1!r}", MASKED) if masked else words
            # what is no value is the name of a type, or of a column
            types = [type_name(part) if f"{{{n}}}" in words else part for n, part in enumerate(found.groups(), 1)]
            return told.format(None, *types)
    return re.sub(r"`[^`]*`|'[^']*'|\"[^\"]*\"", MASKED, reason) if masked else reason
