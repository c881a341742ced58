"""Column names that cannot be used: Polars takes them for patterns, or lazypipe reserves them."""

from __future__ import annotations

import re

import polars as pl

from lazypipe.spec.model import Fault, Path
from lazypipe.spec.types import is_pattern
from lazypipe.storage.datasets.units import UNIT, is_of_files

__all__ = ["check_names"]

_NO_LINE = re.compile(r"\r(?!\n)|\0")


def check_names(schema: pl.Schema, path: Path, *, files: bool = False, text: bool = False) -> None:
    """Raise Fault, at ``path``, for a column of a frame (or, with ``files``, of files) that cannot be used.

    With ``text``, also for one that the first line of a text file does not mean: Polars takes a file whose lines end in CR alone for
    one line, and any bytes for names.

    Examples
    --------
    >>> check_names(pl.Schema({"^x$": pl.Int64}), ())
    Traceback (most recent call last):
        ...
    lazypipe.spec.model.Fault: column '^x$' would be read as a pattern of names
    """
    for name in schema:
        if text and _NO_LINE.search(name):
            cr = "\0" not in name
            what = (
                "lines end in CR only, so the whole file is read as one header"
                if cr
                else "the first line holds zero bytes: the file is not text"
            )
            fix = "write LF, or CR LF, at the end of each line" if cr else "deliver it as text"
            raise Fault(what, fix, path)
        if is_pattern(name):
            fix = "rename it, or leave it out of the files" if files else "give it another name"
            raise Fault(f"column {name!r} would be read as a pattern of names", fix, path)
        if is_of_files(name):
            kept = (
                "in it the file that each row was made from"
                if name == UNIT
                else "values in compact form under such names"
            )
            what = f"column {name!r} is reserved for lazypipe, which keeps {kept}"
            raise Fault(what, "give it another name", path)
