"""Cells: text read as Polars' readers read it, but never failing, and whatever is lost or changed is told."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.storage.text.cells import Marks, as_text, misfit, parsed, parses, refused, value

WHOLE = [
    "5",
    " 5",
    "\t5",
    "5 ",
    "+5",
    "-5",
    "007",
    "1.0",
    "1e3",
    "0x1F",
    "9223372036854775808",
    "1_000",
    "٣",
    "5.",
    "NaN",
    "-0",
]
WHOLE += ["256", "a", "5\0", "--5", "1,000"]
FLOATS = [
    "1",
    "1.5",
    " 1.5",
    "1.5 ",
    "1e5",
    "1E5",
    "inf",
    "Infinity",
    "-inf",
    "nan",
    "NaN",
    ".5",
    "5.",
    "+1.5",
    "1e400",
    "1e39",
]
FLOATS += ["0x1p3", "1_0", "infinity", "INF", "0.1", "-0.0", "1e-400", "e5", "."]
DATES = [
    "2024-01-31",
    "2024/01/31",
    "31-01-2024",
    "31/01/2024",
    "2024-1-3",
    "20240131",
    "2024-01-31 ",
    "2024-02-30",
    "01/02/2024",
]
DATES += ["2024-01-31T10:00:00", "2024-31-01", "31.01.2024", "today"]
MOMENTS = [
    "2024-01-31T10:00:00",
    "2024-01-31 10:00:00",
    "2024-01-31 10:00",
    "2024-01-31T10:00",
    "2024-01-31",
    "2024/01/31 10:00:00",
]
MOMENTS += [
    "2024-01-31T10:00:00Z",
    "2024-01-31T10:00:00+02:00",
    "2024-01-31 10:00:00+0200",
    "2024-01-31T10:00:00.123456789",
]
MOMENTS += [
    "31-01-2024 10:00:00",
    "2024-01-31 10:00:00.5",
    "2024-01-31 25:00:00",
    "2024-02-30 10:00:00",
    "now",
    "2024-01-31T10:00:00.5Z",
]
DATES += ["2024.01.31", "31.1.2024", "31 01 2024"]
MOMENTS += [
    "2024.01.31 10:00:00",
    "31.01.2024 10:00",
    "2024-01-31T100000",
    "20240131T100000",
    "2024-01-31T10",
    "20240131",
]
MOMENTS += ["2024-01-31T10:00+02:00", "2024-01-31T10:00Z", "2024-01-31 10:00:00.5+02:00", "31/01/2024T10:00:00"]
TEXTS: dict[pl.DataType, list[str]] = {
    **dict.fromkeys([pl.Int8(), pl.Int64(), pl.UInt8(), pl.UInt64(), pl.Int128()], WHOLE),
    **dict.fromkeys([pl.Float32(), pl.Float64()], FLOATS),
    pl.Boolean(): ["true", "false", "True", "TRUE", "t", "1", "0", "yes", " true"],
    pl.Date(): DATES,
    pl.Time(): ["10:00", "10:00:00", "10:00:00.5", "25:00:00", "10:00:00.123456789", "10"],
    **dict.fromkeys([pl.Datetime("ms"), pl.Datetime("us"), pl.Datetime("ns")], MOMENTS),
    **dict.fromkeys([pl.Datetime("us", "UTC"), pl.Datetime("us", "Europe/Berlin")], MOMENTS),
    pl.Decimal(10, 2): ["1.5", "1.555", "123456789.5", "1e3", "1", " 1.5", "a"],
    pl.Enum(["a", "b"]): ["a", "c", " a"],
    pl.Categorical(): ["a", "c"],
}


def soft(text: str | None, dtype: pl.DataType, *more: Any) -> tuple[Any, bool]:
    frame = pl.LazyFrame({"x": [text]}, schema={"x": pl.String})
    made = value(pl.col("x"), pl.String(), dtype, *more)
    found = frame.select(value=made, bad=misfit(pl.col("x"), made, pl.String(), dtype, *more))
    result, bad = found.collect(engine="streaming").row(0)
    return result, bool(bad)


def strict(folder: Path, text: str, dtype: pl.DataType) -> tuple[Any, bool]:
    """What Polars' reader of CSV says of one cell: its value, and whether it took it."""
    (folder / "one.csv").write_text(f"x|y\n{text}|1\n")
    scan = pl.scan_csv(folder / "one.csv", schema={"x": dtype, "y": pl.Int64()}, separator="|")
    try:
        return scan.collect(engine="streaming")["x"].item(), True
    except pl.exceptions.PolarsError:
        return None, False


