"""Relations between columns of a frame: one follows from another, is close to it, or is sorted with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import polars as pl

from lazypipe.storage.optimizer.form import counted, is_counted, is_ticking

__all__ = ["Relation", "find_relations"]

Kind = Literal["determined", "difference", "multiple", "clustered"]

_FEW = 1_000
"""Distinct values up to which a column may determine another, with the pairs kept in a commit."""
_REPEATS = 10
"""How often each value must stand in the sample, on average, to be said to determine anything."""
_COLUMNS = 12
"""Columns that are compared with each other; those with the fewest values."""
_PROBE = 10_000
"""Rows that columns are compared on first."""
_EXCEPTIONS = 0.005
_BITS = 3
"""Bits that a difference, or how many times one holds another, must be shorter than the column."""
_PAIRED = 2_000
"""Rows on which columns are counted in each other."""
_GLANCED, _MAYBE = 200, 0.94
"""Rows of them that tell most pairs of which neither is counted in the other, and which part of these must fit."""
_MIXED = 0x9E3779B97F4A7C15
"""What one hash is multiplied with to be added to another: odd, and of mixed bits."""
_FEWER = 8
"""How many times fewer values a difference must have than the column, to be worth it however far they lie apart."""
_STEPS = 0.9
"""Which part of a few differences are other ones at most, where there may be so few."""
_NEARLY = 0.98
_TICKS = {"ns": (10**9, 10**6, 10**3), "us": (10**6, 10**3), "ms": (10**3,)}
"""Units of time that values are often multiples of."""
_SHORTER = 0.7
"""Which part of a column's runs must be left when rows are ordered by another."""


@dataclass(frozen=True)
class Relation:
    """What one column has to do with another.

    ``determined``: the value of ``by`` tells that of ``column``, but for the part ``strength`` of the rows. ``difference``: the
    difference of both is ``strength`` bits long, ``column`` itself ``of`` bits. ``multiple``: so is how many times ``column`` holds
    ``by``. ``clustered``: ordered by ``by``, ``column`` has the part ``strength`` of the runs that it has now.
    """

    kind: Kind
    column: str
    by: str
    strength: float
    of: float | None = None

    def __str__(self) -> str:
        match self.kind:
            case "determined":
                return f"{self.column} follows from {self.by} ({self.strength:.2%} of the rows are exceptions)"
            case "difference":
                return f"{self.column} less {self.by} needs {self.strength:.0f} bits rather than {self.of:.0f}"
            case "multiple":
                return (
                    f"{self.column} as a multiple of {self.by} needs {self.strength:.0f} bits rather than {self.of:.0f}"
                )
            case _:
                return f"{self.column} has {self.strength:.0%} of its runs when rows are ordered by {self.by}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON holds."""
        return dict(vars(self))


def find_relations(frame: pl.DataFrame, distinct: Mapping[str, int], *, clusters: bool = True) -> tuple[Relation, ...]:
    """Return the relations between flat columns of a sample; ``distinct`` says how many values each has, null among them.

    No form of a column follows from how others are clustered: without ``clusters`` that is not looked at.

    Examples
    --------
    >>> frame = pl.DataFrame({"code": ["DE", "FR"] * 20, "land": ["Germany", "France"] * 20})
    >>> [str(r) for r in find_relations(frame, {"code": 2, "land": 2})][0]
    'land follows from code (0.00% of the rows are exceptions)'
    """
    if frame.height < 2:
        return ()
    few = sorted(
        (n for n, d in distinct.items() if 1 < d <= _FEW and d * _REPEATS <= frame.height), key=lambda n: distinct[n]
    )
    few = few[:_COLUMNS]
    return (
        *_determined(frame, few, distinct),
        *_differences(frame, distinct),
        *_multiples(frame, distinct),
        *(_clustered(frame, few, distinct) if clusters else ()),
    )


def _determined(frame: pl.DataFrame, few: list[str], distinct: Mapping[str, int]) -> list[Relation]:
    pairs = [(a, b) for b in few for a in few if a != b and distinct[a] >= distinct[b]]

    def exceptions(tried: list[tuple[str, str]]) -> list[float]:
        counted = (
            frame.lazy()
            .group_by(by, column)
            .len()
            .group_by(by)
            .agg(pl.col("len").sum() - pl.col("len").max())
            .select(pl.col("len").sum())
            for by, column in tried
        )
        return [found.item() / frame.height for found in pl.collect_all(counted, engine="in-memory")]

    # which of two that determine each other stays: the one that comes first
    seen: set[tuple[str, str]] = set()
    likely = _likely(frame.head(_PAIRED), pairs)
    relations = []
    order = {n: i for i, n in enumerate(frame.columns)}
    likely.sort(key=lambda p: (order[p[1]], distinct[p[0]], order[p[0]]))
    for (by, column), share in zip(likely, exceptions(likely), strict=True):
        both_ways = distinct[by] == distinct[column]
        if share > _EXCEPTIONS or (both_ways and order[by] > order[column]) or (column, by) in seen:
            continue
        seen.add((by, column))
        relations.append(Relation("determined", column, by, share))
    return relations


