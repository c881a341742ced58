"""A profile of a frame's columns, as far as it matters for storage: from a sample and from footers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from itertools import islice
from typing import Any, Literal

import polars as pl

from lazypipe.gates.shown import records
from lazypipe.spec.types import dtype_name
from lazypipe.storage.optimizer.form import Form, bits, is_ticking, same
from lazypipe.storage.optimizer.form_numbers import Scaled
from lazypipe.storage.optimizer.relations import Relation, find_relations
from lazypipe.storage.optimizer.sample import ROWS, Sample, take_sample
from lazypipe.storage.optimizer.templates import common_prefix, find_make

__all__ = ["ColumnProfile", "Profile", "profile", "profile_sample"]

Order = Literal["ascending", "descending"]

_NEARLY = 0.98
"""Which part of the values must have a property for the column to have it."""
_MOST_DIGITS = 8
_FLOATS = 2_000
"""Floats whose decimals are looked at."""
_GLANCED, _MAYBE, _LIKELY = 200, 0.94, 2
"""Values that tell which units and decimals are not worth a look; which part of them must fit; decimals that are looked at then."""
_NEAR = 1e-9
_POOR = 0.1
"""Bits of a value, below which there is nothing to be gained by what it has to do with others."""
_COUNT = "__lazypipe_count"
_TEXTS, _FEW_TEXTS = 1_000, 250
"""Texts that are looked at to find out of what make they are; and where there is little time."""
_MINIBLOCK = 32
"""Values that are packed with the same number of bits where differences are kept (as in Parquet)."""
_DAY = 86_400
_TICKS = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True)
class ColumnProfile:
    """The properties of a column, from a sample of its values.

    Parameters
    ----------
    name, dtype
        Of the column.
    rows, nulls, distinct
        In the sample; distinct values without null, None for nested columns.
    least, greatest
        Minimum and maximum, if values can be compared.
    runs
        The number of runs of equal consecutive values.
    order, strict
        Whether the values only rise or only fall, and whether all are different.
    rising
        The fraction of steps from one value to the next that do not fall.
    entropy
        Bits per value, if all other values are unknown.
    shortest, longest, mean_bytes, prefix
        Lengths of texts and binary values in bytes, and the common prefix of all texts.
    make
        The template that nearly all texts match.
    digits
        The number of decimals of nearly all floats, or of all decimals; None if more than eight.
    product
        Whether floats with decimals are integers times 0.01, which is not always the same as the number written with two decimals.
    unit
        The largest unit of which nearly all integers, datetimes and durations are multiples.
    encodings
        Bytes that the sample takes per encoding, before compression; calculated, not tried.
    stored
        Bytes that the column takes in the files that the sample was read from; None if it was not read from files.
    """

    name: str
    dtype: pl.DataType
    rows: int
    nulls: int
    distinct: int | None = None
    least: Any = None
    greatest: Any = None
    runs: int | None = None
    order: Order | None = None
    strict: bool = False
    rising: float | None = None
    entropy: float | None = None
    shortest: int | None = None
    longest: int | None = None
    mean_bytes: float | None = None
    prefix: str = ""
    make: Form | None = None
    digits: int | None = None
    product: bool = False
    unit: int | None = None
    encodings: Mapping[str, int] | None = None
    stored: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain |= {"dtype": dtype_name(self.dtype), "least": _shown(self.least), "greatest": _shown(self.greatest)}
        plain["make"] = None if self.make is None else self.make.to_dict()
        return plain | {"encodings": dict(self.encodings or {})}


@dataclass(frozen=True)
class Profile:
    """The properties of a frame's columns, from a sample of its rows.

    Parameters
    ----------
    rows
        Rows in the sample.
    total
        Rows in the frame.
    columns
        The profile of each column.
    relations
        Relations between columns.
    """

    rows: int
    total: int
    columns: tuple[ColumnProfile, ...]
    relations: tuple[Relation, ...] = ()

    def __getitem__(self, name: str) -> ColumnProfile:
        """Return the profile of a column."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, ColumnProfile]:
        return {c.name: c for c in self.columns}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "rows": self.rows,
            "total": self.total,
            "columns": [c.to_dict() for c in self.columns],
            "relations": [r.to_dict() for r in self.relations],
        }

    def to_frame(self) -> pl.DataFrame:
        """Return a frame with one row per column; minimum, maximum and forms are text."""
        types = {
            "name": pl.String,
            "dtype": pl.String,
            "rows": pl.Int64,
            "nulls": pl.Int64,
            "distinct": pl.Int64,
            "least": pl.String,
            "greatest": pl.String,
            "runs": pl.Int64,
            "order": pl.String,
            "strict": pl.Boolean,
            "rising": pl.Float64,
            "entropy": pl.Float64,
            "shortest": pl.Int64,
            "longest": pl.Int64,
            "mean_bytes": pl.Float64,
            "prefix": pl.String,
            "make": pl.String,
            "digits": pl.Int64,
            "product": pl.Boolean,
            "unit": pl.Int64,
            "stored": pl.Int64,
        }
        rows = [c.to_dict() for c in self.columns]
        for row in rows:
            del row["encodings"]
            row |= {n: None if row[n] is None else str(row[n]) for n in ("least", "greatest", "make")}
        return pl.DataFrame(rows, schema=types, orient="row")

    def to_markdown(self) -> str:
        """Return tables of the columns and of the relations between them.

        Examples
        --------
        >>> print(profile(pl.DataFrame({"id": [1, 2, 3], "side": ["buy", "sell", "buy"]})).to_markdown())
        3 of 3 rows
        <BLANKLINE>
        | column | type | nulls | distinct | from | to | runs | order | bits | bytes by encoding |
        |---|---|--:|--:|---|---|--:|---|--:|---|
        | id | Int64 | 0 | 3 | 1 | 3 | 3 | ascending | 1.6 | plain 24, dictionary 25, rle 30, delta 0 |
        | side | String | 0 | 2 | buy | sell | 3 |  | 0.9 | plain 22, dictionary 16, rle 28 |
        """
        lines = [f"{self.rows:,} of {self.total:,} rows", ""]
        heads = ("column", "type", "nulls", "distinct", "from", "to", "runs", "order", "bits", "bytes by encoding")
        numbers = ("nulls", "distinct", "runs", "bits")
        lines += [f"| {' | '.join(heads)} |", f"|{'|'.join('--:' if h in numbers else '---' for h in heads)}|"]
        for c in self.columns:
            sizes = ", ".join(f"{e} {n:,}" for e, n in (c.encodings or {}).items())
            cells = (
                c.name.replace("|", "\\|"),
                dtype_name(c.dtype),
                f"{c.nulls:,}",
                "" if c.distinct is None else f"{c.distinct:,}",
                _cell(c.least),
                _cell(c.greatest),
                "" if c.runs is None else f"{c.runs:,}",
                c.order or "",
                "" if c.entropy is None else f"{c.entropy:.1f}",
                sizes,
            )
            lines.append(f"| {' | '.join(cells)} |")
        if self.relations:
            lines += ["", *(f"- {r}" for r in self.relations)]
        return "\n".join(lines)