@pytest.mark.parametrize(("dtype", "text"), [(d, t) for d, texts in TEXTS.items() for t in texts])
def test_text_is_read_as_the_reader_reads_it(tmp_path: Path, dtype: pl.DataType, text: str) -> None:
    expected, taken = strict(tmp_path, text, dtype)
    taken = taken and (text, dtype) != ("1.555", pl.Decimal(10, 2))  # the reader rounds it
    found, bad = soft(text, dtype)
    assert (repr(found), bad) == (repr(expected), not taken)


@pytest.mark.parametrize("text", ["24-01-31", "1-2-3", "24/01/31"])
@pytest.mark.parametrize("dtype", [pl.Date(), pl.Datetime("us")])
def test_a_year_has_four_digits(text: str, dtype: pl.DataType) -> None:
    assert soft(text, dtype) == (None, True)


@pytest.mark.parametrize("dtype", [d for d in TEXTS if not isinstance(d, pl.Enum | pl.Categorical)])
def test_an_empty_text_is_null_and_no_misfit(dtype: pl.DataType) -> None:
    assert soft("", dtype) == (None, False)
    assert soft(None, dtype) == (None, False)


def test_an_empty_text_is_no_category_unless_it_is_one() -> None:
    assert soft("", pl.Enum(["a"])) == (None, True)
    assert soft("", pl.Enum(["a", ""])) == ("", False)


def test_a_decimal_comma() -> None:
    comma = Marks(decimal_comma=True)
    assert soft("1,5", pl.Float64(), comma) == (1.5, False)
    assert soft("1,5", pl.Decimal(5, 1), comma) == (Decimal("1.5"), False)
    assert soft("1,5", pl.Int64(), comma) == (None, True)
    assert soft("1.234", pl.Float64(), comma) == (None, True)


@given(st.lists(st.one_of(st.binary(max_size=6), st.text(max_size=3).map(str.encode)), min_size=1, max_size=30))
def test_bytes_are_text_where_they_are_utf8(cells: list[bytes]) -> None:
    def text(cell: bytes) -> str | None:
        try:
            return cell.decode()
        except UnicodeDecodeError:
            return None

    made = value(pl.col("x"), pl.Binary(), pl.String())
    found = pl.LazyFrame({"x": [*cells, *SURROGATES, None]}).select(
        value=made, bad=misfit(pl.col("x"), made, pl.Binary(), pl.String())
    )
    expected = [(text(c), text(c) is None) for c in (*cells, *SURROGATES)]
    assert found.collect(engine="streaming").rows() == [*expected, (None, False)]


SURROGATES = [b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xee\x80\x80"]
"""Bytes at the borders of what is UTF-8."""


@pytest.mark.parametrize(
    ("marks", "text", "value"),
    [
        (Marks(True, "."), "1.234.567,50", 1234567.5),
        (Marks(True, "."), "-1.234", -1234.0),
        (Marks(True, "."), "1234,5", 1234.5),
        (Marks(True, "."), "1.5", None),
        (Marks(True, "."), "1234.567", None),
        (Marks(True, "."), "1.23,4", None),
        (Marks(False, ","), " 12,34,567.25", 1234567.25),
        (Marks(False, ","), "1,5", None),
        (Marks(False, ","), "1,234,5", None),
        (Marks(False, "'"), "1’234.5", 1234.5),
        (Marks(True, " "), "1\u202f234,5", 1234.5),
        (Marks(False, "_"), "1_000", 1000.0),
        (Marks(False, ","), "1e3", 1000.0),
    ],
)
def test_marks_for_thousands(marks: Marks, text: str, value: float | None) -> None:
    assert soft(text, pl.Float64(), marks) == (value, value is None)
    if value is not None and value.is_integer() and "e" not in text:
        assert soft(text, pl.Int32(), marks) == (int(value), False)
    assert not Marks().told_by(pl.Int64())
    assert soft("1,5", pl.Float64()) == (None, True)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("1.50", True),
        ("1.5000", True),
        ("1.501", False),
        ("-0.005", False),
        ("15e-1", True),
        ("1.5e-2", False),
        ("1E2", True),
    ],
)
def test_a_decimal_with_more_digits_than_its_type_does_not_fit(text: str, fits: bool) -> None:
    assert soft(text, pl.Decimal(9, 2))[1] is not fits
    assert soft(text.replace(".", ","), pl.Decimal(9, 2), Marks(decimal_comma=True))[1] is not fits


def test_nanoseconds_do_not_wrap_around() -> None:
    assert soft("3000-01-01 00:00:00", pl.Datetime("ns")) == (None, True)
    frame = pl.DataFrame({"x": ["2024-01-31 10:00:00.123456789"]})
    assert frame.select(parsed(pl.col("x"), pl.Datetime("ns")).dt.nanosecond()).item() == 123456789


