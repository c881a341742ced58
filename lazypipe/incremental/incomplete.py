"""Windows that are closed but incomplete: what is missing, since when, and whether they are held back, as recorded in commits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from lazypipe.compile.closing import columns_where_closed, waited_for
from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.node import Node
from lazypipe.storage import uri as uris
from lazypipe.storage.files import expand
from lazypipe.windows.clock import Clock
from lazypipe.windows.watermark import moment

if TYPE_CHECKING:
    from lazypipe.ops.closed import Closed
    from lazypipe.windows.expectation import Expectation

__all__ = ["INCOMPLETE", "Incomplete", "Marks", "due", "read", "shown", "told", "written"]

INCOMPLETE = "incomplete"
"""Where in what a commit says of progress, and in records, stand the windows that are not whole."""
MOST = 1_000
"""How many of them are named; the others are counted."""


@dataclass(frozen=True)
class Incomplete:
    """A window that is closed and lacks something: its ends and since when that is known, in microseconds since 1970.

    ``held`` says whether it is held back; otherwise it was published, or had no rows to publish.

    Examples
    --------
    >>> print(Incomplete(0, 3_600_000_000, ("2 of 3 files",), 7_200_000_000, held=True))
    1970-01-01T00:00:00..1970-01-01T01:00:00, held back, since 1970-01-01T02:00:00: 2 of 3 files
    >>> print(Incomplete(0, 3_600_000_000, ("10 of 12 rows",), 7_200_000_000, held=False))
    1970-01-01T00:00:00..1970-01-01T01:00:00, since 1970-01-01T02:00:00: 10 of 12 rows
    """

    start: int
    end: int
    lacks: tuple[str, ...]
    since: int
    held: bool

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data to read."""
        return {
            "start": moment(self.start),
            "end": moment(self.end),
            "lacks": list(self.lacks),
            "since": moment(self.since),
            "held": self.held,
        }

    def __str__(self) -> str:
        return shown(self.to_dict())


def shown(window: Mapping[str, Any]) -> str:
    """Return a line about a window that is given as plain data."""
    held = ", held back" if window["held"] else ""
    return f"{window['start']}..{window['end']}{held}, since {window['since']}: {', '.join(window['lacks'])}"


def written(windows: Iterable[Incomplete]) -> dict[str, Any]:
    """Return windows as a commit says them, the earliest first; as many as are named."""
    ordered = sorted(windows, key=lambda w: w.start)
    first = [[w.start, w.end, list(w.lacks), w.since, w.held] for w in ordered[:MOST]]
    return {"windows": first, "more": len(ordered) - len(first)}


def read(progress: Mapping[str, Any]) -> tuple[tuple[Incomplete, ...], int]:
    """Return the windows that a commit names, by what it says of progress, and how many more there are."""
    plain = progress.get(INCOMPLETE)
    if plain is None:
        return (), 0
    return tuple(Incomplete(s, e, tuple(lacks), since, held) for s, e, lacks, since, held in plain["windows"]), plain[
        "more"
    ]


def told(windows: Sequence[Incomplete], more: int = 0) -> dict[str, Any]:
    """Return windows as plain data to read, as many as are named; nothing where all are whole.

    Examples
    --------
    >>> told([Incomplete(0, 3_600_000_000, ("no marker",), 7_200_000_000, held=True)])["incomplete"][0]["lacks"]
    ['no marker']
    """
    if not windows:
        return {}
    more += max(0, len(windows) - MOST)
    return {INCOMPLETE: [w.to_dict() for w in windows[:MOST]], **({"more_incomplete": more} if more else {})}


@dataclass(frozen=True)
class Marks:
    """The markers of windows that are there, listed once; ``folder`` is what their names are relative to."""

    expectation: Expectation
    clock: Clock
    folder: str
    there: frozenset[str]

    @classmethod
    def of(cls, plan: CompiledPipeline, node: Node, closed: Closed) -> Marks | None:
        """List the markers of a stage's windows; None if none are expected.

        Raises
        ------
        SourceError
            If they cannot be listed.
        """
        found = closed.expectation
        if found is None or found.pattern is None:
            return None
        folder = uris.resolve("x", plan.pipeline.base).removesuffix("x")
        folder = "" if uris.resolve(found.pattern, plan.pipeline.base) == found.pattern else folder
        options = next((s.reader.storage_options for s in waited_for(plan.nodes, node.name).values()), {})
        files = expand([folder + found.pattern], options, patient=True)
        clock = Clock.of(closed.end, columns_where_closed(node))
        return cls(found, clock, folder, frozenset(f.uri for f in files))

    def names(self, ends: pl.DataFrame) -> list[str]:
        """Return the markers that windows must have: ``start`` and ``end``, of the clock's type."""
        name = self.expectation.names(pl.col("start"), pl.col("end"), self.clock.dtype, self.folder)
        return ends.select(name.alias("name"))["name"].to_list()

    def have(self, ends: pl.DataFrame) -> list[bool]:
        """Return which windows have theirs."""
        return [name in self.there for name in self.names(ends)]


def due(plan: CompiledPipeline, node: Node, closed: Closed, progress: Mapping[str, Any], now: int) -> str:
    """Say why windows that are held back are to be looked at again though nothing came; nothing if they are not.

    ``progress`` is what the last commit says, ``now`` the clock of the run in microseconds since 1970.
    """
    found = closed.expectation
    held = [w for w in read(progress)[0] if w.held]
    if found is None or not held:
        return ""
    for window in held:
        if found.is_due(window.end, now):
            return f"the deadline of the window from {moment(window.start)} has passed"
    marks = Marks.of(plan, node, closed)
    if marks is not None:
        for window, has in zip(held, marks.have(frame_of(held, marks.clock)), strict=True):
            if has and "no marker" in window.lacks:
                return f"the marker of the window from {moment(window.start)} has come"
    return ""


def frame_of(windows: Iterable[Incomplete], clock: Clock) -> pl.DataFrame:
    """Return the ends of windows as times of the clock."""
    ticks = pl.DataFrame([(w.start, w.end) for w in windows], schema={"start": pl.Int64, "end": pl.Int64}, orient="row")
    return ticks.select(clock.from_ticks(pl.col(n) // (clock.tick // 1_000)).alias(n) for n in ("start", "end"))
