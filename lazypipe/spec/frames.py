"""Frames that callers give, checked to be DataFrames or LazyFrames, and their names."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

import polars as pl

from lazypipe.errors import LazypipeError, nearest

__all__ = ["lazy_frame", "missing"]

_WAYS = {"pandas.": "pl.from_pandas(…) of it", "pyarrow.": "pl.from_arrow(…) of it"}


def missing(name: str, known: Collection[str]) -> str:
    """Return the hint for a frame that is named but not among those given.

    Examples
    --------
    >>> missing("countries", []), missing("countris", ["countries"])
    ('give it by its name: countries=…', "did you mean 'countries'?")
    """
    return nearest(name, known, "frames") if known else f"give it by its name: {name}=…"


def lazy_frame(given: Any, name: str, *, besides: str = "") -> pl.LazyFrame:
    """Return a frame that was given as a lazy one; raises LazypipeError for what is none.

    Parameters
    ----------
    name
        What the caller knows it as.
    besides
        What else could have been given.

    Examples
    --------
    >>> lazy_frame({"a": [1]}, "frame")
    Traceback (most recent call last):
    lazypipe.errors.LazypipeError: frame is of type dict; give a pl.DataFrame or a pl.LazyFrame
    """
    if not isinstance(given, pl.DataFrame | pl.LazyFrame):
        way = next(
            (f", such as {how}" for kind, how in _WAYS.items() if f"{type(given).__module__}.".startswith(kind)), ""
        )
        if isinstance(given, str | os.PathLike) and not besides:
            way = ", such as pl.scan_csv(…) of a file, or lp.scan(…) of a dataset"
        what = f"{name} is of type {type(given).__name__}"
        raise LazypipeError(f"{what}; give a pl.DataFrame or a pl.LazyFrame{besides}{way}")
    return given.lazy()