@pytest.mark.parametrize("dtype", [pl.String(), pl.Binary(), pl.List(pl.Int64()), pl.Duration("us"), pl.Null()])
def test_what_text_is_not_parsed_into(dtype: pl.DataType) -> None:
    assert not parses(dtype)


@given(st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers(number: int) -> None:
    assert soft(str(number), pl.Int64()) == (number, False)


@given(st.datetimes(dt.datetime(1000, 1, 1), dt.datetime(9999, 12, 31)))
def test_moments(moment: dt.datetime) -> None:
    assert soft(moment.isoformat(), pl.Datetime("us")) == (moment, False)
    assert soft(moment.isoformat(" ", "seconds"), pl.Datetime("us")) == (moment.replace(microsecond=0), False)
    assert soft(moment.date().isoformat(), pl.Date()) == (moment.date(), False)


# values of other types


@pytest.mark.parametrize(
    ("given", "source", "target", "expected", "bad"),
    [
        (5, pl.Int64(), pl.Int8(), 5, False),
        (300, pl.Int64(), pl.Int8(), None, True),
        (-1, pl.Int64(), pl.UInt64(), None, True),
        (1.0, pl.Float64(), pl.Int64(), 1, False),
        (1.5, pl.Float64(), pl.Int64(), 1, True),
        (float("nan"), pl.Float64(), pl.Int64(), None, True),
        (float("inf"), pl.Float64(), pl.Int64(), None, True),
        (2**53, pl.Int64(), pl.Float64(), float(2**53), False),
        (2**53 + 1, pl.Int64(), pl.Float64(), float(2**53), True),
        (0.5, pl.Float64(), pl.Float32(), 0.5, False),
        (float("nan"), pl.Float64(), pl.Float32(), None, False),
        (float("inf"), pl.Float64(), pl.Float32(), float("inf"), False),
        (1e300, pl.Float64(), pl.Float32(), float("inf"), True),
        (2, pl.Int64(), pl.Boolean(), True, True),
        (1, pl.Int64(), pl.Boolean(), True, False),
        (True, pl.Boolean(), pl.Int64(), 1, False),
        (dt.datetime(2024, 1, 1), pl.Datetime("us"), pl.Date(), dt.date(2024, 1, 1), False),
        (dt.datetime(2024, 1, 1, 5), pl.Datetime("us"), pl.Date(), dt.date(2024, 1, 1), True),
        (dt.date(2024, 1, 1), pl.Date(), pl.Datetime("us"), dt.datetime(2024, 1, 1), False),
        (dt.datetime(3000, 1, 1), pl.Datetime("us"), pl.Datetime("ns"), None, True),
        (dt.datetime(2024, 1, 1, 0, 0, 0, 1), pl.Datetime("us"), pl.Datetime("ms"), dt.datetime(2024, 1, 1), True),
        (Decimal("1.25"), pl.Decimal(5, 2), pl.Decimal(5, 1), None, True),
        (Decimal("1.50"), pl.Decimal(5, 2), pl.Decimal(5, 1), Decimal("1.5"), False),
        ("five", pl.String(), pl.Int64(), None, True),
        ("2024-01-31", pl.String(), pl.Date(), dt.date(2024, 1, 31), False),
        ("x", pl.Categorical(), pl.Int64(), None, True),
        (5, pl.Int64(), pl.String(), "5", False),
        (None, pl.Float64(), pl.Int64(), None, False),
        (dt.time(1, 2, 3), pl.Time(), pl.String(), "01:02:03", False),
        (Decimal("99999999.99"), pl.Decimal(10, 2), pl.Float32(), None, True),
        (2.0**60, pl.Float64(), pl.Decimal(20, 4), None, True),
        (2.5, pl.Float64(), pl.Decimal(20, 4), Decimal("2.5000"), False),
        ([1, None], pl.List(pl.Int64()), pl.List(pl.Int8()), [1, None], False),
        ([300], pl.List(pl.Int64()), pl.List(pl.Int8()), None, True),
        ([[300]], pl.List(pl.List(pl.Int64())), pl.List(pl.List(pl.Int8())), None, True),
        ([1.5], pl.List(pl.Float64()), pl.List(pl.Int64()), None, True),
        (["a"], pl.List(pl.String()), pl.List(pl.Int64()), None, True),
        ([1.1], pl.List(pl.Float64()), pl.List(pl.Float32()), [1.100000023841858], False),
        ([dt.date(2024, 1, 1)], pl.List(pl.Date()), pl.List(pl.String()), ["2024-01-01"], False),
        ([{"x": 300}], pl.List(pl.Struct({"x": pl.Int64()})), pl.List(pl.Struct({"x": pl.Int8()})), None, True),
        ({"x": 1}, pl.Struct({"x": pl.Int64()}), pl.Struct({"x": pl.Int8(), "y": pl.Int8()}), {"x": 1, "y": None}, False),
        ({"x": 300}, pl.Struct({"x": pl.Int64()}), pl.Struct({"x": pl.Int8()}), None, True),
        ({"x": 1, "y": 2}, pl.Struct({"x": pl.Int8(), "y": pl.Int8()}), pl.Struct({"x": pl.Int8()}), None, True),
        ({"x": 1, "y": None}, pl.Struct({"x": pl.Int8(), "y": pl.Int8()}), pl.Struct({"x": pl.Int8()}), {"x": 1}, False),
    ],
)  # fmt: skip
def test_a_value_that_was_changed_is_told(
    given: Any, source: pl.DataType, target: pl.DataType, expected: Any, bad: bool
) -> None:
    frame = pl.LazyFrame({"x": [given]}, schema={"x": source})
    made = value(pl.col("x"), source, target)
    lost = misfit(pl.col("x"), made, source, target)
    result, found = frame.select(value=made, bad=lost).collect(engine="streaming").row(0)
    assert bool(found) is bad
    if not bad and not isinstance(given, float):
        assert result == expected


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (pl.Int64(), pl.Float64(), False),
        (pl.String(), pl.Int64(), False),
        (pl.String(), pl.Time(), False),
        (pl.List(pl.Int64()), pl.Date(), True),
        (pl.Struct({"a": pl.Int64()}), pl.Int64(), True),
        (pl.Binary(), pl.Int64(), True),
        (pl.Null(), pl.Int64(), False),
        (pl.Null(), pl.List(pl.Int64()), False),
        # a number is no moment, a moment no time of day, one value not several
        (pl.Int64(), pl.Datetime("ms"), True),
        (pl.Datetime("us"), pl.Float64(), True),
        (pl.Float64(), pl.Time(), True),
        (pl.Boolean(), pl.Date(), True),
        (pl.Datetime("us"), pl.Time(), True),
        (pl.Time(), pl.Duration("us"), True),
        (pl.String(), pl.Duration("us"), True),
        (pl.Duration("ms"), pl.Duration("us"), False),
        (pl.Date(), pl.Datetime("us"), False),
        (pl.Decimal(10, 2), pl.Boolean(), True),
        (pl.Int64(), pl.List(pl.Int64()), True),
        (pl.Int64(), pl.Struct({"x": pl.Int64()}), True),
        (pl.Struct({"x": pl.Int64()}), pl.String(), True),
        (pl.Struct({"x": pl.Int64()}), pl.Struct({"y": pl.Int64()}), True),
        (pl.Struct({"x": pl.Int64()}), pl.Struct({"x": pl.Date()}), True),
        (pl.List(pl.Int64()), pl.List(pl.Date()), True),
        (pl.Array(pl.Int64(), 1), pl.Int64(), True),
        (pl.Int64(), pl.Array(pl.Int64(), 1), True),
        (pl.Array(pl.Int64(), 1), pl.Array(pl.Int8(), 1), False),
        (pl.Array(pl.Int64(), 1), pl.Array(pl.Int64(), 2), True),
        (pl.Array(pl.Int64(), 1), pl.List(pl.Int64()), False),
        (pl.List(pl.Int64()), pl.Array(pl.Int64(), 1), True),
    ],
)
def test_what_never_becomes_another(source: pl.DataType, target: pl.DataType, expected: bool) -> None:
    assert refused(source, target) is expected


