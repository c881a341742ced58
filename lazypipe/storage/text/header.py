"""Column names of a CSV that show that it is read with wrong options, such as another separator than it is written with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lazypipe.errors import SourceError
from lazypipe.storage.documents import document

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = ["misread", "refuse_misread"]

_AGAIN = re.compile(r"(.+)_duplicated_\d+", re.DOTALL)
_SAYS = re.compile(r"sep=(.?)$", re.IGNORECASE)
_LONG = 60
"""Characters of a name that are shown."""
_SEPARATORS = (",", ";", "\t", "|")


def misread(names: Sequence[str], options: Mapping[str, Any], known: Collection[str]) -> tuple[str, str] | None:
    """Return what a header shows to be misread, and what to do; None if nothing is. A name that is ``known`` was meant.

    ``options`` are those that the file is read with, as ``pl.scan_csv`` takes them.

    A single column with another separator in its name is several, and would be a new one, with the others missing, in silence. Quotes that
    are doubled inside of a name Polars leaves so; it takes all letters that are no UTF-8 for the same one, and gives a name that comes
    twice another one.

    Examples
    --------
    >>> misread(["id", "amount"], {}, [])
    >>> print(*misread(["id;amount"], {}, []), sep="; ")
    the header is one column, 'id;amount', with ';' in its name; say read: {separator: ";"}, or declare it in contract if it is one
    >>> misread(["id;amount"], {}, ["id;amount"])
    """
    new = [n for n in names if n not in known]
    if not options.get("has_header", True) or not new:
        return None
    if names[0] not in known and (other := document(names[0], "csv")) is not None:
        return other
    if any(
        "\0" in n or "\r" in n for n in names
    ):  # it is no text, or all of it is the header, which is reported where names are checked
        return None
    if len(names) < 3 and (first := _SAYS.match(names[0])) is not None:
        mark = first[1] or options.get("separator", ",")
        shown = mark.replace("\t", r"\t")
        what = f"the first line, 'sep={shown}', is for Excel, and not the header"
        return what, f'say read: {{separator: "{shown}", skip_rows: 1}}'
    if len(names) == 1 and (separator := _between(names[0], options.get("separator", ","))) is not None:
        shown = separator.replace("\t", r"\t")
        what = f"the header is one column, {_shown(names[0])}, with '{shown}' in its name"
        return what, f'say read: {{separator: "{shown}"}}, or declare it in contract if it is one'
    if (name := next((n for n in new if "\ufffd" in n), None)) is not None:
        return (
            f"the header has {_shown(name)}, which is not UTF-8",
            "convert it, such as with iconv -f WINDOWS-1252 -t UTF-8",
        )
    for name in new:
        again = _AGAIN.fullmatch(name)
        if again is not None and again[1] in names:
            what = f"the header has {again[1]!r} more than once, and another one would be called {name!r}"
            return what, "give each column a name of its own, or declare it in contract by that name"
    quote = options.get("quote_char", '"')
    doubled = next((n for n in new if quote and quote * 2 in n), None)
    if doubled is None:
        return None
    alias = f"columns: {{{doubled.replace(quote * 2, quote)!r}: {{type: String, alias: {doubled!r}}}}}"
    return (
        f"the header has {doubled!r}, of which the doubled quotes would stay",
        f"declare it in contract, as in {alias}",
    )


def refuse_misread(uri: str, names: Sequence[str], options: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise SourceError, which names the file, where its header was not read as it was meant, and those of others were."""
    if (found := misread(names, options, known)) is not None:
        of_its_own = document(names[0], "csv") == found
        again = "deliver it again as the others are written, or make it another source"
        raise SourceError(found[0], uri=uri, fix=found[1] if of_its_own else again)


def _shown(name: str) -> str:
    return repr(name if len(name) <= _LONG else f"{name[:_LONG]}…")


def _between(name: str, separator: str) -> str | None:
    """Return what seems to part the names that stand in one."""
    for other in _SEPARATORS:
        parts = [part.strip() for part in name.split(other)]
        if other != separator and len(parts) > 1 and all(parts) and len({*parts}) == len(parts):
            return other
    return None
