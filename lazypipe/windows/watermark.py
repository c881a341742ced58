"""Watermarks: up to which event time a source is believed to be complete, as values that depend on no clock and no run.

Files of a source stand in an order. Before each of them the source has reached the latest event time of those ahead of it, less
a delay. That is the watermark that its rows came under, however files were put into runs (docs/decisions/0023).

Times are microseconds since 1970, in UTC where they have a time zone. Partitions of a source are told apart by keys, as ``key``
makes them of a column's values; a source without partitions has the one of null.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import polars as pl
from blake3 import blake3

from lazypipe.spec.model import NOTHING
from lazypipe.windows.clock import Clock

__all__ = [
    "COMPLETE",
    "DAY",
    "WATERMARK",
    "WHOLE",
    "Arrival",
    "Extent",
    "Progress",
    "Times",
    "Watermark",
    "combined",
    "in_order",
    "key",
    "moment",
    "plain_times",
    "reached",
]

WATERMARK = "_watermark"
"""The column with the watermark that each row came under, unless a source calls it otherwise."""
WHOLE = ""
"""The key of null, and of all rows of a source without partitions."""
COMPLETE = "watermark"
"""Where in a commit's ``info`` stands up to which event time its rows are complete, in microseconds since 1970; None: to none."""
DAY = 86_400_000_000
"""Microseconds in a day of 24 hours."""
_FAR = 2**63 - 1
_FIRST = {"ns": -9_223_372_036_854_775, "us": -62_135_596_800_000_000, "ms": -62_135_596_800_000_000}
"""The watermark where nothing has come before, in microseconds: the year 1, or what nanoseconds reach."""


