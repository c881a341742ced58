"""Row groups are left out only where the footer proves it, and are left out where it does."""

from __future__ import annotations

import datetime as dt
import io
import math
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from lazypipe.storage.external.scan import scan_external
from lazypipe.storage.parquet.prune import Bounds, bounds, column_bounds, may_match
from lazypipe.storage.parquet.ranges import TRAILER, Footer, footer_length

NAN = float("nan")
KNOWN = {
    "i": Bounds(10, 20, 0, 5),
    "u": Bounds(10, 20, 1, 5),
    "f": Bounds(1.0, 2.0, 0, 5),
    "s": Bounds(b"bb", b"dd", 0, 5),
    "d": Bounds(100, 200, 0, 5),
    "t": Bounds(1000, 2000, 0, 5),
    "n": Bounds(None, None, 5, 5),
    "x": Bounds(None, None, None, 5),
}
SCHEMA = pl.Schema(
    {
        "i": pl.Int64(),
        "u": pl.UInt8(),
        "f": pl.Float64(),
        "s": pl.String(),
        "d": pl.Date(),
        "t": pl.Datetime("ms", "UTC"),
        "n": pl.Int64(),
        "x": pl.Int64(),
    }
)
i, u, f, s, d, t, n, x = (pl.col(c) for c in SCHEMA)


def day(number: int) -> dt.date:
    return dt.date(1970, 1, 1) + dt.timedelta(number)


def optimized(filter_: pl.Expr, schema: pl.Schema = SCHEMA) -> list[pl.Expr]:
    """What the optimizer hands to a reader."""
    seen: list[pl.Expr] = []

    def reader(_columns: Any, predicate: pl.Expr | None, *_: Any) -> Any:
        seen.extend([predicate] if predicate is not None else [])
        yield pl.DataFrame(schema=schema)

    from polars.io.plugins import register_io_source

    register_io_source(reader, schema=schema).filter(filter_).collect()
    return seen


@pytest.mark.parametrize(
    "filter_",
    [
        i > 20, i >= 21, i < 10, i <= 9, i == 9, i == 21, pl.lit(21) <= i, i.is_in([9, 21]), i.is_between(21, 30),
        i.is_between(20, 30, closed="none"), (i > 20) & (u > 0), (i > 20) | (u > 20), i.is_null(), ~(i <= 20),
        u > 20, f < 1.0, f <= 0.5, f == 3.0, f.is_in([0.5, 3.0]), s == "a", s > "dd", s.is_in(["ba", "de"]), s < "bb",
        d > day(200), d == day(99), t < dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC),
        n > 0, n == 1, n.is_in([1]), n.is_not_null(),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_match_is_left_out(filter_: pl.Expr) -> None:
    assert not may_match(optimized(filter_), SCHEMA)(KNOWN.get)


@pytest.mark.parametrize(
    "filter_",
    [
        i > 19, i >= 20, i < 11, i <= 10, i == 10, i == 20, i.is_in([9, 15]), i.is_in([10]), i.is_in([20, 99]), i.is_between(20, 30), i.is_between(5, 10), (i > 20) | (u > 10),
        u.is_null(), i.is_not_null(), n.is_null(), x.is_null(), x.is_not_null(), x > 5, x.is_in([5]),
        # NaN is greater than any number and is not among the bounds
        f > 2.0, f >= 5.0, f == NAN, f < NAN, f.is_in([NAN]), f.is_nan(),
        s == "bb", s == "cx", s.str.contains("q"), s != "bb", i != 10, i.eq_missing(99), n.eq_missing(None),
        n.is_in([None], nulls_equal=True), i.cast(pl.String) > "99", i + 1 > 100, i > x, i > 20.5, d > dt.datetime(1980, 1, 1),
        pl.lit(True), (i > 20) ^ (u > 20),
    ],
    ids=str,
)  # fmt: skip
def test_what_can_match_or_is_not_understood_is_kept(filter_: pl.Expr) -> None:
    assert may_match(optimized(filter_), SCHEMA)(KNOWN.get)


DRAWN: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "i": (pl.Int64(), st.integers(-3, 3)),
    "w": (pl.UInt8(), st.sampled_from([0, 1, 127, 128, 255])),
    "f": (pl.Float64(), st.sampled_from([-1.5, -0.0, 0.0, 2.0, math.inf, -math.inf, NAN])),
    "g": (pl.Float32(), st.sampled_from([-1.5, 0.0, 2.0, NAN])),
    "s": (pl.String(), st.sampled_from(["", "a", "ab", "ä", "\U0010ffff" * 17])),
    "d": (pl.Date(), st.dates(dt.date(1969, 12, 30), dt.date(1970, 1, 3))),
    "t": (pl.Datetime("us"), st.datetimes(dt.datetime(1969, 12, 31, 23), dt.datetime(1970, 1, 1, 1))),
}
TYPES = pl.Schema({name: dtype for name, (dtype, _) in DRAWN.items()})


@st.composite
def filters(draw: st.DrawFn, depth: int = 2) -> pl.Expr:
    if depth and draw(st.booleans()):
        one, two = draw(filters(depth - 1)), draw(filters(depth - 1))
        return draw(st.sampled_from([one & two, one | two, ~one]))
    name = draw(st.sampled_from([*DRAWN]))
    dtype, values = DRAWN[name]
    column, (low, high) = pl.col(name), (pl.lit(draw(values), dtype=dtype) for _ in range(2))
    several = pl.lit(pl.Series(draw(st.lists(st.none() | values, max_size=3)), dtype=dtype)).implode()
    return draw(
        st.sampled_from([
            column == low, column != low, column < low, column <= low, column > low, column >= low, low < column,
            column.is_null(), column.is_not_null(), column.is_in(several), column.is_between(low, high),
            column.is_between(low, high, closed="left"), column.is_between(low, high, closed="right"),
        ])
    )  # fmt: skip