def _likely(probe: pl.DataFrame, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs of which the first may determine the second: both together have hardly more values than the first alone.

    Each value more is an exception at least once.
    """
    if not pairs:
        return []
    names = list(dict.fromkeys(n for p in pairs for n in p))
    rows = probe.select(pl.col(names).hash())
    if len(pairs) > _COLUMNS:  # rows that are alike tell nothing more: it pays to compare many columns on the others
        rows = rows.unique()
    codes = {c.name: c for c in rows}
    first = {n: c.head(_GLANCED).to_list() for n, c in codes.items()}
    few = {n: len({*some}) for n, some in first.items()}
    most = 1.5 * _EXCEPTIONS * probe.height  # by chance there may be more than among all
    mixed: dict[str, tuple[pl.Series, int]] = {}

    def is_likely(by: str, column: str) -> bool:
        # most pairs are told from a few rows
        if len({*zip(first[by], first[column], strict=True)}) - few[by] > most:
            return False
        if by not in mixed:
            mixed[by] = codes[by] * _MIXED, codes[by].n_unique()
        one, values = mixed[by]
        return (one + codes[column]).n_unique() - values <= most

    return [pair for pair in pairs if is_likely(*pair)]


def _differences(frame: pl.DataFrame, distinct: Mapping[str, int]) -> list[Relation]:
    names = [n for n, t in frame.schema.items() if is_ticking(t) and distinct.get(n, 0) > _FEW][:_COLUMNS]
    pairs = [(a, b) for a in names for b in names if a != b and _comparable(frame.schema[a], frame.schema[b])]
    if not pairs:
        return []

    types = frame.schema
    needed = list(dict.fromkeys(n for p in pairs for n in p))
    inside = frame.select(pl.col(needed).to_physical().cast(pl.Int128))
    probe = inside.head(_PAIRED)
    some = {c.name: c.to_list() for c in probe.sample(min(probe.height, _GLANCED), seed=0)}
    columns = {c.name: c for c in inside}
    lengths = {n: _bits(c, some[n], types[n]) for n, c in columns.items()}
    counts = {c.name: _distinct(c) for c in probe}
    differences = {}
    for a, b in combinations(needed, 2):
        drawn = [v - o for v, o in zip(some[a], some[b], strict=True) if v is not None and o is not None]
        longest = max(lengths[a] or 0.0, lengths[b] or 0.0)
        if (a, b) in pairs and _may_be_near(drawn, types[a], longest):
            apart = columns[a] - columns[b]
            # values that lie far apart may still differ by the same few steps again and again
            differences[frozenset((a, b))] = _bits(apart, drawn, types[a]), _distinct(apart.head(_PAIRED))
    relations = []
    for a, b in pairs:
        short, steps = differences.get(frozenset((a, b)), (None, 0))
        long = lengths[a]
        if short is None or long is None:
            continue
        if steps * _FEWER <= counts[a]:
            short = min(short, math.log2(max(steps, 1)))
        if short + _BITS <= long:
            relations.append(Relation("difference", a, b, short, long))
    return sorted(relations, key=lambda r: r.strength)


def _distinct(values: pl.Series) -> int:
    return values.n_unique() - (values.null_count() > 0)


def _bits(inside: pl.Series, some: Sequence[int | None], dtype: pl.DataType) -> float | None:
    """Return the length of nearly all values, counted in the greatest unit of which they are multiples; ``some`` tell which may be."""
    low, high = inside.quantile(0.01, "nearest"), inside.quantile(0.99, "nearest")
    if low is None or high is None:
        return None
    likely = _units([v for v in some if v is not None], dtype)
    fits = (u for u in likely if inside.to_frame().select((pl.all() % u == 0).mean()).item() >= _NEARLY)
    return math.log2((high - low) / next(fits, 1) + 1)


def _units(values: Sequence[int], dtype: pl.DataType) -> Iterator[int]:
    """Yield the units of time, the greatest first, of which so many of some values are multiples, that nearly all may be."""
    for unit in _TICKS.get(getattr(dtype, "time_unit", ""), ()):
        if sum(v % unit == 0 for v in values) >= _MAYBE * len(values):
            yield unit


def _may_be_near(differences: Sequence[int], dtype: pl.DataType, longest: float) -> bool:
    """Whether values may lie near others, or differ by few steps, by some of the differences; of most pairs these tell that they do not."""
    if len(differences) < _GLANCED or len(set(differences)) <= _STEPS * len(differences):
        return True
    known, cut = sorted(differences), len(differences) // 20
    span = (known[-1 - cut] - known[cut]) / next(_units(differences, dtype), 1)
    return math.log2(span + 1) + _BITS <= longest + 1


def _multiples(frame: pl.DataFrame, distinct: Mapping[str, int]) -> list[Relation]:
    """Return the columns of which nearly all values are whole multiples of another's, and shorter when told as how many times."""
    amounts = [n for n, t in frame.schema.items() if is_counted(t) and not t.is_temporal() and n in distinct]
    many = sorted((n for n in amounts if distinct[n] > _FEW), key=lambda n: -distinct[n])[: _COLUMNS // 2]
    pairs = [(a, b) for a in many for b in amounts[:_COLUMNS] if a != b and 1 < distinct[b] < distinct[a]]
    if not pairs:
        return []

    def length(value: pl.Expr) -> pl.Expr:
        return ((value.quantile(0.99, "nearest") - value.quantile(0.01, "nearest")).cast(pl.Float64) + 1).log(2)

    probe = frame.head(_PAIRED).select(counted(pl.col(amounts)))
    units = {n: _ones(frame.schema[n], probe[n]) for n in {b for _, b in pairs}}
    glanced = probe.select(list(dict.fromkeys(n for p in pairs for n in p))).sample(min(probe.height, _GLANCED), seed=0)
    some = {c.name: c.to_list() for c in glanced}
    pairs = [(a, b) for a, b in pairs if _are_multiples(some[a], some[b], units[b])]
    if not pairs:
        return []
    found: dict[str, pl.Expr] = {}
    for i, (a, b) in enumerate(pairs):
        by = pl.col(b) // units[b]
        times = pl.when(by != 0).then(pl.col(a) // by)
        found |= {
            f"fits:{i}": (pl.col(a) % by == 0).mean(), f"bits:{i}": length(times), f"of:{i}": length(pl.col(a)),
        }  # fmt: skip
    told = probe.select(**found).row(0, named=True)
    relations = []
    for i, (a, b) in enumerate(pairs):
        fits, short, long = told[f"fits:{i}"], told[f"bits:{i}"], told[f"of:{i}"]
        if fits is not None and fits >= _NEARLY and short is not None and short + _BITS <= long:
            relations.append(Relation("multiple", a, b, short, long))
    return sorted(relations, key=lambda r: r.strength)


def _are_multiples(values: list[int | None], by: list[int | None], one: int) -> bool:
    """Whether values may be multiples of others: a pair of which most are not is told from few rows."""
    known = none = 0
    for value, other in zip(values, by, strict=True):
        if value is not None and other is not None and (times := other // one):
            known += 1
            none += value % times != 0
            if none > _GLANCED * (1 - _MAYBE):
                return False
    return 2 * none <= known


def _ones(dtype: pl.DataType, counts: pl.Series) -> int:
    """Return what one of something is inside, where nearly all values of a column are whole: 100 for decimals with two digits."""
    one = 10**dtype.scale if isinstance(dtype, pl.Decimal) else 1
    whole = int((counts % one == 0).sum())
    return one if whole >= _NEARLY * (counts.len() - counts.null_count()) else 1


def _comparable(one: pl.DataType, other: pl.DataType) -> bool:
    if isinstance(one, pl.Datetime):
        return isinstance(other, pl.Datetime) and one.time_unit == other.time_unit
    return one == other


def _clustered(frame: pl.DataFrame, few: list[str], distinct: Mapping[str, int]) -> list[Relation]:
    probe = frame.head(_PROBE)
    names = [n for n in distinct if 1 < distinct[n] < probe.height]
    runs = pl.col(names).rle_id().last() + 1
    if not names:
        return []
    before = probe.select(runs).row(0, named=True)
    relations = []
    for by in few[: _COLUMNS // 2]:
        after = probe.sort(by, maintain_order=True).select(runs).row(0, named=True)
        shorter = (n for n in names if n != by and before[n] > 1 and after[n] <= _SHORTER * before[n])
        relations += [Relation("clustered", n, by, after[n] / before[n]) for n in shorter]
    return relations