@dataclass(frozen=True)
class Watermark:
    """How a source's watermark comes about.

    ``time`` is the column of event times, ``name`` that of the watermark which each row gets. ``column``, if it is given, is a column
    that states when a row came, and the watermark then lies ``delay`` before that. Otherwise it advances file by file, in the
    ``order`` of names or of stamps, for each value of the column ``by`` apart. Event times that lie more than ``tolerance``
    after their file (or ``column``) came are no times: they move nothing. A partition that stood still for ``idle_after`` is not
    waited for.

    Or something beside the rows says it: files that a ``marker`` names, or the ``commit`` of the dataset that is read. No row
    gets a watermark then. Rows that are a ``heartbeat``, a condition in SQL, have a time and are nothing else.
    """

    time: str
    name: str = WATERMARK
    delay: int = 0
    column: str | None = None
    order: Literal["name", "stamp"] = "name"
    by: str | None = None
    tolerance: int = DAY
    idle_after: int | None = None
    marker: str | None = None
    commit: bool = False
    heartbeat: str | None = None

    @property
    def by_files(self) -> bool:
        """Whether it advances file by file."""
        return self.tells_rows and self.column is None

    @property
    def tells_rows(self) -> bool:
        """Whether each row gets the watermark that it came under."""
        return self.marker is None and not self.commit

    @property
    def about(self) -> str:
        """What decides which times stand for a file: where that is another, what was counted before says nothing."""
        return json.dumps([self.time, self.by, self.tolerance])

    @property
    def closing(self) -> str:
        """What the watermark that is reached is a matter of: under another rule, one that was reached before says nothing."""
        said = [self.time, self.by, self.tolerance, self.column, self.order, self.delay]
        # a marker's URI may hold a secret
        marker = None if self.marker is None else blake3(self.marker.encode()).hexdigest(16)
        return json.dumps(said if self.tells_rows else [*said, marker, self.commit])

    def stated(self, schema: pl.Schema) -> pl.Expr:
        """Return the watermark of each row where a column states it; null where the row's event time is no time.

        A row for which nothing is stated came under none.
        """
        assert self.column is not None
        clock, other = Clock.of(self.time, schema), Clock.of(self.column, schema)
        came = _microseconds(pl.col(self.column), other)
        before = (came - self.delay).fill_null(_first(clock))
        bound = (came + self.tolerance).fill_null(_FAR)
        return self._under(before, bound, clock)

    def counted(self, schema: pl.Schema, arrivals: Mapping[str, Arrival], files: Sequence[str], file: str) -> pl.Expr:
        """Return the watermark of each row by its file; null where the row's event time is invalid.

        Parameters
        ----------
        files
            The files that there are rows of.
        file
            The column with each row's file.
        """
        clock = Clock.of(self.time, schema)
        found = [arrivals.get(f, Arrival()) for f in files]
        keys = [WHOLE, *sorted({k for a in found for k in a.before} - {WHOLE})]
        first = _first(clock)
        bounds = [_FAR if a.bound is None else a.bound for a in found]
        table = [a.before.get(k, first) for a in found for k in keys]
        if self.by is None and len(found) == 1:  # the same for all rows: nothing is to be looked up for each
            return self._under(pl.lit(table[0], dtype=pl.Int64), pl.lit(bounds[0], dtype=pl.Int64), clock)
        number = pl.col(file).cast(pl.Enum(files)).to_physical().cast(pl.Int64)
        marks = pl.lit(pl.Series(table, dtype=pl.Int64))
        place: pl.Expr = number * len(keys)
        before = marks.gather(place)
        if self.by is not None:
            which = key(self.by).cast(pl.Enum(keys), strict=False).to_physical().cast(pl.Int64)
            before = pl.when(which.is_not_null()).then(marks.gather(place + which.fill_null(0))).otherwise(first)
        return self._under(before, pl.lit(pl.Series(bounds, dtype=pl.Int64)).gather(number), clock)

    def _under(self, before: pl.Expr, bound: pl.Expr, clock: Clock) -> pl.Expr:
        time = pl.col(self.time)
        # the last microsecond of a tick may lie beyond the bound, which is rough anyway
        real = clock.ticks(time) <= bound // (clock.tick // 1_000)
        ticks = before.clip(lower_bound=_first(clock)) // (clock.tick // 1_000)
        return pl.when(real).then(clock.from_ticks(ticks)).alias(self.name)

    def extents(
        self, frame: pl.LazyFrame, schema: pl.Schema, bounds: Mapping[str, int | None], file: str
    ) -> pl.LazyFrame:
        """Return the earliest and the latest event time of each file and partition: ``file``, ``key``, ``low``, ``high``.

        Times beyond the file's bound, and null, are left out; ``beyond`` says whether there are any of the former. ``low`` and
        ``high`` are in ticks of the clock.
        """
        clock = Clock.of(self.time, schema)
        files = list(bounds)
        number = pl.col(file).cast(pl.Enum(files)).to_physical().cast(pl.Int64)
        latest = pl.lit(pl.Series([_FAR if b is None else b for b in bounds.values()], dtype=pl.Int64)).gather(number)
        ticks = clock.ticks(pl.col(self.time))
        rows = frame.select(
            pl.col(file).alias("file"),
            (pl.lit(WHOLE) if self.by is None else key(self.by)).alias("key"),
            ticks.alias("ticks"),
            (ticks <= latest // (clock.tick // 1_000)).alias("real"),
        )
        real = pl.when("real").then("ticks")
        counted = (real.min().alias("low"), real.max().alias("high"), (~pl.col("real")).any().alias("beyond"))
        return rows.filter(pl.col("real").is_not_null()).group_by("file", "key").agg(*counted)


def _first(clock: Clock) -> int:
    return _FIRST[clock.unit or "us"]


def _microseconds(time: pl.Expr, clock: Clock) -> pl.Expr:
    return clock.ticks(time) * (clock.tick // 1_000)


def key(column: str) -> pl.Expr:
    """Return the key of each row's partition: text that distinguishes null from every value.

    Examples
    --------
    >>> pl.DataFrame({"sensor": [7, None]}).select(key("sensor")).to_series().to_list()
    ['=7', '']
    """
    return pl.concat_str(pl.lit("="), pl.col(column).cast(pl.String)).fill_null(WHOLE)


def moment(at: int) -> str:
    """Return a moment in microseconds since 1970 as text.

    Examples
    --------
    >>> moment(1_700_000_000_000_000)
    '2023-11-14T22:13:20'
    """
    return (datetime(1970, 1, 1) + timedelta(microseconds=at)).isoformat()  # noqa: DTZ001  # as the event times are


class Extent(NamedTuple):
    """The earliest and the latest event time of one partition within a file."""

    low: int
    high: int


class Times(dict[str, Extent]):
    """The earliest and the latest event time of each partition within a file.

    ``within`` tells that no time in it lies beyond the file's bound: then none does with another bound that is not before ``high``.
    """

    def __init__(self, extents: Mapping[str, Extent] = NOTHING, *, within: bool = False) -> None:
        super().__init__(extents)
        self.within = within

    def holds_with(self, bound: int | None) -> bool:
        """Whether just these are the times with another bound, too."""
        return self.within and (bound is None or all(e.high <= bound for e in self.values()))

    def joined(self, other: Times) -> Times:
        """Return the times of two parts of a file together."""
        both = dict(self)
        for partition, more in other.items():
            known = both.get(partition, more)
            both[partition] = Extent(min(known.low, more.low), max(known.high, more.high))
        return Times(both, within=self.within and other.within)


@dataclass(frozen=True)
class Arrival:
    """What is known of one file of a source: the watermark ``before`` it, by partition, and the event times in it.

    ``bound`` is the latest time that is taken for one, None if every one is. ``extents`` are None where they are not known.
    """

    before: Mapping[str, int] = NOTHING
    bound: int | None = None
    extents: Mapping[str, Extent] | None = None

    @property
    def mark(self) -> str:
        """What the rows of the file are judged by, as a hash: where it is another, they may be judged otherwise."""
        text = json.dumps([sorted(self.before.items()), self.bound])
        return blake3(text.encode()).hexdigest(16)

    @property
    def low(self) -> int | None:
        """The earliest time in it; None if there is none, or it is not known."""
        return min((e.low for e in (self.extents or {}).values()), default=None)

    @property
    def high(self) -> int | None:
        """The latest time in it; None if there is none, or it is not known."""
        return max((e.high for e in (self.extents or {}).values()), default=None)

    def to_plain(self) -> list[Any]:
        """Return it as plain data that JSON holds, ``before`` as ``mark``."""
        return [self.mark, self.bound, *(plain_times(self.extents) if self.extents is not None else [None])]


def plain_times(extents: Mapping[str, Extent]) -> list[Any]:
    """Return the times in a file as a commit says them, and last whether all lie within its bound, if so."""
    within = isinstance(extents, Times) and extents.within
    return [{k: list(e) for k, e in extents.items()}, *([True] if within else [])]


def in_order(
    names: Iterable[str],
    rule: Watermark,
    extents: Mapping[str, Mapping[str, Extent] | None],
    bounds: Mapping[str, int | None],
) -> dict[str, Arrival]:
    """Return the watermark under which each file came, given in their order; an unknown file does not advance it.

    Examples
    --------
    >>> extents = {"a": {"": Extent(0, 50)}, "b": {"": Extent(10, 20)}, "c": {"": Extent(60, 90)}}
    >>> found = in_order("abc", Watermark("t", delay=5), extents, {})
    >>> [dict(found[name].before) for name in "abc"]
    [{}, {'': 45}, {'': 45}]
    """
    highest: dict[str, int] = {}
    found = {}
    for name in names:
        known = extents.get(name)
        found[name] = Arrival({k: h - rule.delay for k, h in highest.items()}, bounds.get(name), known)
        for partition, extent in (known or {}).items():
            highest[partition] = max(highest.get(partition, extent.high), extent.high)
    return found


def reached(rule: Watermark, arrivals: Iterable[Arrival]) -> dict[str, int]:
    """Return the watermark of each partition once all files have come."""
    highest: dict[str, int] = {}
    for arrival in arrivals:
        for partition, extent in (arrival.extents or {}).items():
            highest[partition] = max(highest.get(partition, extent.high), extent.high)
    return {k: h - rule.delay for k, h in highest.items()}


@dataclass(frozen=True)
class Progress:
    """How far the partitions of a source are: the watermark of each, and since when (by a run's clock) it has stood there.

    Examples
    --------
    >>> first = Progress().advanced({"=a": 10, "=b": 10}, now=0)
    >>> second = first.advanced({"=a": 30, "=b": 10}, now=100)
    >>> second.watermark(idle_after=None, now=100), second.watermark(idle_after=100, now=100)
    (10, 30)
    """

    reached: Mapping[str, int] = NOTHING
    since: Mapping[str, int] = field(default=NOTHING)

    def advanced(self, reached: Mapping[str, int], *, now: int, among: Collection[str] | None = None) -> Progress:
        """Return the progress after a run that found the partitions there; none of them goes back, and those in ``among`` alone are kept."""
        high = {p: at for p, at in self.reached.items() if among is None or p in among}
        since = {p: self.since[p] for p in high}
        for partition, watermark in reached.items():
            if partition not in high or watermark > high[partition]:
                high[partition], since[partition] = watermark, now
        return Progress(high, since)

    def behind(self, wait: int) -> Progress:
        """Return the progress of what comes so long after, in microseconds."""
        return Progress({p: at - wait for p, at in self.reached.items()}, self.since) if wait else self

    def is_idle(self, *, idle_after: int | None, now: int) -> bool:
        """Whether no partition has moved for so long that the source is not waited for."""
        return idle_after is not None and all(now - s >= idle_after for s in self.since.values())

    def watermark(self, *, idle_after: int | None, now: int) -> int | None:
        """Return the least watermark of those that are not idle, the greatest if all are; None where nothing came yet."""
        if not self.reached:
            return None
        awake = [w for p, w in self.reached.items() if idle_after is None or now - self.since[p] < idle_after]
        return min(awake) if awake else max(self.reached.values())

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data that JSON holds."""
        return {"reached": dict(self.reached), "since": dict(self.since)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Progress:
        """Read it back."""
        return cls(dict(plain["reached"]), dict(plain["since"]))


def combined(sources: Iterable[tuple[Progress, int | None]], *, now: int) -> int | None:
    """Return the watermark of what is made of several sources, each with its ``idle_after``: the least of those not idle.

    None while a source that is waited for has not come at all. If all are idle it is the greatest: nothing is waited for.

    Examples
    --------
    >>> awake, idle = Progress({"": 50}, {"": 90}), Progress({"": 10}, {"": 0})
    >>> combined([(awake, 60), (idle, 60)], now=100), combined([(awake, None), (idle, None)], now=100)
    (50, 10)
    """
    known = [(p, after) for p, after in sources]
    awake = [(p, after) for p, after in known if not p.is_idle(idle_after=after, now=now) or not p.reached]
    marks = [p.watermark(idle_after=after, now=now) for p, after in awake or known]
    if any(m is None for m in marks) or not marks:
        return None
    sure = [m for m in marks if m is not None]
    return min(sure) if awake else max(sure)
