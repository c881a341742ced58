"""Whole numbers in text columns that are read as floats because others have fractions: from 2^53 on, not all of them are floats.

Who declares a float has asked for what is nearest. Where it was only guessed, no number is to change in silence.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import polars as pl

from lazypipe.errors import SourceError
from lazypipe.storage.files import FileInfo
from lazypipe.storage.reasons import MASKED
from lazypipe.storage.scan import Reader
from lazypipe.storage.text.cells import is_no_float
from lazypipe.storage.text.lines import line_where
from lazypipe.storage.text.moments import as_text

__all__ = ["may_change", "refuse_changed"]

_EXACT = 2.0**53


def may_change(column: pl.Series) -> bool:
    """Whether a column has floats so large that they may be other numbers than stood there.

    Examples
    --------
    >>> may_change(pl.Series([1.5, None])), may_change(pl.Series([1.5, -1e16]))
    (False, True)
    """
    ends = [v for v in (column.min(), column.max()) if isinstance(v, float)]
    return any(abs(v) >= _EXACT for v in ends)


def refuse_changed(files: Sequence[FileInfo], reader: Reader, schema: pl.Schema, names: Collection[str]) -> None:
    """Raise SourceError for the first whole number in some columns that its float is not; names file, line and column."""
    written = as_text(schema, names)
    for file in files:
        rows = reader.scan([file], written)
        for name in names:
            changed = is_no_float(pl.col(name))
            found = rows.filter(changed).select(name).head(1).collect(engine="streaming")
            if not found.height:
                continue
            line = line_where(file, reader, written, changed)
            cell = MASKED if reader.masked else repr(found.item().strip())
            what = f"line {line} has {cell} in column {name!r}, which does not fit in a Float64"
            # beside fractions JSON's numbers of so many digits are not sure to be what was written (storage/shape.py)
            exact = "String" if reader.format == "ndjson" else "String or Decimal(38, 9)"
            fix = f"declare the type of {name!r} in contract: {exact} keeps it, Float64 takes what is nearest"
            raise SourceError(what, uri=file.uri, fix=fix)
