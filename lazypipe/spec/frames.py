"""Frames that callers give: lazy or not, and nothing else."""

from __future__ import annotations

from typing import Any

import polars as pl

from lazypipe.errors import LazypipeError

__all__ = ["lazy_frame"]


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
        raise LazypipeError(f"{name} is of type {type(given).__name__}; give a pl.DataFrame or a pl.LazyFrame{besides}")
    return given.lazy()
