"""When a stream starts a batch: a value that is given the time, and holds no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from lazypipe.errors import LazypipeError
from lazypipe.spec.model import Param

__all__ = ["Trigger"]


@dataclass(frozen=True)
class Trigger:
    """When the next micro-batch starts.

    Parameters
    ----------
    every
        How often to check for new input, such as ``10s``.
    files, rows
        Start a batch only when this many new files (or parts of a dataset), or rows, are there. Default: with the first one.
    or_after
        Start it at the latest this long after the first of them was seen. Default: no limit.
    once
        Whether to end the stream when everything that is there has been processed.

    Raises
    ------
    LazypipeError
        If a duration is none, or a number is less than 1.

    Examples
    --------
    >>> Trigger("1m", files=100, or_after="10m").is_due(99, 0, timedelta(minutes=10))
    True
    >>> Trigger("1m", files=100).is_due(99, 0, timedelta(hours=1)), Trigger().is_due(1, 0, timedelta(0))
    (False, True)
    """

    every: str | timedelta = timedelta(seconds=10)
    files: int | None = None
    rows: int | None = None
    or_after: str | timedelta | None = None
    once: bool = False

    def __post_init__(self) -> None:
        for name in ("files", "rows"):
            least = getattr(self, name)
            if least is not None and least < 1:
                raise LazypipeError(f"trigger: {name} is {least}; write 1 or more, or leave it out")
        if self.or_after is not None and not self.gathers:
            raise LazypipeError("trigger: or_after is how long files or rows are waited for; add one of them")
        if self.once and self.gathers:
            raise LazypipeError("trigger: once takes what is there; leave out files and rows")
        _duration("every", self.every)
        _duration("or_after", self.or_after or timedelta(seconds=1))

    @property
    def gathers(self) -> bool:
        """Whether batches wait for more than one new file."""
        return self.files is not None or self.rows is not None

    @property
    def interval(self) -> timedelta:
        """How often to check."""
        return _duration("every", self.every)

    def is_due(self, files: int, rows: int, since: timedelta) -> bool:
        """Whether a batch starts, given the number of new files and rows and the time since the first of them was seen."""
        if not self.gathers:
            return True
        enough = (self.files is not None and files >= self.files) or (self.rows is not None and rows >= self.rows)
        return enough or (self.or_after is not None and since >= _duration("or_after", self.or_after))


def _duration(name: str, written: str | timedelta) -> timedelta:
    if isinstance(written, timedelta):
        found = written
    else:
        try:
            found = cast("timedelta", Param("duration").parse(written))
        except ValueError as error:
            raise LazypipeError(f"trigger: {name}: {error}") from None
    if found <= timedelta(0):
        raise LazypipeError(f"trigger: {name} is {written}; write a duration such as 10s")
    return found
