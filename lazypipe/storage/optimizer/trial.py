"""Trials: a few rows written in one way and read again; bytes are counted, time comes from a given clock."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from lazypipe.storage.optimizer.budget import Budget, Clock
from lazypipe.storage.optimizer.cost import Cost, Size
from lazypipe.storage.optimizer.estimates import harder, layout_cost, order_seconds
from lazypipe.storage.optimizer.form import Form
from lazypipe.storage.optimizer.forms import odd_columns, physical, restore
from lazypipe.storage.optimizer.layout import DEFAULT, Layout
from lazypipe.storage.optimizer.order import ordered
from lazypipe.storage.optimizer.prices import file_seconds, unseen
from lazypipe.storage.optimizer.writing import polars_options, write_frame
from lazypipe.storage.parquet.footers import read_footer

__all__ = ["Bench", "Clock", "Trial", "chunk_bytes", "chunk_sizes", "write_bytes"]

_REPEATS = 2
_TIMED = 2.5
"""How many times longer a trial takes that is timed: rows are read again, and a file without any is written and read."""
_NAME = "the sample"


@dataclass(frozen=True)
class Trial:
    """One thing that was tried: a column (None: all), how it was written, and what that cost."""

    column: str | None
    how: str
    cost: Cost

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON holds."""
        return {"column": self.column, "how": self.how, **vars(self.cost)}


class _Kept(io.BytesIO):
    """A file in memory whose content outlives its writer."""

    def close(self) -> None:
        """Keep the content."""


def write_bytes(frame: pl.DataFrame, layout: Layout) -> bytes:
    """Return a Parquet file of a frame as it stands, by a layout's writer and its options."""
    out = _Kept()
    if layout.writer == "polars":
        frame.lazy().sink_parquet(out, **polars_options(layout))
    else:
        write_frame(frame, layout, out, _NAME)
    return out.getvalue()


def chunk_sizes(data: bytes) -> dict[str, Size]:
    """Return the bytes that each column takes in a file, and those before compression."""
    if importlib.util.find_spec("pyarrow") is not None and (found := _flat_sizes(data)) is not None:
        return found
    footer = read_footer(io.BytesIO(data))
    groups = range(len(footer.group_rows))
    return {
        n: Size(
            sum(r.length for g in groups for r in footer.ranges(g, [n])), sum(footer.raw_bytes(g, n) for g in groups)
        )
        for n in footer.columns
    }


