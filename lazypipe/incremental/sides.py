"""What a lookup table (the other side of a join) holds for each key, so that a change in it rebuilds only a few rows.

Of each key, by its hash, two hashes of the rows that have it are kept beside an output, and of each of its units the hashed keys that its rows
have. If the other side changes, the keys of which the rows are others now are known by that, and so are the units that hold such
keys: only these are made anew (docs/decisions/0027-a-changed-side-touches-keys.md).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import xor

import polars as pl

from lazypipe.compile.changes.strategy import Side
from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.sources.source import Snapshot
from lazypipe.gates.uniqueness import HASH, hashed
from lazypipe.incremental.terms import Tables, table_of
from lazypipe.ops.base import Match
from lazypipe.spec.model import NOTHING
from lazypipe.spec.scope import Table
from lazypipe.sql.exprs import in_pairs
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.text.moments import How, Unusual

__all__ = ["DIGESTS", "KEYS", "Digests", "differing", "digest", "has_repeats"]

KEYS = pl.Schema({HASH: pl.UInt64()})
"""The columns of files with hashed keys, each row with its unit besides."""

_FIRST, _SECOND, _ROWS = (f"__lazypipe_{n}" for n in ("first", "second", "rows"))

DIGESTS = pl.Schema({HASH: pl.UInt64(), _FIRST: pl.UInt64(), _SECOND: pl.UInt64(), _ROWS: pl.UInt32()})
"""The columns of files with what another side holds of each key."""

_PRIMES = (11, 13)
"""Seeds of the two hashes of a row: rows that differ have equal ones with a chance of 1 in 2 to the 128."""


@dataclass(frozen=True)
class Digests:
    """Computes what other sides hold of each key now; each once, as long as the same is there.

    ``look`` lists a source as it is now; ``known`` is what has been computed before, and more is put in. ``tables`` are the outputs that
    a run has brought up to date, ``moments`` says who parses those of which sources, as far as that is known (``Terms``).
    """

    plan: CompiledPipeline
    look: Callable[[str], Snapshot]
    known: dict[Hashable, pl.DataFrame] = field(default_factory=dict)
    tables: Tables = NOTHING
    moments: dict[str, How] = field(default_factory=dict)

    def of(self, side: Side) -> pl.DataFrame:
        """Return what the other side holds of each key (``DIGESTS``): no row for keys that it has not."""
        self.ahead([side])
        return self.known[self._key(side)]

    def ahead(self, sides: Iterable[Side]) -> None:
        """Compute what several other sides hold, side by side; those that are known are not computed again."""
        missing = {key: side.match for side in sides if (key := self._key(side)) not in self.known}
        self.known.update(zip(missing, self._digested([*missing.values()]), strict=True))

    def _digested(self, matches: Sequence[Match]) -> list[pl.DataFrame]:
        frames = [digest(self.rows(m.other), self.plan.nodes[m.other].schema, m) for m in matches]
        try:
            if len(frames) > 1:
                return pl.collect_all(frames, engine="streaming")
            return [f.collect(engine="streaming") for f in frames]
        except Unusual as failure:
            self.moments[failure.source] = "reader"
            return self._digested(matches)

    def _key(self, side: Side) -> Hashable:
        match, at = side.match, tuple(self._at(n) for n in side.leaves)
        return match.other, match.there, match.taken, match.times, match.nulls, match.types, at

    def rows(self, name: str) -> pl.LazyFrame:
        """Return all rows of a source or stage as they are now, with gates as filters."""
        table = self._published(name)
        if table is not None:
            dataset, commit = table
            return dataset.scan(commit)
        node = self.plan.nodes[name]
        if node.source is not None:
            found = node.source.looked_at(self.look(name))
            frame = node.source.scan(found, how=self.moments.get(name, "usual"))
        else:
            frame = node.lower({n: Table(self.rows(n), self.plan.nodes[n].schema) for n in node.inputs})
        return node.good(frame, lambda reference: self.rows(reference.to))

    def _at(self, name: str) -> Hashable:
        table = self._published(name)
        if table is not None:
            return name, table[1].version
        found = self.look(name)
        return name, tuple(found.files), found.version

    def _published(self, name: str) -> tuple[Dataset, Commit] | None:
        """Return the dataset that a stage is read from, if it is an output, and its commit."""
        found = table_of(self.plan, name, self.tables)
        # one that is not there says so when it is read
        return None if found is None else (found[0], found[1] or found[0].read())


def digest(rows: pl.LazyFrame, schema: pl.Schema, match: Match) -> pl.LazyFrame:
    """Return a digest for each hashed key of some rows: while it stays the same, a row that looks the key up finds the same.

    Examples
    --------
    >>> match = Match(("k",), "other", ("k",), ("v",))
    >>> before = pl.LazyFrame({"k": [1, 2, None], "v": ["a", "b", "c"]})
    >>> now = before.with_columns(v=pl.lit("a"))
    >>> old, new = (digest(f, f.collect_schema(), match).collect() for f in (before, now))
    >>> old.height, len(differing(old.lazy(), new))
    (2, 1)
    """
    key = hashed(match.there, schema, nulls=match.nulls, types=match.types)
    hashes = [_row(match.taken, schema, prime).alias(n) for n, prime in zip((_FIRST, _SECOND), _PRIMES, strict=True)]
    times = pl.len() if match.times else pl.lit(1, dtype=pl.UInt32)
    found = rows.select(key, *hashes).filter(pl.col(HASH).is_not_null()).group_by(HASH)
    sums = [pl.col(n).sum() if match.times else pl.lit(0, dtype=pl.UInt64).alias(n) for n in (_FIRST, _SECOND)]
    return found.agg(*sums, times.alias(_ROWS)).cast(DIGESTS)


def differing(before: pl.LazyFrame, now: pl.DataFrame) -> pl.Series:
    """Return the hashed keys for which two digests differ."""
    same = [pl.col(n).eq_missing(pl.col(f"{n}_now")) for n in (_FIRST, _SECOND, _ROWS)]
    both = before.join(now.lazy(), on=HASH, how="full", coalesce=True, suffix="_now")
    return both.filter(~pl.all_horizontal(same)).select(HASH).collect(engine="streaming").to_series()


def has_repeats(now: pl.DataFrame) -> bool:
    """Whether a key stands more than once, as far as hashes tell."""
    return bool((now[_ROWS] > 1).any())


def _row(names: Iterable[str], schema: pl.Schema, seed: int) -> pl.Expr:
    """Return a hash of a row's columns, in which zeros with and without a sign differ."""
    parts = [pl.lit(0, dtype=pl.UInt64)]
    for number, name in enumerate(names):
        column, of = pl.col(name), seed + 100 * number
        parts.append(column.hash(of))
        if schema[name].is_float():
            parts.append((1 / column).hash(of + 50))
    # hashed once more, so that values which change places between rows do not cancel
    return in_pairs(xor, parts).hash(seed)
