"""What is stored for each unit beside an output's data: its partial aggregates, and the hashed keys of its rows.

Of other sides in which rows are looked up, what they hold of each key is kept too.

They are files that the next run reads instead of the rows themselves. Each run adds some; those of similar size are merged
(``storage.tiers``), so that there are never many.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import polars as pl

from lazypipe.compile.changes.strategy import Side
from lazypipe.gates import Check
from lazypipe.gates.tap import Tap
from lazypipe.gates.uniqueness import HASH, TIMES_COLUMN, hashed, repeated
from lazypipe.in_order import together
from lazypipe.incremental.sides import KEYS
from lazypipe.incremental.work import Work
from lazypipe.spec import taps
from lazypipe.storage.datasets.data_files import scan_files
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.key_bounds import KeyBounds, exact_bounds
from lazypipe.storage.datasets.log import DataFile
from lazypipe.storage.datasets.tiers import ROWS, due
from lazypipe.storage.datasets.unit_counts import count_units
from lazypipe.storage.datasets.units import UNIT
from lazypipe.storage.sink import FEW, DatasetSink, Watch, are_few

__all__ = ["Counted", "Kept", "Places"]

_AT_ONCE = 2
"""Small files that are written side by side."""


class Places:
    """The units that hold rows of each group, collected while rows are processed: distinct pairs. Only some of many are held in memory; the others are in files below ``spill``."""

    def __init__(self, spill: Path) -> None:
        self._spill = spill
        self._lock = threading.Lock()
        self._parts: list[pl.DataFrame] = []
        self._spilled: list[Path] = []

    def attach(self, frame: pl.LazyFrame, by: Sequence[str]) -> pl.LazyFrame:
        """Note the groups of rows that flow by, each with its unit, or its number on the way."""
        columns = [*by, UNIT]

        def note(batch: pl.DataFrame) -> pl.DataFrame:
            pairs = batch.select(columns).unique()
            with self._lock:
                self._parts.append(pairs)
                if sum(p.height for p in self._parts) >= _PAIRS:
                    self._put_together()
            return batch

        return taps.tap(frame, note)

    def _put_together(self) -> None:
        """Take pairs that stand more than once together; where most do not, put them into a file."""
        held = pl.concat(self._parts).unique()
        if 2 * held.height > _PAIRS:
            self._spill.mkdir(parents=True, exist_ok=True)
            path = self._spill / f"{id(self)}-{len(self._spilled)}.arrow"
            held.write_ipc(path)
            self._spilled.append(path)
            held = held.clear()
        self._parts = [held]

    def frame(self) -> pl.LazyFrame:
        """Return the pairs, in the order of the groups."""
        held = pl.concat(self._parts)
        *by, _ = held.columns
        if not self._spilled:
            return held.unique().lazy().sort(by, nulls_last=True)
        # a sort spills where memory is short, a table of all pairs does not
        rows = pl.concat([*map(pl.scan_ipc, self._spilled), held.lazy()])
        return together(rows, held.columns).unique()

    def __bool__(self) -> bool:
        return bool(self._parts)


_PAIRS = 1 << 18
"""As many pairs are gathered before those that stand more than once are taken together."""


class Counted:
    """How many rows of each unit have flowed into files, so that these need not be read again to tell; and what stood in some ``columns`` of them."""

    def __init__(self, columns: Sequence[str] = ()) -> None:
        self._lock = threading.Lock()
        self._rows: dict[int, int] = {}
        self._columns = columns
        self._held: list[pl.DataFrame] = []

    def attach(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Count rows that flow by with their units."""
        return taps.tap(frame, self._note)

    def _note(self, batch: pl.DataFrame) -> pl.DataFrame:
        units = batch[UNIT]
        alike = batch.height > 0 and units.min() == units.max()  # as a rule: what is read at once is of one file
        counts = [(units[0], batch.height)] if alike else units.value_counts().rows()
        with self._lock:
            for unit, rows in counts:
                self._rows[unit] = self._rows.get(unit, 0) + rows
            if self._columns and self._is_little:
                self._held.append(batch[self._columns])
        return batch

    @property
    def _is_little(self) -> bool:
        return sum(self._rows.values()) <= FEW

    @property
    def held(self) -> pl.DataFrame | None:
        """What stood in the columns; None of many rows, or of none."""
        return pl.concat(self._held) if self._held and self._is_little else None

    def files(self, files: Sequence[DataFile], ask: Callable[[], tuple[DataFile, ...]]) -> tuple[DataFile, ...]:
        """Return files that hold the rows, with their units, and the bounds of the columns; where several hold several it must be asked which holds what."""
        if len(files) == 1:
            held = self.held
            known = {} if held is None else {s.name: ends for s in held if (ends := exact_bounds(s)) is not None}
            return (replace(files[0], units=dict(sorted(self._rows.items())), bounds={**files[0].bounds, **known}),)
        if len(self._rows) == 1:  # as a rule: one file was delivered
            return tuple(replace(f, units=dict.fromkeys(self._rows, f.rows)) for f in files)
        return ask()