def _flat_sizes(data: bytes) -> dict[str, Size] | None:
    """Return the same by pyarrow, which is quick to read footers; None where it cannot, or where paths may be of nested columns."""
    arrow = importlib.import_module("pyarrow")
    try:
        meta = importlib.import_module("pyarrow.parquet").read_metadata(io.BytesIO(data))
    except arrow.ArrowException:  # types that it does not know
        return None
    found: dict[str, Size] = {}
    for group in map(meta.row_group, range(meta.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            path = chunk.path_in_schema
            if "." in path:
                return None
            was = found.get(path, Size(0, 0))
            found[path] = Size(was.bytes + chunk.total_compressed_size, was.raw + chunk.total_uncompressed_size)
    return found if meta.num_row_groups else None


def chunk_bytes(data: bytes) -> dict[str, int]:
    """Return the bytes that each column takes in a file."""
    return {n: size.bytes for n, size in chunk_sizes(data).items()}


def _read(data: bytes) -> pl.DataFrame:
    return pl.scan_parquet(io.BytesIO(data), glob=False).collect(engine="streaming")


class Bench:
    """Makes trials as long as there is time for them.

    Parameters
    ----------
    clock
        Tells the time.
    budget
        Seconds from now on that trials may take; None: no end.
    quick
        Whether times are estimated from bytes rather than taken: of a few thousand rows they say nothing. What trials take is
        estimated too, so that the same rows are given the same layout, whatever else the machine does.

    Attributes
    ----------
    spend
        The budget, and what has been spent of it.
    shrinks
        What is left for each row of columns in a dictionary, on as many rows as the sample stands for: see ``estimates``.
    """

    def __init__(self, clock: Clock, budget: float | None, *, quick: bool = False) -> None:
        self.quick = quick
        self.spend = Budget(budget, None if quick else clock)
        self._clock = clock
        self._start = clock() if quick else self.spend.start
        self._row_seconds: float | None = None
        self._overheads: dict[str, Cost] = {}
        self._known: dict[tuple[int, Layout], tuple[pl.DataFrame, pl.DataFrame, dict[str, Size]]] = {}
        self._expected: dict[Layout, tuple[pl.DataFrame, Cost, dict[str, Size]]] = {}
        self.shrinks: Mapping[str, float] = {}
        self.trials: list[Trial] = []

    @property
    def stopped(self) -> bool:
        """Whether something was left untried because there was no time for it."""
        return self.spend.stopped

    @property
    def over(self) -> bool:
        """Whether there is no time left at all."""
        return not self.spend.allows(0.0)

    def fits(self, frame: pl.DataFrame, writer: str = "polars", times: int = 1) -> bool:
        """Whether there is time to try rows so many times: asked by who has something to try, and leaves that else."""
        return self.spend.allows(times * self.price(frame, writer))

    def writing(self, frame: pl.DataFrame) -> float:
        """Return what Polars' writer takes for rows, by the rates of ``estimates``: by what was written, or by their bytes in memory."""
        return unseen(frame) if self._row_seconds is None else self._row_seconds * frame.height

    def price(self, frame: pl.DataFrame, writer: str = "polars") -> float:
        """Return what it takes to try rows once."""
        return (1.0 if self.quick else _TIMED) * file_seconds(frame.width, self.writing(frame), writer)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    def best_of(self, action: Callable[[], Any]) -> tuple[Any, float]:
        """Return what an action gives, and the seconds that it takes at its best."""
        least = None
        for _ in range(_REPEATS if self.spend.seconds is None else 1):
            start = self._clock()
            made = action()
            taken = self._clock() - start
            least = taken if least is None else min(least, taken)
        return made, least or 0.0

    def stored(self, frame: pl.DataFrame, layout: Layout) -> Cost:
        """Measure columns as they stand; what a file costs anyhow, with no rows in it, is not theirs."""
        cost, _ = self._file(frame, layout)
        empty = self._overheads.get(layout.writer)
        if empty is None:
            empty, _ = self._file(frame.clear(), layout)
            self._overheads[layout.writer] = empty
        return Cost(cost.bytes, max(cost.write - empty.write, 0.0), max(cost.read - empty.read, 0.0))

    def _file(self, frame: pl.DataFrame, layout: Layout) -> tuple[Cost, bytes]:
        self.spend.charge(self.price(frame, layout.writer))
        data, write = self.best_of(lambda: write_bytes(frame, layout))
        _, read = self.best_of(lambda: _read(data))
        return Cost(sum(chunk_bytes(data).values()), write, read), data

    def transformed(self, frame: pl.DataFrame, name: str, form: Form) -> tuple[pl.DataFrame, Cost, bool]:
        """Write a column in a form; return what stands in the file, what the form itself costs, and whether all values fit."""
        needed = frame.select(list(dict.fromkeys((name, *form.needs))))
        forms = {name: form}
        self.spend.charge(self.price(needed, "polars"))
        inside, write = self.best_of(lambda: physical(needed.lazy(), needed.schema, forms).collect(engine="streaming"))
        odd = inside.select(odd_columns(forms)).item()
        kept = {name} if odd else set[str]()
        back = restore(inside.lazy(), needed.schema, forms, odd=kept).select(name)
        _, read = self.best_of(lambda: back.collect(engine="streaming"))
        return inside.drop(form.needs), Cost(0, write, read), odd

    def whole(self, frame: pl.DataFrame, layout: Layout, how: str) -> tuple[Cost, dict[str, int]]:
        """Measure all columns in a layout, from the frame to the file and back; also return the bytes of each.

        What it takes with no rows at all, such as to plan the query, does not grow with them and is not counted.
        """
        if self.quick:
            return self._estimated(frame, layout, how)
        cost, sizes = self._whole(frame, layout)
        empty, _ = self._whole(frame.clear(), layout)
        cost = Cost(cost.bytes, max(cost.write - empty.write, 0.0), max(cost.read - empty.read, 0.0))
        self.trials.append(Trial(None, how, cost))
        return cost, sizes

    def sizes(self, frame: pl.DataFrame, layout: Layout) -> Mapping[str, Size]:
        """Return the bytes of each column; nothing is written that was written before."""
        return self._sized(frame, layout)[2]

    def alike(self, frame: pl.DataFrame, layout: Layout, other: Layout) -> Cost:
        """Estimate what another codec costs, if bytes were those of a layout; nothing is written that was written before."""
        _, inside, sizes = self._sized(frame, layout)
        return layout_cost(inside, sizes, other, self.shrinks)

    def harder(self, frame: pl.DataFrame, layout: Layout, level: int) -> tuple[Layout, Cost]:
        """Return a layout with a higher level of zstd for all columns, and what it costs: to write it shows nothing of few rows."""
        cost, sizes = self._estimate(frame, layout)
        tried, more = replace(layout, codec="zstd", level=level), harder(cost, sizes.values(), level)
        self._expected[tried] = (frame, more, sizes)
        return tried, more

    def expect(self, frame: pl.DataFrame, layout: Layout, cost: Cost, sizes: Mapping[str, Size]) -> None:
        """Take note of what a layout costs whose columns were all written before, beside others: that need not be done again."""
        self._expected[layout] = (frame, cost, dict(sizes))

    def in_order(self, frame: pl.DataFrame, layout: Layout) -> pl.DataFrame:
        """Return the rows in the order of a layout without forms. Sizes estimated for the layout are kept as those of the sorted rows."""
        if not self.quick:
            return ordered(frame.lazy(), layout, frame.schema, _NAME).collect(engine="streaming")
        _, rows, sizes = self._sized(frame, layout)
        self._known[id(rows), replace(layout, sort_by=(), curve="linear", bounds={})] = (rows, rows, sizes)
        return rows

    def expect_in_order(self, rows: pl.DataFrame, layout: Layout, frame: pl.DataFrame, ordered: Layout) -> None:
        """Take note that a frame in an order costs what its rows that stand in this order do, and to put them there."""
        found = self._expected.get(layout)
        if found is not None and found[0] is rows:
            more = Cost(0, order_seconds(rows, len(ordered.sort_by)))
            self._expected[ordered] = (frame, found[1] + more, found[2])

    def _estimated(self, frame: pl.DataFrame, layout: Layout, how: str) -> tuple[Cost, dict[str, int]]:
        cost, sizes = self._estimate(frame, layout)
        self.trials.append(Trial(None, how, cost))
        return cost, {n: size.bytes for n, size in sizes.items()}

    def _estimate(self, frame: pl.DataFrame, layout: Layout) -> tuple[Cost, dict[str, Size]]:
        # of few rows there is one row group, and one file
        expected = self._expected.get(replace(layout, row_group_rows=None, file_bytes=None))
        if expected is not None and expected[0] is frame:
            return expected[1:]
        _, inside, sizes = self._sized(frame, layout)
        return layout_cost(inside, sizes, layout, self.shrinks), sizes

    def _sized(self, frame: pl.DataFrame, layout: Layout) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Size]]:
        """Return rows, these as they stand in a file, and the bytes of each column."""
        known = self._known.get((id(frame), layout))  # the frame is held, so that no other has its number
        if known is None:
            self.spend.charge(self.price(frame, layout.writer))
            inside = frame
            if layout.sort_by or layout.forms:
                rows = ordered(frame.lazy(), layout, frame.schema, _NAME)
                # in memory already, and there small: the engine for that begins at once
                inside = physical(rows, frame.schema, layout.forms).collect()
            made = write_bytes(inside, replace(layout, statistics=False))
            known = self._known[id(frame), layout] = (frame, inside, chunk_sizes(made))
            if self._row_seconds is None and frame.height:
                self._row_seconds = layout_cost(inside, known[2], DEFAULT).write / frame.height
        return known

    def _whole(self, frame: pl.DataFrame, layout: Layout) -> tuple[Cost, dict[str, int]]:
        forms = layout.forms
        self.spend.charge(self.price(frame, layout.writer))
        odd = _odd(physical(frame.lazy(), frame.schema, forms).collect(), forms)

        def write() -> bytes:
            rows = physical(ordered(frame.lazy(), layout, frame.schema, _NAME), frame.schema, forms)
            return write_bytes(rows.collect(engine="streaming"), layout)

        data, seconds = self.best_of(write)
        back = restore(pl.scan_parquet(io.BytesIO(data), glob=False), frame.schema, forms, odd=odd)
        _, read = self.best_of(lambda: back.collect(engine="streaming"))
        sizes = chunk_bytes(data)
        return Cost(sum(sizes.values()), seconds, read), sizes


def _odd(inside: pl.DataFrame, forms: Mapping[str, Form]) -> Collection[str]:
    if not forms:
        return ()
    return [n for n, is_odd in inside.select(odd_columns(forms)).row(0, named=True).items() if is_odd]