@pytest.mark.parametrize(
    ("given", "source", "expected"),
    [
        ("a", pl.String(), "a"),
        (1.5, pl.Float64(), "1.5"),
        (b"\xff\x00", pl.Binary(), r"\xff00"),
        (True, pl.Boolean(), "true"),
        (dt.datetime(2024, 1, 1, 5), pl.Datetime("us"), "2024-01-01 05:00:00.000000"),
        ("a", pl.Categorical(), "a"),
        ("a", pl.Enum(["a"]), "a"),
        (None, pl.Int64(), None),
    ],
)
def test_values_as_text(given: Any, source: pl.DataType, expected: str | None) -> None:
    frame = pl.LazyFrame({"x": [given]}, schema={"x": source})
    assert frame.select(as_text(pl.col("x"), source)).collect(engine="streaming").item() == expected


@pytest.mark.parametrize(
    ("given", "source"), [([1, None], pl.List(pl.Int64())), ({"a": 1}, pl.Struct({"a": pl.Int64()}))]
)
def test_nested_values_as_text(given: Any, source: pl.DataType) -> None:
    frame = pl.LazyFrame({"x": [given]}, schema={"x": source})
    found = frame.select(as_text(pl.col("x"), source)).collect(engine="streaming").item()
    assert json.loads(found) == {"value": given}
