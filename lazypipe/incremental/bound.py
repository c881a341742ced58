"""How much of what is new one run takes: what is left is for the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from lazypipe.errors import LazypipeError

__all__ = ["UNBOUND", "Bound"]

T = TypeVar("T")


@dataclass(frozen=True)
class Bound:
    """What a run takes at most of each source that is read unit by unit: files (or units of a dataset), bytes, rows.

    The first unit is always taken, whatever its size, so that every run gets on.

    Raises
    ------
    LazypipeError
        If a bound is less than 1.

    Examples
    --------
    >>> Bound(files=2).first(["a", "b", "c"], len, len), Bound(bytes=1).first(["abc", "d"], len, len)
    (2, 1)
    """

    files: int | None = None
    rows: int | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            most = getattr(self, name)
            if most is not None and most < 1:
                raise LazypipeError(f"max_{name} is {most}; a run takes 1 at least: leave it out for no bound")

    @property
    def is_set(self) -> bool:
        """Whether there is any bound."""
        return any(getattr(self, f.name) is not None for f in fields(self))

    def first(self, units: Sequence[T], size: Callable[[T], int | None], rows: Callable[[T], int]) -> int:
        """Return how many of the first units are taken; rows are counted only if they are bounded, and only as far as needed.

        A size that is not known counts as nothing.
        """
        size_of_all = rows_of_all = 0
        for taken, unit in enumerate(units):
            if self.files is not None and taken >= self.files:
                return taken
            size_of_all += (size(unit) or 0) if self.bytes is not None else 0
            rows_of_all += rows(unit) if self.rows is not None else 0
            over = (self.bytes is not None and size_of_all > self.bytes) or (
                self.rows is not None and rows_of_all > self.rows
            )
            if over and taken:
                return taken
        return len(units)


UNBOUND = Bound()
"""A run takes all that is there."""
