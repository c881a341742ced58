"""Names of columns that cannot be used: Polars takes them for patterns, or they are lazypipe's own."""

from __future__ import annotations

import polars as pl

from lazypipe.spec.model import Fault, Path
from lazypipe.storage.units import UNIT

__all__ = ["check_names"]


def check_names(schema: pl.Schema, path: Path, *, files: bool = False) -> None:
    """Raise Fault, at ``path``, for a column of a frame (or, with ``files``, of files) that cannot be used.

    Examples
    --------
    >>> check_names(pl.Schema({"^x$": pl.Int64}), ())
    Traceback (most recent call last):
        ...
    lazypipe.spec.model.Fault: column '^x$' would be taken for a pattern of names
    """
    for name in schema:
        if name == "*" or (name.startswith("^") and name.endswith("$")):
            fix = "rename it, or leave it out of the files" if files else "give it another name"
            raise Fault(f"column {name!r} would be taken for a pattern of names", fix, path)
        if name == UNIT:
            what = f"column {UNIT!r} is lazypipe's own: it tells which file each row of an output was made of"
            raise Fault(what, "give it another name", path)
