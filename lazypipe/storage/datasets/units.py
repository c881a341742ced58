"""Units: the parts of an input that are added, changed and removed together, and the column with each row's unit.

A unit is a file of a source as it was at one time. Where every row of an output is made of one row of its input, the output's
data files carry the unit of each row in a column that readers do not see. So a file that changes takes just its own rows
along, without any other row being read or written (docs/decisions/0016-rows-know-their-unit.md).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
from blake3 import blake3

from lazypipe.storage.files import FileInfo, read_key
from lazypipe.storage.scan import FILE_COLUMN

__all__ = ["FORMED", "UNIT", "Units", "as_units", "as_uri", "is_of_files", "unit_of", "untagged"]

UNIT = "_lazypipe_unit"
"""The column with each row's unit, in the data files of datasets that are kept up to date part by part."""
FORMED = "_lazypipe:"
"""How the names of columns begin that data files hold for compact forms of values, and datasets do not (``optimizer/forms.py``)."""


def is_of_files(name: str) -> bool:
    """Whether only data files of datasets have a column of this name, which readers of the dataset do not see.

    Examples
    --------
    >>> [is_of_files(n) for n in ("_lazypipe_unit", "_lazypipe:email:0", "email")]
    [True, True, False]
    """
    return name == UNIT or name.startswith(FORMED)


def unit_of(uri: str, run: str) -> int:
    """Return the number of a file as a run found it: 63 bits of a hash, so that it never stands for something else again.

    Examples
    --------
    >>> unit_of("a.csv", "r1") == unit_of("a.csv", "r1"), unit_of("a.csv", "r1") == unit_of("a.csv", "r2")
    (True, False)
    """
    return int.from_bytes(blake3(f"{run}\0{uri}".encode()).digest(8)) >> 1


def untagged(schema: pl.Schema) -> pl.Schema:
    """Return the columns of rows without that of their units.

    Examples
    --------
    >>> dict(untagged(pl.Schema({"x": pl.Int64(), UNIT: pl.UInt64()})))
    {'x': Int64}
    """
    return pl.Schema({n: t for n, t in schema.items() if n != UNIT})


@dataclass(frozen=True)
class Units:
    """What is to be read of one source: some of its units, each row with its own.

    Parameters
    ----------
    files
        File, or the key of a part of one, → unit, of what is read file by file.
    wanted
        The units themselves, of a dataset whose rows know theirs.
    others
        Those of them whose rows get another unit here.
    first
        Files are numbered from here, if the caller puts units for numbers in the end (``as_units``): so filters still go below
        that, into the scan. None: rows get their units at once.
    """

    files: Mapping[str, int] = field(default_factory=dict)
    wanted: frozenset[int] = frozenset()
    first: int | None = None
    others: Mapping[int, int] = field(default_factory=dict)

    @property
    def here(self) -> frozenset[int]:
        """The units that the rows get."""
        return frozenset([*self.files.values(), *(self.others.get(u, u) for u in self.wanted)])

    @property
    def numbers(self) -> Mapping[str, int]:
        """What rows of each file get: its unit, or its number, for which the caller puts the unit."""
        if self.first is None:
            return self.files
        return {file: number for number, file in enumerate(self.files, self.first)}

    def lies_in(self, other: Units) -> bool:
        """Whether no more is read than another reads.

        Examples
        --------
        >>> Units({"a": 1}).lies_in(Units({"a": 2, "b": 3})), Units({"a": 1}).lies_in(Units({"b": 3}))
        (True, False)
        """
        return self.files.keys() <= other.files.keys() and self.wanted <= other.wanted

    def only(self, units: Container[int]) -> Units:
        """Return those of some units, each row with its own."""
        files = {file: unit for file, unit in self.files.items() if unit in units}
        wanted = frozenset(u for u in self.wanted if self.others.get(u, u) in units)
        return Units(files, wanted, others={u: o for u, o in self.others.items() if u in wanted})

    def renamed(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Replace the units of rows by those that they have here."""
        if not self.others:
            return frame
        now = pl.col(UNIT).replace([*self.others], pl.Series([*self.others.values()], dtype=pl.UInt64))
        return frame.with_columns(now)

    def select(self, files: Iterable[FileInfo]) -> tuple[FileInfo, ...]:
        """Return the files that are read, or the parts of those that are read in parts.

        Examples
        --------
        >>> [f.key for f in Units({"b": 1}).select([FileInfo("a", 1), FileInfo("b", 1)])]
        ['b']
        """
        parts: dict[str, list[tuple[int, int | None]]] = {}
        for key in self.files:
            uri, start, end = read_key(key)
            if end is not None:
                parts.setdefault(uri, []).append((start, end))
        if not parts:
            return tuple(f for f in files if f.uri in self.files)
        found: list[FileInfo] = []
        for file in files:
            if file.uri in parts:
                found += [file._replace(start=start, end=end) for start, end in parts[file.uri]]
            elif file.uri in self.files:
                found.append(file)
        return tuple(found)

    def number(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Add ``UNIT`` to rows of files, by the column with each row's file."""
        names = [*self.files]
        number = pl.col(FILE_COLUMN).cast(pl.Enum(names)).to_physical().cast(pl.UInt64)
        if self.first is None:
            return as_units(frame.with_columns(number.alias(UNIT)), [*self.files.values()])
        return frame.with_columns((number + self.first).alias(UNIT))


def as_uri(key: pl.Expr) -> pl.Expr:
    """Return the URIs of files, given keys of files or of their parts.

    Examples
    --------
    >>> pl.select(as_uri(pl.lit(FileInfo("a.csv", 9, None, 4, 9).key))).item()
    'a.csv'
    """
    return key.str.replace(r"(?s)\x00.*", "")


def as_units(frame: pl.LazyFrame, units: Sequence[int]) -> pl.LazyFrame:
    """Replace the numbers of files by their units."""
    known = pl.lit(pl.Series(units, dtype=pl.UInt64))
    return frame.with_columns(known.gather(pl.col(UNIT)).alias(UNIT))
