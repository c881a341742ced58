"""The difference between two tables by key: rows inserted, deleted, and changed.

Both sides are read once, side by side, with two hashes per row; what cancels is forgotten, but for the hash of its key (``lockstep.py``).
Where that cannot tell, as rows come in very different orders, keys repeat, or there are more than ``PART`` rows, both sides are reduced
to their hashes; of rows that stand at other places those with equal hashes cancel, and only rows with the keys of what is left are read
again and joined. So memory is 32 bytes per pair of rows and the rows that differ; above
``PART`` rows both sides are taken apart by the hash of their rows, and memory stays that of one part.
Data files that two versions of a dataset share are not read at all.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import add
from typing import Any, TypeAlias

import polars as pl

from lazypipe.compile.sources.binding import scan_uri
from lazypipe.errors import LazypipeError, RunError, first_line, nearest
from lazypipe.incremental.lockstep import KEY, ROW, lockstep
from lazypipe.incremental.merging import shown_key
from lazypipe.spec.frames import lazy_frame
from lazypipe.spec.types import dtype_name, is_pattern
from lazypipe.sql.exprs import in_pairs
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.in_python import for_python
from lazypipe.storage.scan import is_engine_error
from lazypipe.storage.widen import widened

__all__ = ["CHANGE_COLUMN", "COLUMNS_COLUMN", "RowDiff", "Table", "diff", "diff_whole"]

CHANGE_COLUMN = "_change"
COLUMNS_COLUMN = "_columns"
PART = 50_000_000
"""Rows of the larger side that are compared at a time."""

_FEW = 10_000
"""Keys that are looked for by a filter; more of them by a join."""

_OWN = ("before", "after")
_KEY, _ROW, _SIDE = KEY, ROW, "__lazypipe_side"

Table: TypeAlias = pl.DataFrame | pl.LazyFrame | str | os.PathLike[str] | tuple[str | os.PathLike[str], int]


@dataclass(frozen=True, eq=False)
class RowDiff:
    """The difference between two tables.

    Attributes
    ----------
    inserted, deleted
        Rows whose key is only in the second table, with its columns; only in the first, with the first's.
    updated
        The key; ``before`` and ``after`` with the other columns that were compared, if there are any; ``_columns``, the
        names of those that differ.
    unchanged
        How many rows are in both, the same.
    columns_added, columns_removed
        Columns that only the second table has, only the first. They make no row differ.
    """

    key: tuple[str, ...]
    inserted: pl.DataFrame
    updated: pl.DataFrame
    deleted: pl.DataFrame
    unchanged: int
    columns_added: tuple[str, ...] = ()
    columns_removed: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """The number of rows of each kind."""
        return {
            "inserted": self.inserted.height,
            "updated": self.updated.height,
            "deleted": self.deleted.height,
            "unchanged": self.unchanged,
        }

    @property
    def nothing(self) -> bool:
        """Whether both tables have the same columns, and the same rows in the columns that were compared."""
        rows = self.inserted.height + self.updated.height + self.deleted.height
        return not (rows or self.columns_added or self.columns_removed)

    def __repr__(self) -> str:
        return f"<RowDiff {self}>"

    def __str__(self) -> str:
        told = [f"{n:,} {k}" for k, n in self.counts.items() if n] or ["no rows"]
        for word, names in (("added", self.columns_added), ("removed", self.columns_removed)):
            if names:
                told.append(f"column{'s' * (len(names) > 1)} {', '.join(map(repr, names))} {word}")
        return ", ".join(told)

    def to_frame(self) -> pl.DataFrame:
        """Return one row per change: ``_change`` (insert, update, delete), ``_columns`` of updates, then the columns of both.

        Updates have their new values. Columns of other types before and after are in the narrowest type that holds both.

        Raises
        ------
        LazypipeError
            If a column that was not compared has types that no column can hold.
        """
        columns = pl.lit(None, dtype=pl.List(pl.String)).alias(COLUMNS_COLUMN)
        after = [pl.col("after").struct.unnest()] if "after" in self.updated.columns else []
        updated = self.updated.select(*self.key, *after, COLUMNS_COLUMN)
        parts = [
            self.inserted.select(pl.lit("insert").alias(CHANGE_COLUMN), columns, pl.all()),
            updated.select(pl.lit("update").alias(CHANGE_COLUMN), COLUMNS_COLUMN, pl.exclude(COLUMNS_COLUMN)),
            self.deleted.select(pl.lit("delete").alias(CHANGE_COLUMN), columns, pl.all()),
        ]
        return _together(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: counts, columns and all changes.

        Values are those of Python: ``json.dumps(…, default=str)`` writes dates and decimals too.
        """
        return {
            "key": list(self.key),
            **self.counts,
            "columns_added": list(self.columns_added),
            "columns_removed": list(self.columns_removed),
            "changes": [
                *({"change": "insert", "row": row} for row in for_python(self.inserted).iter_rows(named=True)),
                *({"change": "update", **row} for row in for_python(self.updated).iter_rows(named=True)),
                *({"change": "delete", "row": row} for row in for_python(self.deleted).iter_rows(named=True)),
            ],
        }

    def to_markdown(self, most: int = 20) -> str:
        """Return the changes as text, one line each, at most ``most`` of each kind."""
        lines = [f"**{self}**", ""]
        names = ", ".join(self.key)
        for title, frame in (("Inserted", self.inserted), ("Updated", self.updated), ("Deleted", self.deleted)):
            if not frame.height:
                continue
            lines += [f"{title}:", "", f"| {names} | what |", "|---|---|"]
            for row in for_python(frame.head(most)).iter_rows(named=True):
                key = ", ".join(_cell(row[k]) for k in self.key)
                lines.append(f"| {key} | {self._what(row)} |")
            if frame.height > most:
                lines.append(f"| … | {frame.height - most:,} more |")
            lines.append("")
        return "\n".join(lines)

    def _what(self, row: Mapping[str, Any]) -> str:
        if COLUMNS_COLUMN in row:
            before, after = row["before"], row["after"]
            return ", ".join(f"{c}: {_cell(before[c])} → {_cell(after[c])}" for c in row[COLUMNS_COLUMN])
        return ", ".join(f"{c}: {_cell(v)}" for c, v in row.items() if c not in self.key)


