"""Why a file could not be read: the messages of Polars' readers in terms of the file."""

from __future__ import annotations

import re

from lazypipe.spec.words import type_name

__all__ = [
    "AGAIN",
    "MASKED",
    "NOT_FOUND",
    "grouped",
    "in_plain_words",
    "is_misfit",
    "is_of_store",
    "may_pass",
    "says_thousands",
    "too_narrow",
]

MASKED = "***"
"""What stands in messages for personal data."""
NOT_FOUND = "the file does not exist, or the server does not give it now"
"""What FileNotFoundError of fsspec stands for: of a server that is busy, its caches say no more than that."""
AGAIN = "deliver it again, or say on_corrupt: quarantine_file or skip"
"""What to do about a file that is damaged as a whole: there is nothing in it to mend by hand."""

_STORES = ("Generic ", "object-store", "object store", "status code", "error sending request", "client error")
"""Words of Polars' clients of remote stores: what they could not fetch, or write."""
_PASSING = re.compile(
    r"status code: (?:408|429|5\d\d)\b|error sending request|error decoding response body|body error|timed out"
)
"""Of those, what a store that is busy and a network that is away are told by."""
_OF_CLIENT = re.compile(r":? +\(path: [^()]*\)$")
"""What stands behind such a reason: the first URI that the client was made for, which may be that of another file."""


def is_of_store(reason: str) -> bool:
    """Whether a reason is that of a client of a remote store, whatever the file holds.

    Examples
    --------
    >>> is_of_store("object-store error: Generic S3 error: HTTP error: request or response body error"), is_of_store("a quote is not closed")
    (True, False)
    """
    return any(word in reason for word in _STORES)


def may_pass(reason: str) -> bool:
    """Whether a store was busy, or could not be reached: it may be there the next time.

    Examples
    --------
    >>> may_pass("object-store error: Generic S3 error: … Server returned non-2xx status code: 503 Service Unavailable"), may_pass("503")
    (True, False)
    """
    return is_of_store(reason) and _PASSING.search(reason) is not None


_INVALID = " is not a valid "
"""What stands between a value and the type that it does not have."""
_READINGS = (
    (
        r"could not parse `(.*?)` as dtype `(.*?)` at column '(.*?)' \(column number \d+\)",
        r"{1!r} in column {3!r}" + _INVALID + "{2}",
    ),
    (r"could not parse `(.*)", "a quote is not closed after {1!r}"),
    (r"found more fields than defined in 'Schema'", "a line has too many fields"),
    (r"invalid utf-8 sequence|error parsing line: InvalidUtf8 at character .*", "the text is not UTF-8"),
    (r"cannot parse '(.*)' \([\w ]+\) as (.*)", "{1!r}" + _INVALID + "{2}"),
    (r"(?:error parsing line: )?Syntax at character .*|error parsing line: .*", "a line is not JSON"),
    (r"unexpected dtype when deserializing ndjson", "JSON has no values of a type that is declared, such as Duration"),
    (r"NDJSON line expected to contain JSON object: .*", "a line is JSON, but no object"),
    (r"(?:parquet: )?File out of specification: The file must end with .*", "the file does not end as Parquet does"),
    (r"(?:parquet: )?File out of specification: (.*)", "{1}"),
    (r"out-of-spec: InvalidFooter", "the file does not end as Arrow IPC does"),
    (
        _CUT_OFF := r"incomplete frame|unexpected end of file|Compressed file ended before .*",
        "the packed text ends too early",
    ),
    (
        _DAMAGED
        := r"Data corruption detected|corrupt (?:deflate|gzip) stream.*|CRC check failed.*|Error -3 while decompressing.*",
        "the packed text is damaged",
    ),
    (_OTHER_SUM := r"Bad CRC-32 for file .*", "it is not what its archive says that it is: it is damaged"),
)


def is_packing(reason: str) -> bool:
    """Whether what packs a file is wrong, and not what stands in it.

    Examples
    --------
    >>> is_packing("Bad CRC-32 for file 'a.csv'"), is_packing("cannot parse 'a' (string) as Int32")
    (True, False)
    """
    return re.match(f"{_CUT_OFF}|{_DAMAGED}|{_OTHER_SUM}", reason) is not None


_TOO_NARROW = re.compile(
    r"[`'](?P<number>[+-]?\d+)[`'](?: as dtype `([iu]\d+)`| \([\w ]+\) as (U?Int\d+)|.*" + _INVALID + r"(U?Int\d+))"
)