@settings(max_examples=300)
@given(st.data())
def test_no_row_group_with_a_row_that_passes_is_left_out(data: st.DataObject) -> None:
    drawn = {name: st.lists(st.none() | v, min_size=6, max_size=6) for name, (_, v) in DRAWN.items()}
    rows = pl.DataFrame(data.draw(st.fixed_dictionaries(drawn)), schema=TYPES)
    filter_ = data.draw(filters())
    out = io.BytesIO()
    if data.draw(st.booleans()):
        rows.write_parquet(out, row_group_size=2)
    else:
        pq.write_table(rows.to_arrow(), out, row_group_size=2)
    raw = out.getvalue()
    length = footer_length(raw)
    footer = Footer(raw[-TRAILER - length : -TRAILER], data_end=len(raw) - TRAILER - length)
    test = may_match(optimized(filter_, TYPES), TYPES)
    kept = [test(lambda c, g=g: bounds(footer.statistics(g, c), TYPES[c])) for g in range(len(footer.group_rows))]  # type: ignore[misc]
    assert len(kept) == 3
    passing = [rows[2 * g : 2 * g + 2].filter(filter_).height > 0 for g in range(3)]
    event(f"{kept.count(False)} left out, {passing.count(True)} pass")
    assert [has for has, is_kept in zip(passing, kept, strict=True) if has and not is_kept] == []
    assert test(lambda c: column_bounds(footer, c, TYPES[c])) or not any(passing)


def test_unknown_columns_and_types_that_differ_are_kept() -> None:
    assert may_match([pl.col("elsewhere") > 1], SCHEMA)(KNOWN.get)
    assert may_match([pl.col("i") > pl.lit(99, dtype=pl.Int32)], SCHEMA)(KNOWN.get)
    assert may_match([pl.col("i") > 99], SCHEMA)(lambda _: None)
    assert may_match([pl.col("i").is_in([99])], SCHEMA)(lambda _: None)


def test_very_long_lists_are_not_taken_apart() -> None:
    assert may_match([i.is_in(pl.lit(pl.Series(range(1000, 300_000))).implode())], SCHEMA)(KNOWN.get)


VALUES: dict[str, tuple[list[Any], pa.DataType, tuple[Any, Any] | None]] = {
    "int8": ([-5, 7], pa.int8(), (-5, 7)),
    "uint32": ([1, 2**31 - 1], pa.uint32(), (1, 2**31 - 1)),
    "uint32 beyond the sign": ([1, 2**32 - 1], pa.uint32(), None),
    "uint64 beyond the sign": ([2**63, 2**64 - 1], pa.uint64(), None),
    "float": ([-0.0, 1.5], pa.float32(), (0.0, 1.5)),
    "only NaN": ([NAN, NAN], pa.float64(), None),
    "date": ([day(3), day(4)], pa.date32(), (3, 4)),
    "ms": ([dt.datetime(1970, 1, 1, 0, 0, 1)], pa.timestamp("ms"), (1000, 1000)),
    "us": ([dt.datetime(1970, 1, 1, 0, 0, 1)], pa.timestamp("us", "UTC"), (1_000_000, 1_000_000)),
    "ns": ([dt.datetime(1970, 1, 1, 0, 0, 1)], pa.timestamp("ns"), (10**9, 10**9)),
    "string": (["z", "ä"], pa.string(), (b"z", "ä".encode())),
    "boolean": ([True, False], pa.bool_(), None),
    "time": ([dt.time(1)], pa.time64("us"), None),
    "binary": ([b"a"], pa.binary(), None),
    "decimal": ([1], pa.decimal128(5, 2), None),
}


@pytest.mark.parametrize("name", VALUES)
def test_bounds_are_read_by_type_or_not_at_all(name: str) -> None:
    values, kind, expected = VALUES[name]
    out = io.BytesIO()
    pq.write_table(pa.table({"a": pa.array(values, kind)}), out)
    data = out.getvalue()
    length = footer_length(data)
    footer = Footer(data[-TRAILER - length : -TRAILER], data_end=len(data) - TRAILER - length)
    got = bounds(footer.statistics(0, "a"), pl.read_parquet(data).schema["a"])
    assert got is not None
    assert (got.low, got.high) == (expected or (None, None))


def test_a_version_1_file_whose_unit_differs_from_its_arrow_schema_is_not_misread(tmp_path: Any) -> None:
    # parquet 1.0 has no nanoseconds: the ticks of the bounds are microseconds
    when = pa.array([dt.datetime(2020, 1, k) for k in range(1, 31)], pa.timestamp("ns"))
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": when}), path, version="1.0", row_group_size=10)
    filter_ = pl.col("a") >= dt.datetime(2020, 1, 25)
    got = scan_external([f"file://{path}"], format="parquet").filter(filter_).collect()
    assert got.equals(pl.scan_parquet(path).filter(filter_).collect())
    assert got.height == 6


@pytest.mark.parametrize("text", ["\U0010ffff" * 40, "a" * 100, "\xff" * 65])
def test_truncated_string_bounds_lose_no_row(text: str, tmp_path: Any) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"a": [text, text + "a"]}).write_parquet(path)
    for filter_ in (pl.col("a") == text, pl.col("a") > text, pl.col("a") >= text, pl.col("a") <= text):
        got = scan_external([f"file://{path}"], format="parquet").filter(filter_).collect()
        assert got.equals(pl.read_parquet(path).filter(filter_))
        assert got.height >= 1
