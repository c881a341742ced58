"""The limit on how much new input one run takes; the rest is left for the next run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TypeVar

from lazypipe.errors import LazypipeError
from lazypipe.incremental.stamps import nanoseconds

__all__ = ["UNBOUND", "Bound"]

T = TypeVar("T")

_SIZES = ("files", "rows", "bytes")


@dataclass(frozen=True)
class Bound:
    """What a run takes at most of each source that is read unit by unit: files (or units of a dataset), bytes, rows.

    The first unit is always taken, whatever its size, so that every run gets on. Of files, only those are taken that were written from
    ``since`` on, and before ``until``; in UTC where they have no time zone.

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
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        for name in _SIZES:
            most = getattr(self, name)
            if most is not None and (not isinstance(most, int) or isinstance(most, bool)):
                raise LazypipeError(
                    f"max_{name} is {most!r}, which is not a whole number; write 1 or more, or leave it out"
                )
            if most is not None and most < 1:
                raise LazypipeError(f"max_{name} is {most}; a run takes at least 1: leave it out for no limit")

    @property
    def is_dated(self) -> bool:
        """Whether the choice of files depends on when they were written."""
        return self.since is not None or self.until is not None

    def holds(self, moment: int) -> bool:
        """Whether files are taken that were written at a moment, in nanoseconds since 1970.

        Examples
        --------
        >>> [Bound(since=datetime(1970, 1, 1), until=datetime(1970, 1, 2)).holds(n) for n in (-1, 0, 86_400_000_000_000)]
        [False, True, False]
        """
        since, until = self.since, self.until
        return (since is None or moment >= nanoseconds(since)) and (until is None or moment < nanoseconds(until))

    @property
    def told(self) -> str:
        """When files were written that are taken, in words."""
        since = "" if self.since is None else f"since {self.since.isoformat()}"
        until = "" if self.until is None else f"before {self.until.isoformat()}"
        return " and ".join(filter(None, [since, until]))

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
