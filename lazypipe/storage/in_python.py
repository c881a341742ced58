"""Rows as Python values. Python's calendar ends with the year 9999, but the end of a window may be a day later."""

from __future__ import annotations

from datetime import MAXYEAR, MINYEAR

import polars as pl
import polars.selectors as cs

__all__ = ["for_python"]


def for_python(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with text in columns that hold a date or datetime beyond those of Python.

    Examples
    --------
    >>> from datetime import datetime, timedelta
    >>> last = pl.DataFrame({"at": [datetime(9999, 12, 31)]})
    >>> for_python(last.select(pl.col("at") + timedelta(days=1))).rows(), for_python(last).rows()
    ([('+10000-01-01 00:00:00.000000',)], [(datetime.datetime(9999, 12, 31, 0, 0),)])
    """
    times = rows.select(cs.date() | cs.datetime())
    years = times.select(pl.all().dt.year())
    beyond = years.select((~pl.all().is_between(MINYEAR, MAXYEAR)).any())
    return rows.with_columns(pl.col(n).cast(pl.String) for n in times.columns if beyond[n].item())