def too_narrow(reason: str) -> str | None:
    """Return the type that is too narrow for a whole number, if that is why a reader stopped; None if it is not.

    Examples
    --------
    >>> too_narrow("could not parse `5000000000` as dtype `i32` at column 'x' (column number 1)"), too_narrow("cannot parse 'a' (string) as Int32")
    ('Int32', None)
    >>> too_narrow("'5' is not a valid Int32 (line 2)"), too_narrow("'-5' is not a valid UInt8 (line 2)")
    (None, 'UInt8')
    """
    found = _TOO_NARROW.search(reason)
    if found is None:
        return None
    number, narrow = found[1], type_name(next(filter(None, found.groups()[1:])))
    bits = int(re.sub(r"\D", "", narrow))
    least, most = (0, 2**bits - 1) if narrow.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    # one that it holds stands in quotes
    return None if least <= int(number) <= most else narrow


def is_misfit(reason: str) -> bool:
    """Whether a reader of NDJSON stopped at a value that is not of its column's type.

    Examples
    --------
    >>> is_misfit("cannot parse '5' (string) as Int64"), is_misfit("'five' is not a valid Int64 (line 2)"), is_misfit("a line is not JSON")
    (True, True, False)
    """
    return re.match(r"cannot parse '|('.*'|\*\*\*)" + _INVALID, reason, re.DOTALL) is not None


_NO_NUMBER = re.compile(r"could not parse `([^`]*)` as dtype |'([^']*)' in column '.*'" + _INVALID, re.DOTALL)
_GROUPED = re.compile(r"[+-]?\d{1,3}([., '])\d{3}(?:\1\d{3})*((?!\1)[.,]\d*)?")


def says_thousands(text: str) -> str | None:
    """Return what to write so that a number in whose digits marks stand for thousands is read; None if none seem to.

    Examples
    --------
    >>> says_thousands("1.234,50")
    "if '.' stands between thousands, say read: {decimal_comma: true, thousands: '.'}"
    >>> says_thousands("1,234"), says_thousands("1.5"), says_thousands("1.234.5")
    ("if ',' stands between thousands, say read: {thousands: ','}", None, None)
    """
    found = _GROUPED.fullmatch(text)
    if found is None:
        return None
    comma = "decimal_comma: true, " if found[1] == "." or (found[2] or "").startswith(",") else ""
    mark = f"'{found[1]}'" if found[1] != "'" else '"\'"'
    return f"if {mark} stands between thousands, say read: {{{comma}thousands: {mark}}}"


def grouped(reason: str) -> str | None:
    """Return what to write if a reader stopped at a number with marks for thousands; None if it did not.

    Examples
    --------
    >>> grouped("could not parse `1 234` as dtype `i64` at column 'x' (column number 1)"), grouped("'1.5' in column 'x' is not a valid Int64")
    ("if ' ' stands between thousands, say read: {thousands: ' '}", None)
    """
    found = _NO_NUMBER.search(reason)
    return None if found is None else says_thousands(found[1] or found[2] or "")


def in_plain_words(reason: str, *, masked: bool = False) -> str:
    """Return what a reader said in plain words; what is not known stays as it is.

    With ``masked``, nothing that it quotes of the file is told.

    Examples
    --------
    >>> in_plain_words("could not parse `abc` as dtype `f64` at column 'z' (column number 3)")
    "'abc' in column 'z' is not a valid Float64"
    >>> in_plain_words("cannot parse 'abc' (string) as Int64", masked=True)
    '*** is not a valid Int64'
    >>> in_plain_words("cannot make 'abc' out"), in_plain_words("cannot make 'abc' out", masked=True)
    ("cannot make 'abc' out", 'cannot make *** out')
    """
    if is_of_store(reason):
        reason = _OF_CLIENT.sub("", reason)
    for pattern, words in _READINGS:
        if found := re.fullmatch(pattern, reason, re.DOTALL):
            told = words.replace("{1!r}", MASKED) if masked else words
            # what is no value is the name of a type, or of a column
            types = [type_name(part) if f"{{{n}}}" in words else part for n, part in enumerate(found.groups(), 1)]
            return told.format(None, *types)
    return re.sub(r"`[^`]*`|'[^']*'|\"[^\"]*\"", MASKED, reason) if masked else reason