def _shown(value: Any) -> Any:
    """Return a value as JSON holds it."""
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, timedelta | Decimal):
        return str(value)
    return value.hex() if isinstance(value, bytes) else value


def _cell(value: Any) -> str:
    text = "" if value is None else str(_shown(value))
    return (text[:29] + "…" if len(text) > 30 else text).replace("|", "\\|").replace("\n", " ")


def profile(
    data: pl.DataFrame | pl.LazyFrame | str,
    *,
    sample: int = ROWS,
    storage_options: Mapping[str, Any] | None = None,
) -> Profile:
    """Profile a frame, a dataset, a Delta table, or Parquet files at a URI, using a sample of the rows.

    Parameters
    ----------
    sample
        About how many rows to look at, in evenly spread blocks. Everything in the profile refers to these rows.

    Raises
    ------
    LazypipeError
        If ``sample`` is less than 1.
    SourceError, StorageError
        If the files at a URI cannot be read.

    Examples
    --------
    >>> found = profile(pl.DataFrame({"price": [1.25, 3.5, 2.75], "code": ["A-007", "A-012", "A-101"]}))
    >>> found["price"].digits, found["code"].make
    (2, Template(pieces=('A-', ''), varying=(3,)))
    """
    return profile_sample(take_sample(data, sample, storage_options))


def profile_sample(sample: Sample, *, quick: bool = False) -> Profile:
    """Profile what a sample is of; if that is to be ``quick``, by fewer texts, and only what forms of columns follow from."""
    frame = sample.frame
    drawn = _drawn(frame.height)
    # drawn: every so many rows might all be alike where something recurs
    glanced = {c.name: c.to_physical() for c in frame.sample(min(frame.height, _GLANCED), seed=0)}
    exprs: dict[str, pl.Expr] = {}
    for index, (name, dtype) in enumerate(frame.schema.items()):
        figures = _figures(pl.col(name), dtype, drawn, glanced[name])
        exprs |= {f"{index}:{what}": e for what, e in figures.items()}
    # in memory already, and there small: the engine for that is twice as fast
    found = records(frame.select(**exprs))[0] if exprs else {}
    names = frame.columns
    told: dict[str, dict[str, Any]] = {n: {} for n in names}
    for key, value in found.items():
        number, _, what = key.partition(":")
        told[names[int(number)]][what] = value
    # where there is little time, nothing is asked of what takes next to nothing anyway
    known = {
        n: t["distinct"] + bool(t["nulls"])
        for n, t in told.items()
        if "distinct" in t and not (quick and (t["entropy"] or 0.0) < _POOR)
    }
    relations = find_relations(frame, known, clusters=not quick)
    compared = {n for r in relations if r.kind == "difference" for n in (r.column, r.by)}
    packed = _packed(frame, [n for n, t in frame.schema.items() if is_ticking(t) and (n in compared or not quick)])
    texts = _FEW_TEXTS if quick else _TEXTS
    columns = [
        _column(n, t, frame, told[n], packed.get(n), sample.stored.get(n), texts) for n, t in frame.schema.items()
    ]
    return Profile(frame.height, sample.total, tuple(columns), relations)