@dataclass
class Kept:
    """The files beside one output's log, as a run reads and writes them; ``staged`` are the sinks that wrote them."""

    dataset: Dataset
    work: Work
    staged: list[DatasetSink] = field(default_factory=list)
    keys: dict[tuple[str, str], tuple[DataFile, ...]] = field(default_factory=dict)
    digests: dict[Side, tuple[DataFile, ...]] = field(default_factory=dict)

    def write(
        self,
        rows: pl.LazyFrame,
        prefix: str,
        capture: Watch | None = None,
        *,
        tagged: bool = True,
        few: bool = False,
        counted: Counted | None = None,
    ) -> tuple[DataFile, ...]:
        """Write rows that carry their unit, if they are ``tagged``, and are ``counted``; none where there are none. See ``DatasetSink.write`` of a ``few``."""
        options = self.dataset.storage_options
        sink = DatasetSink(self.dataset.figures, prefix, storage_options=options, most_rows=ROWS)
        self.staged.append(sink)
        counted = Counted() if counted is None else counted
        written = sink.write(counted.attach(rows) if tagged else rows, capture, few=few)
        if not written.rows:
            sink.discard()
            return ()
        if not tagged:
            return written.files
        return counted.files(written.files, partial(count_units, sink.uri, written.files, options))

    def scan(
        self, files: Sequence[DataFile], schema: pl.Schema, units: Iterable[int], *, tags: bool = False
    ) -> pl.LazyFrame:
        """Return the rows of some units."""
        of, options = frozenset(units), self.dataset.storage_options
        there = [f for f in files if not of.isdisjoint(f.units)]
        left_out = any(not of.issuperset(f.units) for f in there)
        return scan_files(
            self.dataset.figures, there, schema, (), options, tagged=True, units=of if left_out else None, tags=tags
        )

    def merged(
        self, files: Sequence[DataFile], schema: pl.Schema, by: Sequence[str], prefix: str
    ) -> tuple[DataFile, ...]:
        """Return the files with those merged that are due, in the order of some columns; rows that are gone stay behind."""
        live = self.work.live
        worn = due(files, {u for f in files for u in f.units} - live, most=ROWS // 2)
        if not worn:
            return tuple(files)
        rows = self.scan(worn, schema, live, tags=True)
        rows = rows.sort(by, nulls_last=True) if by else rows
        return (*(f for f in files if f not in worn), *self.write(rows, prefix, few=are_few(worn), counted=Counted(by)))

    def noted(self, files: Sequence[DataFile], schema: pl.Schema, by: Sequence[str]) -> tuple[DataFile, ...]:
        """Return the files with the bounds of some columns, so that later runs need not open them to see which hold some groups."""
        return KeyBounds(self.dataset.figures, tuple(by), schema, (), self.dataset.storage_options).noted(files)

    def may_hold(self, files: Sequence[DataFile], schema: pl.Schema, keys: pl.DataFrame) -> tuple[DataFile, ...]:
        """Return the files that no statistics exclude from holding some keys."""
        from lazypipe.storage.datasets.keyed import not_ruled_out

        assert self.work.commit is not None
        figures = Dataset(self.dataset.figures, self.dataset.storage_options)
        commit = replace(self.work.commit, files=tuple(files), schema=schema, partition_by=(), gone=frozenset())
        return not_ruled_out(figures, commit, keys)

    # hashed keys: as they come, unit by unit; all of them are read, or those of some units

    @property
    def _by_units(self) -> list[Side]:
        """The lookups whose hashed keys are stored by unit."""
        return [s for s in self.work.keeping if s in self.work.sides]

    def note_keys(self, taps: Mapping[str, Tap], told: Callable[[pl.LazyFrame], pl.LazyFrame], prefix: str) -> None:
        """Write the hashed keys of the rows that this run has read; ``told`` replaces numbers of files by units."""
        rows = [told(taps[node].hashes[check].frame()) for node, check in self.work.hashed]
        self.keys |= zip(self.work.hashed, self._written(rows, prefix), strict=True)

    def note_sides(self, rows: Callable[[Side], pl.LazyFrame], prefix: str) -> None:
        """Write the hashed keys by which the rows of this run were looked up in other sides; ``rows`` gives them, with units."""
        sides = self._by_units
        found = self._written([rows(s) for s in sides], prefix, first=len(self.work.hashed))
        self.keys |= zip([s.key for s in sides], found, strict=True)

    def note_digests(self, digest: Callable[[Side], pl.DataFrame], prefix: str) -> None:
        """Write the digests of what other sides hold of each key, where they have changed; ``digest`` gives them."""
        new = [s for s in self.work.keeping if s not in self.work.told]
        frames = [self.work.digests[s] if s in self.work.digests else digest(s) for s in new]
        few = all(f.height <= FEW for f in frames)
        found = self._written([f.lazy() for f in frames], prefix, tagged=False, few=few)
        known = {**self.work.told, **dict(zip(new, found, strict=True))}
        self.digests |= {side: known[side] for side in self.work.keeping}

    def _written(
        self, rows: Sequence[pl.LazyFrame], prefix: str, *, first: int = 0, tagged: bool = True, few: bool = False
    ) -> list[tuple[DataFile, ...]]:
        """Write several files, side by side: each is little, and most of its time goes into beginning and ending a query."""
        write = partial(self.write, tagged=tagged, few=few)
        names = [f"{prefix}-{number:03}" for number in range(first, first + len(rows))]
        if len(rows) < 2:
            return [*map(write, rows, names)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return [*pool.map(write, rows, names)]

    def merge_keys(self, prefix: str) -> dict[tuple[str, str], tuple[DataFile, ...]]:
        """Return all files with hashed keys that the next version is made of."""
        found = {}
        for number, key in enumerate([*self.work.hashed, *(s.key for s in self._by_units)]):
            before = self.merged(self.work.keys.get(key, ()), KEYS, (), f"{prefix}-{number:03}")
            found[key] = (*before, *self.keys.get(key, ()))
        return found

    def repeats(
        self, node: str, check: Check, schema: pl.Schema, rows: Callable[[Work], pl.LazyFrame], *, clean: bool
    ) -> int:
        """Return how many of all rows, read now or before, have a key that another row has too.

        Rows whose hashes meet are read again, and their keys compared. Where that cannot be done, because a file that they are of is
        kept as it was and is another now, equal hashes are taken for equal keys: of ten million keys, two that differ
        have one hash with a chance of 1 in 300,000.

        Parameters
        ----------
        rows
            Gives the rows that the check compares, as some work reads them.
        clean
            Whether no key stood twice before this run.
        """
        new = self.scan(self.keys[node, check.id], KEYS, self.work.live, tags=True)
        old = self.scan(self.work.keys.get((node, check.id), ()), KEYS, self.work.live, tags=True)
        if clean:
            old = old.join(new.select(HASH).unique(), on=HASH, how="semi")
        met = (
            pl.concat([new, old])
            .group_by(HASH)
            .agg(pl.len().alias(TIMES_COLUMN), pl.col(UNIT).unique())
            .filter(pl.col(TIMES_COLUMN) > 1)
            .collect(engine="streaming")
        )
        if not met.height:
            return 0
        again = self.work.again(frozenset(met[UNIT].explode().to_list()))
        if again is None:
            return int(met[TIMES_COLUMN].sum())
        compared = rows(again) if check.where is None else rows(again).filter(check.where)
        suspects = compared.with_columns(hashed(check.keys, schema)).join(met.lazy().select(HASH), on=HASH, how="semi")
        return int(repeated(suspects, check.keys).collect(engine="streaming")[TIMES_COLUMN].sum())