def _together(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Concatenate frames, each column cast to the type that holds the values of all of them."""
    types, apart = dict[str, pl.DataType](), dict[str, str]()
    for name, dtype in (item for part in parts for item in part.schema.items()):
        found = widened(types.setdefault(name, dtype), dtype)
        if found is None:
            apart[name] = f"{dtype_name(types[name])} and {dtype_name(dtype)}"
        else:
            types[name] = found
    try:
        cast = [p.cast({n: t for n, t in types.items() if n in p.columns and n not in apart}) for p in parts]
        return pl.concat(cast, how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        told = "; ".join(f"column {n!r} is {t}" for n, t in apart.items()) or first_line(error)
        fix = "take inserted, updated and deleted by themselves"
        raise RunError(f"the changes do not go into one frame: {told}", fix=fix) from error


def _cell(value: Any) -> str:
    return "null" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def diff(
    a: Table,
    b: Table,
    *,
    key: str | Sequence[str],
    columns: Sequence[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    masked: Collection[str] = (),
) -> RowDiff:
    """Compare two tables by key: which rows were inserted, updated and deleted from ``a`` to ``b``.

    Nulls are equal to each other, in keys too; so are NaNs, and −0.0 and 0.0. Columns of different types are compared in the narrowest type that
    holds both. The order of rows does not matter.

    Parameters
    ----------
    a, b
        DataFrames or LazyFrames; datasets by URI, with a version as ``(uri, version)`` or ``"uri@version"``; or URIs and patterns of files. For two
        versions of one dataset, only data files that they do not share are read.
    key
        Columns that identify a row.
    columns
        Columns to compare besides the key. Default: all columns that both tables have.
    masked
        Columns whose values must not appear in messages.

    Raises
    ------
    LazypipeError
        If a table cannot be read, if a column is missing or cannot be compared, or if a key occurs twice in rows that differ. (A repeated key
        is accepted if the same rows occur equally often in both tables.)

    Examples
    --------
    >>> found = diff(pl.DataFrame({"k": [1, 2], "x": [1, 2]}), pl.DataFrame({"k": [2, 3], "x": [5, 6]}), key="k")
    >>> print(found)
    1 inserted, 1 updated, 1 deleted
    >>> found.updated.rows(named=True)
    [{'k': 2, 'before': {'x': 2}, 'after': {'x': 5}, '_columns': ['x']}]
    """
    names = (key,) if isinstance(key, str) else tuple(key) if isinstance(key, Iterable) else ()
    a, b = (os.fspath(t) if isinstance(t, os.PathLike) else t for t in (a, b))
    with _comparing():
        left, right = _sides(a, b, storage_options or {})
        return _Work(left, right, names, _compared(left, right, names, columns), masked).result()


def diff_whole(
    dataset: Dataset, before: Commit, after: Commit, *, key: Sequence[str], masked: Collection[str] = ()
) -> RowDiff:
    """Compare two versions of a dataset as ``diff`` does, but by all columns that either has: rows of a version without one are null there."""
    with _comparing():
        # what a file holds of a column that one version does not have is no value of both
        same = before.schema.keys() == after.schema.keys()
        shared = {f.path for f in before.files} & {f.path for f in after.files} if same else frozenset[str]()
        left = _of_commit("a", dataset, before, shared, after).filled(after.schema, but=key)
        right = _of_commit("b", dataset, after, shared, before).filled(before.schema, but=key)
        return _Work(left, right, tuple(key), _compared(left, right, key, None), masked).result()


@contextmanager
def _comparing() -> Iterator[None]:
    """Have what stops the engine say what it was about."""
    try:
        yield
    except BaseException as error:  # Polars' panics are no exceptions of the common kind
        if not is_engine_error(error):
            raise
        fix = "check that each of them can be read completely"
        raise RunError(f"the tables cannot be compared: {first_line(error)}", fix=fix) from error


@dataclass(frozen=True)
class _Side:
    """One table: what it is called, all of its columns, the rows to look at, and how many there are besides."""

    called: str
    frame: pl.LazyFrame
    schema: pl.Schema
    besides: int = 0
    rows: int | None = None

    def filled(self, other: Mapping[str, pl.DataType], *, but: Collection[str]) -> _Side:
        """Return the table with the columns that it lacks of another, null in all rows; ``but`` some, which it is to have."""
        missing = {n: t for n, t in other.items() if n not in self.schema and n not in but}
        frame = self.frame.with_columns(pl.lit(None, dtype=t).alias(n) for n, t in missing.items())
        return replace(self, frame=frame, schema=pl.Schema({**self.schema, **missing}))

    def count(self) -> int:
        """Return how many rows are to be looked at."""
        if self.rows is not None:
            return self.rows
        return int(self.frame.select(pl.len()).collect(engine="streaming").item())


def _sides(a: Table, b: Table, options: Mapping[str, Any]) -> tuple[_Side, _Side]:
    found = [_commit(t, options) for t in (a, b)]
    one, other = found
    if one is not None and other is not None and one[0].uri == other[0].uri:
        shared = {f.path for f in one[1].files} & {f.path for f in other[1].files}
        return _of_commit("a", *one, shared, other[1]), _of_commit("b", *other, shared, one[1])
    sides = [
        _of_commit(called, *commit, frozenset()) if commit is not None else _of_frame(called, table, options)
        for called, table, commit in zip(("a", "b"), (a, b), found, strict=True)
    ]
    return sides[0], sides[1]


def _commit(table: Table, options: Mapping[str, Any]) -> tuple[Dataset, Commit] | None:
    """Return the dataset and commit that a table is, None if it is a frame or files."""
    if isinstance(table, tuple) and len(table) == 2:
        dataset = Dataset(table[0], options)
        return dataset, dataset.read(version=table[1])
    if isinstance(table, str):
        dataset = Dataset(table, options)
        commit = dataset.latest()
        if commit is not None:
            return dataset, commit
        uri, at, version = table.rpartition("@")
        return _commit((uri, int(version)), options) if at and version.isdecimal() else None
    return None


def _of_commit(
    called: str, dataset: Dataset, commit: Commit, shared: Iterable[str], other: Commit | None = None
) -> _Side:
    """Return the rows of a commit that have to be compared: not those in files that both commits share.

    Of such a file, rows of units that are gone in the other are compared all the same.
    """
    left_out = frozenset(shared)
    files = tuple(f for f in commit.files if f.path not in left_out)
    frames = [dataset.scan(replace(commit, files=files))]
    gone = frozenset() if other is None else other.gone - commit.gone
    again = tuple(f for f in commit.files if f.path in left_out and f.dead(gone))
    dataset.refuse_gone(replace(commit, files=(*files, *again)))
    if again:
        frames.append(dataset.scan(replace(commit, files=again), only=gone))
    rows = sum(f.rows - f.dead(commit.gone) for f in files) + sum(f.dead(gone) for f in again)
    name = f"{called} ({dataset.uri} version {commit.version})"
    return _Side(name, pl.concat(frames), commit.schema, commit.rows - rows, rows)


def _of_frame(called: str, table: Any, options: Mapping[str, Any]) -> _Side:
    if isinstance(table, str):
        frame = scan_uri(table, options, called)
        return _Side(f"{called} ({table})", frame, frame.collect_schema())
    frame = lazy_frame(table, called, besides=", a URI, or (URI, version)")
    return _Side(called, frame, frame.collect_schema(), rows=table.height if isinstance(table, pl.DataFrame) else None)


def _compared(left: _Side, right: _Side, key: Sequence[str], columns: Sequence[str] | None) -> pl.Schema:
    """Return the columns to compare, those of the key first, with the types to compare them in."""
    if not key:
        raise LazypipeError("a difference needs a key; name the columns that identify a row")
    for side in (left, right):
        for name in (*key, *(columns or ())):
            if name not in side.schema:
                raise LazypipeError(f"{side.called} has no column {name!r}; {nearest(name, side.schema, 'columns')}")
    both = [n for n in right.schema if n in left.schema]
    names = dict.fromkeys([*key, *(both if columns is None else columns)])
    for name in names:
        if is_pattern(name):
            raise LazypipeError(
                f"column {name!r} would be read as a pattern of names; rename it, or leave it out with columns"
            )
        if name in (CHANGE_COLUMN, COLUMNS_COLUMN) or (name in key and name in _OWN):
            raise LazypipeError(
                f"a difference has a column {name!r} of its own; rename yours, or leave it out with columns"
            )
    made = pl.Schema()
    for name in names:
        one, other = left.schema[name], right.schema[name]
        found = widened(one, other)
        if pl.Object in (one, other):
            raise LazypipeError(
                f"column {name!r} is Object, whose values cannot be compared; cast it, or leave it out with columns"
            )
        if found is None:
            raise LazypipeError(
                f"column {name!r} is {dtype_name(one)} in {left.called} and {dtype_name(other)} in {right.called}, which cannot "
                "be compared; cast one of them, or leave it out with columns"
            )
        # categories of two frames have numbers of their own
        made[name] = pl.String() if isinstance(found, pl.Categorical | pl.Enum) else found
    return made


@dataclass(frozen=True)
class _Work:
    """One comparison."""

    left: _Side
    right: _Side
    key: tuple[str, ...]
    compared: pl.Schema
    masked: Collection[str]

    def result(self) -> RowDiff:
        """Find the keys that differ, read their rows, and tell them apart."""
        before, after, rows = self._side_by_side() or self._by_hash()
        for side, frame in ((self.left, before), (self.right, after)):
            self._refuse_repeated(side, frame)
        on = [pl.col(k).cast(self.compared[k]) for k in self.key]
        others = [n for n in self.compared if n not in self.key]
        inserted = after.join(before, on=on, how="anti", nulls_equal=True)
        deleted = before.join(after, on=on, how="anti", nulls_equal=True)
        updated = self._updated(before, after, others)
        return RowDiff(
            self.key,
            inserted,
            updated,
            deleted,
            self.right.besides + rows - inserted.height - updated.height,
            tuple(n for n in self.right.schema if n not in self.left.schema),
            tuple(n for n in self.left.schema if n not in self.right.schema),
        )

    def _side_by_side(self) -> tuple[pl.DataFrame, pl.DataFrame, int] | None:
        """Return the rows that differ of both sides, and how many rows the right one has, by reading both once; None if that cannot tell."""
        if max(self.left.count(), self.right.count()) > PART:  # hashes of keys are kept
            return None
        frames = [s.frame.with_columns(self._hashes()) for s in (self.left, self.right)]
        found = lockstep(*frames)
        if found is None:
            return None
        keys = pl.concat([found.one[_KEY], found.other[_KEY]]).unique()
        if found.keys.is_in(keys.implode()).any():  # a key that repeats, perhaps in rows that differ
            return None
        return found.one.drop(_KEY, _ROW), found.other.drop(_KEY, _ROW), found.rows

    def _by_hash(self) -> tuple[pl.DataFrame, pl.DataFrame, int]:
        """Return the same by the hashes of all rows; those with keys that differ are read again."""
        keys, rows = self._different()
        return self._rows(self.left, keys), self._rows(self.right, keys), rows

    def _hashes(self) -> tuple[pl.Expr, pl.Expr]:
        return self._hash(self.key).alias(_KEY), self._hash(self.compared).alias(_ROW)

    def _cast(self, names: Iterable[str]) -> list[pl.Expr]:
        return [pl.col(n).cast(self.compared[n]) for n in names]

    def _hash(self, names: Iterable[str]) -> pl.Expr:
        """Return one hash of some columns: the sum of theirs, each with a seed of its own; half the cost of hashing structs."""
        return in_pairs(add, (column.hash(seed) for seed, column in enumerate(self._cast(names))))

    def _hashed(self, side: _Side) -> pl.LazyFrame:
        return side.frame.select(*self._hashes())

    def _different(self) -> tuple[pl.Series, int]:
        """Return the hashes of the keys of all rows that are not on both sides, and how many rows the right side has."""
        parts = max(self.left.count(), self.right.count()) // PART + 1
        found, rows = [pl.Series(_KEY, [], dtype=pl.UInt64)], 0
        for part in range(parts):
            one, other = (self._part(self._hashed(side), part, parts) for side in (self.left, self.right))
            found.append(_cancel(one, other))
            rows += other.height
        return pl.concat(found).unique(), rows

    @staticmethod
    def _part(frame: pl.LazyFrame, part: int, parts: int) -> pl.DataFrame:
        taken = frame if parts == 1 else frame.filter(pl.col(_ROW) % parts == part)
        return taken.collect(engine="streaming")

    def _rows(self, side: _Side, keys: pl.Series) -> pl.DataFrame:
        """Return all rows that have one of the keys."""
        if not len(keys):
            return side.schema.to_frame()
        hashes = self._hash(self.key)
        if len(keys) <= _FEW:  # a filter goes down into the files: other columns are decoded where it matches only
            return side.frame.filter(hashes.is_in(keys.implode())).collect(engine="streaming")
        hashed = side.frame.with_columns(hashes.alias(_KEY))
        kept = hashed.join(keys.to_frame().lazy(), on=_KEY, how="semi")
        return kept.drop(_KEY).collect(engine="streaming")

    def _refuse_repeated(self, side: _Side, frame: pl.DataFrame) -> None:
        repeated = frame.group_by(self.key).len("__lazypipe_len").filter(pl.col("__lazypipe_len") > 1)
        if repeated.height:
            first = for_python(repeated.sort("__lazypipe_len", *self.key, descending=True).head(1)).row(0, named=True)
            told = shown_key(first, self.key, self.masked)
            what = f"{told} occurs {first['__lazypipe_len']} times in {side.called}"
            raise RunError(what, fix="name more columns in key, or make it unique")

    def _updated(self, before: pl.DataFrame, after: pl.DataFrame, others: Sequence[str]) -> pl.DataFrame:
        keys = self._cast(self.key)
        if not others:
            return before.clear().select(*keys, pl.lit([], dtype=pl.List(pl.String)).alias(COLUMNS_COLUMN))
        one = before.select(*keys, pl.struct(self._cast(others)).alias("before"))
        other = after.select(*keys, pl.struct(self._cast(others)).alias("after"))
        # streaming: in memory Polars finds no partner for NaN where both sides are in order, as single rows always are
        joined = one.lazy().join(other.lazy(), on=list(self.key), nulls_equal=True, maintain_order="left")
        pairs = joined.collect(engine="streaming")
        # as columns of frames of their own: to find one in a struct, all of its fields are gone through
        was, is_ = (pairs[side].struct.unnest() for side in ("before", "after"))
        differs = pl.DataFrame([was[n].ne_missing(is_[n]).alias(n) for n in others])
        names = pl.concat_list(pl.when(pl.col(n)).then(pl.lit(n)) for n in others)
        listed = pairs.with_columns(differs.select(names.list.drop_nulls().alias(COLUMNS_COLUMN)).to_series())
        return listed.filter(pl.col(COLUMNS_COLUMN).list.len() > 0)


def _cancel(one: pl.DataFrame, other: pl.DataFrame) -> pl.Series:
    """Return the hashes of the keys of rows that one side has more often than the other."""
    # from the front, then from the end: what was put in or taken out at one place only moves the rows behind it
    one, other = _apart(*_apart(one, other), from_end=True)
    if not one.height + other.height:
        return one[_KEY]
    sides = [f.with_columns(pl.lit(sign, dtype=pl.Int64).alias(_SIDE)) for f, sign in ((one, 1), (other, -1))]
    left = pl.concat(sides).group_by(_ROW).agg(pl.col(_SIDE).sum(), pl.col(_KEY).first())
    return left.filter(pl.col(_SIDE) != 0)[_KEY]


def _apart(one: pl.DataFrame, other: pl.DataFrame, *, from_end: bool = False) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows of both sides without those that are the same at the same place, counted from the front or the end."""
    shared = min(one.height, other.height)
    places = [f.height - shared if from_end else 0 for f in (one, other)]
    differs = one[_ROW].slice(places[0], shared) != other[_ROW].slice(places[1], shared)
    left, right = (
        pl.concat([f.slice(0, at), f.slice(at, shared).filter(differs), f.slice(at + shared)])
        for f, at in zip((one, other), places, strict=True)
    )
    return left, right