def _is_flat(dtype: pl.DataType) -> bool:
    return not dtype.is_nested() and dtype not in (pl.Null, pl.Object, pl.Unknown)


def _is_text(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Binary)


def _figures(column: pl.Expr, dtype: pl.DataType, drawn: pl.Series, glanced: pl.Series) -> dict[str, pl.Expr]:
    """Return the aggregates that tell about a column; the decimals of floats are those of the rows ``drawn``.

    Nothing is asked that some values, as they stand inside, tell already: of most units only a few are multiples.
    """
    exprs = {"nulls": column.null_count()}
    if not _is_flat(dtype):
        return exprs
    counts = column.drop_nulls().value_counts(name=_COUNT).struct.field(_COUNT)
    exprs |= {"distinct": counts.len(), "entropy": counts.entropy(base=2)}
    exprs |= {"runs": column.rle_id().last() + 1}
    compared = column.cast(pl.String) if isinstance(dtype, pl.Categorical | pl.Enum) else column
    before = compared.shift(1)
    exprs |= {
        "least": compared.min(),
        "greatest": compared.max(),
        "rising": (compared >= before).mean(),
        "falling": (compared <= before).mean(),
        "equal": (compared == before).any(),
    }
    if _is_text(dtype):
        size = column.str.len_bytes() if dtype == pl.String else column.bin.size().cast(pl.UInt32)
        exprs |= {"shortest": size.min(), "longest": size.max(), "mean_bytes": size.mean()}
    if dtype == pl.Float64:
        finite = column.drop_nulls()
        exprs["digits:0"] = same(finite.cast(pl.Int64, strict=False).cast(dtype), finite, dtype).mean()
        some = column.gather(drawn).drop_nulls()
        for digits, product in ((d, p) for d in _digits(glanced.to_list()) for p in (False, True)):
            form = Scaled(digits, pl.Int64(), product)
            fits = same(form.join(form.split(some, dtype), dtype), some, dtype).mean()
            exprs[f"{'product' if product else 'digits'}:{digits}"] = fits
    if isinstance(dtype, pl.Decimal):
        inside = column.drop_nulls().to_physical()
        exprs |= {f"digits:{d}": (inside % 10 ** (dtype.scale - d) == 0).mean() for d in range(dtype.scale + 1)}
    if is_ticking(dtype):
        count = column.drop_nulls().to_physical().cast(pl.Int64, strict=False)
        exprs |= {f"unit:{unit}": (count % unit == 0).mean() for unit in _likely(glanced.to_list(), _units(dtype))}
    return exprs


