"""Panes: the successive results of a window, and whether each came before, when or after the watermark passed its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from lazypipe.windows.clock import Clock

__all__ = ["WEIGHT", "Panes", "timing"]

WEIGHT = "_weight"
"""The column that says whether a row is put or taken back, unless an output calls it otherwise."""


@dataclass(frozen=True)
class Panes:
    """How an output writes the panes of its windows.

    ``accumulate`` tells the new total, ``discard`` what is to be added to what was told before, ``retract`` the old row with −1 and
    the new one with +1 in the column ``weight``. ``index`` and ``timing``, if they are asked for, are the columns with the number of the
    pane and with ``early``, ``on_time`` or ``late``.

    Examples
    --------
    >>> Panes("retract", index="pane").columns
    ('_weight', 'pane')
    """

    mode: Literal["accumulate", "discard", "retract"]
    weight: str = WEIGHT
    index: str | None = None
    timing: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that panes have besides those of the windows."""
        weight = self.weight if self.mode == "retract" else None
        return tuple(c for c in (weight, self.index, self.timing) if c is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data that JSON holds."""
        return {"mode": self.mode, "columns": list(self.columns)}


def timing(end: str, schema: pl.Schema, complete: int | None, before: int | None) -> pl.Expr:
    """Return when a version wrote windows: ``early``, ``on_time`` or ``late``; null where the progress of event time is unknown.

    Parameters
    ----------
    end
        The column with the end of each window; a window without one is never told to be over, nor not to be.
    complete, before
        Up to which event time rows are complete in the version, and in the one before, in microseconds.

    Examples
    --------
    >>> ends = pl.DataFrame({"end": [10, 20, 30, None]}, schema={"end": pl.Datetime("us")})
    >>> ends.select(timing("end", ends.schema, 25, 10)).to_series().to_list()
    ['late', 'on_time', 'early', None]
    """
    if complete is None:
        return pl.lit(None, dtype=pl.String)
    clock = Clock.of(end, schema)
    ends = clock.ticks(pl.col(end)) * (clock.tick // 1_000)
    late = pl.lit(value=False) if before is None else ends <= before
    said = pl.when(ends > complete).then(pl.lit("early")).when(late).then(pl.lit("late")).otherwise(pl.lit("on_time"))
    return pl.when(ends.is_not_null()).then(said)
