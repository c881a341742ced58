"""Files that are not what their name says: a login page, an error message of a store, a whole JSON document."""

from __future__ import annotations

import re

from lazypipe.storage.formats import FORMATS, TEXT_FORMATS
from lazypipe.storage.reasons import AGAIN

__all__ = ["document"]

_LINES = "write one JSON object per line, such as with jq -c {}"
_UTF_8 = "convert it, such as with iconv -f UTF-16 -t UTF-8"
_TEXT, _TYPED = frozenset(TEXT_FORMATS), frozenset(FORMATS) - frozenset(TEXT_FORMATS)
_ALL = _TEXT | _TYPED
_DOCUMENTS = tuple(
    (re.compile(pattern, re.IGNORECASE), forms, what, fix)
    for pattern, forms, what, fix in (
        (r"<(!doctype html|html|head|body)\b", _ALL, "an HTML page, such as one that asks to log in", AGAIN),
        (
            r"<\?xml\b|<error>",
            _ALL,
            "an XML document, such as one with which a store says what went wrong",
            AGAIN,
        ),
        (r"""[\[{]\s*$|[\[{]\s*["\[{]""", _ALL - {"ndjson"}, "a JSON document", AGAIN),
        (r"\[", {"ndjson"}, "a JSON array", _LINES.format("'.[]'")),
        (r"\{[ \t\r]*(\n|$)", {"ndjson"}, "a JSON document over several lines", _LINES.format(".")),
        (r"PK\x03\x04", _ALL, "a zip archive, as which Excel keeps its workbooks", AGAIN),
        (r"PAR1[^ -~\t]", _ALL - {"parquet"}, "a Parquet file", AGAIN),
        (r"ARROW1\0", _ALL - {"ipc"}, "an Arrow IPC file", AGAIN),
        # a UTF-16 byte order mark is not UTF-8
        (r"\ufffd\ufffd(?=.?\0)|([^\0]\0){2}|(\0[^\0]){2}", _TEXT, "UTF-16 text", _UTF_8),
        (r"(?!PAR1|ARROW1)[\t\r\n -~]{12}", _TYPED, "text", AGAIN),
    )
)
"""How files begin that are something else, whatever they are called, for which formats that shows it, what they are, and what to do."""


def document(begin: str, form: str) -> tuple[str, str] | None:
    """Say what a file is by whose beginning it cannot be of a format, and what to do; None if it may be.

    Examples
    --------
    >>> document("<!DOCTYPE html>", "csv")
    ('the file is an HTML page, such as one that asks to log in, and not CSV', 'deliver it again, or say on_corrupt: quarantine_file or skip')
    >>> document('[{"id": 1}]', "ndjson")
    ('the file is a JSON array, and not NDJSON', "write one JSON object per line, such as with jq -c '.[]'")
    >>> document("id,name", "csv")
    """
    begin = begin.lstrip("\ufeff \t\r\n")
    for pattern, forms, what, fix in _DOCUMENTS:
        if form in forms and pattern.match(begin):
            return f"the file is {what}, and not {FORMATS[form].name}", fix
    return None