def _drawn(rows: int) -> pl.Series:
    """Return rows whose floats are looked at: of each stretch another, as what recurs would look alike at equal distances."""
    every = max(rows // _FLOATS, 1)
    stretch = pl.int_range(rows // every, eager=True)
    return stretch * every + stretch.hash() % every


def _likely(values: Sequence[int | None], units: Sequence[int]) -> list[int]:
    """Return the units of which so many of some values are multiples, that nearly all may be."""
    known = [v for v in values if v is not None]
    return [u for u in units if _maybe((v % u == 0 for v in known), len(known))]


def _digits(values: Sequence[float | None]) -> list[int]:
    """Return with how many decimals so many of some values are told, more or less, that nearly all may be: the fewest."""
    known = [v for v in values if v is not None]

    def fits(value: float, shift: int) -> bool:
        number = value * shift
        return math.isfinite(number) and abs(number - round(number)) <= _NEAR * max(abs(number), 1.0)

    enough = (d for d in range(1, _MOST_DIGITS + 1) if _maybe((fits(v, 10**d) for v in known), len(known)))
    return [*islice(enough, _LIKELY)]


def _maybe(fits: Iterable[bool], values: int) -> bool:
    """Whether all but a few of so many values fit; once too many do not, no other is asked."""
    most = int((1 - _MAYBE) * values)
    misses = islice((fit for fit in fits if not fit), most + 1)
    return len([*misses]) <= most


def _units(dtype: pl.DataType) -> Sequence[int]:
    """Return the units that are tried, the greatest first."""
    if isinstance(dtype, pl.Datetime | pl.Duration):
        second = _TICKS[dtype.time_unit]
        return [second * s for s in (_DAY, 3_600, 60, 1)] + [second // 10**n for n in (3, 6) if second > 10**n]
    if dtype == pl.Date:
        return []
    most = 2 ** (bits(dtype) - dtype.is_signed_integer()) - 1
    return [10**n for n in range(9, 0, -1) if 10**n <= most]


def _column(
    name: str,
    dtype: pl.DataType,
    frame: pl.DataFrame,
    figures: Mapping[str, Any],
    packed: int | None,
    stored: int | None,
    texts: int,
) -> ColumnProfile:
    rows, nulls = frame.height, figures["nulls"]
    if not _is_flat(dtype):
        sizes = {"plain": int(frame[name].estimated_size())}
        return ColumnProfile(name, dtype, rows, nulls, encodings=sizes, stored=stored)
    distinct, values = figures["distinct"], rows - nulls
    order: Order | None = None
    if values > 1 and distinct > 1 and not nulls:
        order = "ascending" if figures["rising"] == 1 else "descending" if figures["falling"] == 1 else None
    make, prefix = None, ""
    if dtype == pl.String:
        known = frame[name].drop_nulls()
        some = known.unique(maintain_order=True).head(texts).to_list() if distinct > texts else known.unique().to_list()
        make, prefix = find_make(some), common_prefix(some)
    digits, products = _first(figures, "digits:"), _first(figures, "product:")
    is_product = products is not None and (digits is None or products < digits)
    return ColumnProfile(
        name,
        dtype,
        rows,
        nulls,
        distinct,
        figures["least"],
        figures["greatest"],
        figures["runs"] if rows else 0,
        order,
        order is not None and not figures["equal"],
        figures["rising"],
        figures["entropy"] or 0.0,
        figures.get("shortest"),
        figures.get("longest"),
        figures.get("mean_bytes"),
        prefix,
        make,
        products if is_product else digits,
        is_product,
        (_first(figures, "unit:") or 1) if is_ticking(dtype) else None,
        _sizes(dtype, values, distinct, figures, packed),
        stored,
    )


def _first(figures: Mapping[str, Any], kind: str) -> int | None:
    """Return the first of some numbers that nearly all values fit."""
    tried = ((int(w.removeprefix(kind)), share) for w, share in figures.items() if w.startswith(kind))
    return next((number for number, share in tried if share is not None and share >= _NEARLY), None)


def _sizes(
    dtype: pl.DataType, values: int, distinct: int, figures: Mapping[str, Any], packed: int | None
) -> dict[str, int]:
    """Return how many bytes encodings take, before compression, from counts."""
    width = _width(dtype, figures.get("mean_bytes"))
    if dtype == pl.Boolean:
        return {"plain": -(-values // 8), "rle": figures["runs"] or 0}
    index = max(distinct - 1, 0).bit_length() * values / 8
    found = {
        "plain": round(values * width),
        "dictionary": round(distinct * width + -(-index // 1)),
        "rle": round((figures["runs"] or 0) * (width + 2)),
    }
    return found if packed is None else found | {"delta": packed}


def _width(dtype: pl.DataType, mean_bytes: float | None) -> float:
    """Return the bytes of a value in a Parquet file, plain."""
    if _is_text(dtype):
        return 4 + (mean_bytes or 0)
    if isinstance(dtype, pl.Decimal):
        return 4 if dtype.precision <= 9 else 8 if dtype.precision <= 18 else 16
    if dtype in (pl.Int128, pl.UInt128):
        return 16
    short = dtype == pl.Date or str(dtype) in ("Float32", "Int8", "Int16", "Int32", "UInt8", "UInt16", "UInt32")
    return 4 if short or isinstance(dtype, pl.Categorical | pl.Enum) else 8


def _packed(frame: pl.DataFrame, names: Sequence[str]) -> dict[str, int]:
    """Return the bytes that differences of whole numbers and times take, each block packed with as few bits as it needs."""
    if not names or not frame.height:
        return {}
    inside = frame.lazy().select(pl.col(n).to_physical().cast(pl.Int128).alias(str(i)) for i, n in enumerate(names))
    blocks = (pl.int_range(pl.len()) // _MINIBLOCK).alias("block")
    step = pl.all().diff()
    spans = inside.select(step, blocks).group_by("block").agg(pl.all().max() - pl.all().min())
    bits = (pl.all().exclude("block").cast(pl.Float64) + 1).log(2).ceil().sum() * _MINIBLOCK / 8
    return dict(zip(names, map(round, spans.select(bits).collect(engine="in-memory").row(0)), strict=True))
