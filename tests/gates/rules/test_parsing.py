"""The rules parseable and is_type: what each kind of text is, lossless ways between types, and naive oracles."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

NAN, INF = math.nan, math.inf


def reads(kind: str, form: str | None = None) -> dict[str, Any]:
    return {"parseable": {"column": "a", "as": kind} | ({} if form is None else {"format": form})}


def becomes(name: str) -> dict[str, Any]:
    return {"is_type": {"column": "a", "type": name}}


KINDS: dict[tuple[str, str | None], tuple[list[str], list[str]]] = {
    ("date", None): (
        ["2013-12-31", "2012-02-29", "0001-01-01", "9999-12-31"],
        ["", "2013-12-32", "2013-02-29", "2013-13-01", "2013-00-01", "2013-1-1", " 2013-12-31", "2013-12-31 ", "20131231", "13-12-31",
         "+2013-12-31", "-2013-12-31", "12013-12-31", "2013-12-31T00:00", "2013/12/31", "31.12.2013", "2013- 1- 1", "2013-12-31\n", "２013-12-31"],
    ),
    ("datetime", None): (
        ["2013-12-31T23:59", "2013-12-31 23:59:59", "2013-12-31T23:59:59.123456789", "2013-12-31T00:00Z", "2013-12-31T00:00:00+01:00",
         "2013-12-31T00:00:00.5-0930", "0001-01-01T00:00", "9999-12-31T23:59:59"],
        ["", "2013-12-31", "2013-12-31T", "2013-12-31T24:00", "2013-12-31T23:60", "2013-12-31T23:59:60", "2013-02-29T00:00", "2013-12-31t00:00",
         "2013-12-31  00:00", "2013-12-31T00:00z", "2013-12-31T00:00+1", "2013-12-31T00:00+24:00", "2013-12-31T00:00:00.", "2013-12-31T00:00:00,5",
         "2013-12-31T00:00:00.1234567890", "2013-12-31T0:00", "2013-12-31T00:00 Z", " 2013-12-31T00:00", "2013-12-31T00"],
    ),
    ("time", None): (
        ["00:00", "23:59", "23:59:59", "12:00:00.5", "12:00:00.123456789"],
        ["", "24:00", "12:60", "12:00:60", "1:00", "12", "12:00:00.", "12:00Z", "12:00 PM", " 12:00", "12:00:00.1234567890"],
    ),
    ("integer", None): (
        ["0", "-0", "+5", "007", "9223372036854775807", "-9223372036854775808"],
        ["", "-", "+", "9223372036854775808", "-9223372036854775809", "1.0", "1e3", " 1", "1 ", "1_000", "1,000", "0x1", "--1", "٣", "\0", "1\0"],
    ),
    ("number", None): (
        ["0", "-0.0", "+.5", "5.", "1e3", "1.5E-400", "123456789012345678901234567890", "1.7976931348623157e308"],
        ["", ".", "-", "e5", "1e", "1e+", "nan", "NaN", "inf", "-Infinity", "1e999", " 1", "1 ", "1_0", "1,5", "0x1", "١", "1\0"],
    ),
    ("boolean", None): (["true", "false", "TRUE", "False", "tRuE"], ["", "1", "0", "yes", "t", " true", "true ", "truefalse", "wahr", "ſalse"]),
    ("date", "%d.%m.%Y"): (["31.12.2013", "1.2.2013"], ["", "32.12.2013", "29.02.2013", "2013-12-31", " 31.12.2013", "31. 1.2013", "31.12.2013 ", "31.12.2013x"]),
    ("date", "%d %b %Y"): (["05 Jan 2020", "5 Feb 2020"], ["", "05 Foo 2020", " 05 Jan 2020", "05-Jan-2020", "\t05 Jan 2020"]),
    ("date", "%e.%m.%Y"): ([" 5.12.2013", "15.12.2013"], ["", "35.12.2013"]),
    ("date", "%Y%j"): (["2013365"], ["2013366", ""]),
    ("datetime", "%d.%m.%Y %H:%M"): (["31.12.2013 23:59"], ["", "31.12.2013", "31.12.2013 24:00", "31.12.2013T23:59"]),
    ("datetime", "%d/%m/%y %I:%M:%S %p"): (["31/12/13 11:59:00 PM"], ["31/12/13 13:59:00 PM", "31/12/13 11:59:00"]),
    ("datetime", "%Y-%m-%dT%H:%M:%S%z"): (["2013-12-31T23:59:00+0100"], ["2013-12-31T23:59:00", "2013-12-31T23:59:00+xx"]),
    ("datetime", "%s"): (["1388534339"], ["", "x", " 1388534339"]),
    ("time", "%H.%M"): (["23.59", "1.05"], ["", "24.00", "23:59", " 1.05"]),
    ("time", "%I:%M %p"): (["11:59 PM"], ["13:00 PM", "11:59"]),
    ("number", "1234.56"): (["1", "-1.5", "+1234.56"], ["", "1,5", ".5", "5.", "1e3", "1,234.56", " 1"]),
    ("number", "1234,56"): (["1", "-1,5"], ["", "1.5", "1.234,56", "1,"]),
    ("number", "1,234.56"): (["1", "1234.5", "1,234.56", "-12,345,678"], ["", "1,23.45", "1234,567", "1,234,56", ",234", "1.234,56"]),
    ("number", "1.234,56"): (["1", "1234,5", "1.234,56"], ["", "1.23,45", "1,234.56", "1.2345"]),
    ("number", "1 234,56"): (["1", "1 234,56", "1\u00a0234", "1\u202f234"], ["", "1  234", "12 34", "1.234"]),
    ("number", "1'234.56"): (["1", "1'234.56", "1’234"], ["", "1'23", "1,234"]),
}  # fmt: skip


@pytest.mark.parametrize("case", range(len(KINDS)), ids=[f"{k} {f}" for k, f in KINDS])
def test_readable_texts(violations: Any, case: int) -> None:
    kind, form = [*KINDS][case]
    good, bad = KINDS[kind, form]
    assert violations([*good, None], reads(kind, form)) == [False] * (len(good) + 1)
    assert violations([*bad, None], reads(kind, form)) == [True] * len(bad) + [False]
    assert violations([good[0], bad[-1], None], reads(kind, form), dtype=pl.Categorical) == [False, True, False]
    assert violations([None, None], reads(kind, form), dtype=pl.Null) == [False, False]
    assert violations([], reads(kind, form), dtype=pl.String) == []


def is_date(text: str) -> bool:
    return _fits(r"\d{4}-\d\d-\d\d", text, date.fromisoformat)


def is_time(text: str) -> bool:
    return _fits(r"\d\d:\d\d(:\d\d(\.\d{1,9})?)?", text, lambda t: time.fromisoformat(t[:15]))


def is_datetime(text: str) -> bool:
    found = re.fullmatch(r"(.{10})[T ](.+?)(Z|[+-]\d\d:?\d\d)?", text, re.DOTALL)
    offset = found[3] if found and found[3] and found[3] != "Z" else "+00:00"
    return bool(found) and is_date(found[1]) and is_time(found[2]) and is_time(f"{offset[1:3]}:{offset[-2:]}")


def is_number(text: str) -> bool:
    form = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
    return re.fullmatch(form, text, re.ASCII) is not None and math.isfinite(float(text))


def is_integer(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", text, re.ASCII) is not None and -(2**63) <= int(text) < 2**63


def _fits(form: str, text: str, read: Any) -> bool:
    if re.fullmatch(form, text, re.ASCII) is None:
        return False
    try:
        read(text)
    except ValueError:
        return False
    return True


stamps = st.dates(date(1, 1, 1)).map(str) | st.datetimes().map(str) | st.times().map(str)
pieces = st.lists(
    st.sampled_from(["2013", "12", "31", "02", "29", "-", ":", "T", " ", ".", "5", "Z", "+01:00", "e", "\n"]),
    max_size=12,
)
broken = st.tuples(stamps, st.integers(0, 25), st.sampled_from(["", "0", "-", ":", " ", "9", "T", "x"])).map(
    lambda x: x[0][: x[1]] + x[2] + x[0][x[1] + 1 :]
)
numeric = st.text("0123456789+-.eE_ ", max_size=6) | st.integers(-(2**65), 2**65).map(str) | st.floats().map(str)


@given(st.lists(st.none() | stamps | broken | pieces.map("".join) | numeric, max_size=15))
def test_readable_equals_the_oracle(violations: Any, values: list[str | None]) -> None:
    # the calendar of Python starts in the year 1
    values = [v for v in values if v is None or not v.startswith("0000")]
    for kind, oracle in (
        ("date", is_date),
        ("datetime", is_datetime),
        ("time", is_time),
        ("integer", is_integer),
        ("number", is_number),
        ("boolean", lambda t: t.lower() in ("true", "false")),
    ):
        found = violations(values, reads(kind), dtype=pl.String)
        assert found == [v is not None and not oracle(v) for v in values], kind


@given(
    st.lists(st.none() | st.datetimes(datetime(1000, 1, 1)), max_size=10),
    st.sampled_from(["%d.%m.%Y %H:%M:%S", "%Y%m%d%H%M%S", "%F %T", "%m/%d/%Y %I:%M:%S %p"]),
)
def test_what_a_format_wrote_can_be_read(violations: Any, values: list[datetime | None], form: str) -> None:
    texts = [None if v is None else v.strftime(form) for v in values]
    assert violations(texts, reads("datetime", form), dtype=pl.String) == [False] * len(texts)
    cut = [None if t is None else t[:-1] + "x" for t in texts]
    assert violations(cut, reads("datetime", form), dtype=pl.String) == [t is not None for t in texts]


@pytest.mark.parametrize(
    ("kind", "form", "message"),
    [
        ("dates", None, "unknown as 'dates'; did you mean 'date'?"),
        ("integer", "%d", "there is no format of integers; remove it"),
        ("boolean", "yes", "there is no format of booleans; remove it"),
        ("number", "1.234.56", "unknown format '1.234.56'; did you mean '1234.56'?"),
        *(
            (kind, form, f"{form!r} is not a format of a {kind}; write one such as %d.%m.%Y, %d.%m.%Y %H:%M or %H:%M:%S")
            for kind, form in [
                ("date", "%Q"), ("date", "%H:%M"), ("date", "DD.MM.YYYY"), ("date", "%"), ("datetime", "%A"), ("datetime", "iso"),
                ("time", "%Y"), ("time", "%H"), ("datetime", "%I:%M"),
            ]
        ),
    ],
)  # fmt: skip
def test_what_is_no_kind_or_format(refusal: Any, kind: str, form: str | None, message: str) -> None:
    assert refusal(pl.DataFrame(schema={"a": pl.String}), reads(kind, form)) == message


# is_type

LOSSLESS: list[tuple[Any, str, list[Any], list[Any]]] = [
    # of type, to type, values that survive, values that do not
    (pl.Int64, "Int64", [1, 2**63 - 1], []),
    (pl.Int64, "Int8", [-128, 127], [-129, 128]),
    (pl.Int64, "UInt64", [0, 2**63 - 1], [-1]),
    (pl.UInt64, "Int64", [2**63 - 1], [2**63]),
    (pl.Int64, "Float64", [2**53, -(2**53)], [2**53 + 1, 2**63 - 1]),
    (pl.Int64, "Float32", [2**24], [2**24 + 1]),
    (pl.Int64, "Decimal(4, 2)", [99, -99], [100]),
    (pl.Float64, "Int64", [1.0, -0.0, 2.0**62], [1.5, NAN, INF, -INF, 1e19, 2.0**63]),
    (pl.Float64, "Float32", [0.5, NAN, INF, -0.0], [0.1, 1e300]),
    (pl.Float32, "Float64", [0.1, NAN], []),
    (pl.Float64, "Decimal(10, 2)", [0.1, 1234.56], [0.125, NAN, INF, 1e300]),
    (pl.Decimal(10, 2), "Int8", [Decimal("1.00")], [Decimal("1.01"), Decimal(300)]),
    (pl.Decimal(10, 2), "Decimal(10, 1)", [Decimal("1.10")], [Decimal("1.11")]),
    (pl.Date, "Datetime(us)", [date(1, 1, 1), date(9999, 12, 31)], []),
    (pl.Date, "Datetime(ns)", [date(2020, 1, 1)], [date(9999, 12, 31)]),
    (pl.Datetime("us"), "Date", [datetime(2020, 1, 1), datetime(1, 1, 1)], [datetime(2020, 1, 1, 1)]),
    (pl.Datetime("us"), "Datetime(ms)", [datetime(2020, 1, 1, 0, 0, 0, 1000)], [datetime(2020, 1, 1, 0, 0, 0, 1)]),
    (pl.Datetime("us", "UTC"), "Datetime(us, Europe/Berlin)", [datetime(2020, 1, 1, tzinfo=UTC)], []),
    (pl.Duration("us"), "Duration(ms)", [timedelta(seconds=1)], [timedelta(microseconds=1)]),
    (pl.Duration("us"), "Duration(ns)", [timedelta(seconds=1)], [timedelta(days=200_000)]),
    (pl.String, "String", ["", "x"], []),
    (pl.String, "Categorical", ["", "x"], []),
    (pl.String, "Enum(low, high)", ["low"], ["mid", ""]),
    (pl.Categorical, "String", ["x"], []),
    (pl.Enum(["a", "b"]), "Enum(a)", ["a"], ["b"]),
    (pl.String, "Int64", ["7", "-0", "+5", "007"], ["", "x", "1.0", "9223372036854775808", " 1"]),
    (pl.String, "UInt8", ["255", "0"], ["256", "-1"]),
    (pl.String, "Int128", [str(2**127 - 1)], [str(2**127)]),
    (pl.Categorical, "Int8", ["7"], ["300"]),
    (pl.String, "Float64", ["1e300", "0.1", ".5"], ["nan", "inf", "1e999", ""]),
    (pl.String, "Float32", ["1e30", "0.1"], ["1e300"]),
    (pl.String, "Float16", ["1.5"], ["1e6"]),
    (pl.String, "Boolean", ["true", "FALSE"], ["1", ""]),
    (pl.String, "Decimal(4, 2)", ["99.99", "-1", "+0.5", "0099.9900", "1."], ["100", "0.999", "", ".5", "1e1", "x", "."]),
    (pl.String, "Decimal(2, 2)", ["0.99", "00.5"], ["1.00", "1", "10"]),
    (pl.String, "Decimal(3, 0)", ["999", "999.0"], ["1000", "0.5"]),
    (pl.String, "Date", ["2020-02-29"], ["2019-02-29", "20200229"]),
    (pl.String, "Time", ["12:30"], ["24:00"]),
    (pl.String, "Datetime(us)", ["2020-01-01T00:00"], ["2020-01-01T00:00Z", "2020-01-01", "2020-13-01T00:00"]),
    (pl.String, "Datetime(us, UTC)", ["2020-01-01T00:00Z", "2020-01-01 00:00:00+02:00"], ["2020-01-01T00:00"]),
    (pl.List(pl.Int8), "List(Int8)", [[1], []], []),
    (pl.Null, "Int64", [None], []),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(LOSSLESS)), ids=[f"{c[0]}-{c[1]}" for c in LOSSLESS])
def test_lossless_ways(violations: Any, case: int) -> None:
    dtype, name, good, bad = LOSSLESS[case]
    found = violations([*good, *bad, None], becomes(name), dtype=dtype)
    assert found == [False] * len(good) + [True] * len(bad) + [False]
    assert violations([], becomes(name), dtype=dtype) == []


@given(st.lists(st.none() | st.floats() | st.integers(-(2**65), 2**65).map(float), max_size=20))
def test_floats_that_are_integers_equal_the_oracle(violations: Any, values: list[float | None]) -> None:
    def whole(value: float, least: int, most: int) -> bool:
        return math.isfinite(value) and value == int(value) and least <= value <= most

    for name, least, most in (("Int64", -(2**63), 2**63 - 1), ("UInt8", 0, 255)):
        expected = [v is not None and not whole(v, least, most) for v in values]
        assert violations(values, becomes(name), dtype=pl.Float64) == expected


@given(st.lists(st.none() | st.text("0123456789.+- ", max_size=8), max_size=20))
def test_decimals_in_text_equal_the_oracle(violations: Any, values: list[str | None]) -> None:
    def fits(text: str) -> bool:
        if re.fullmatch(r"[+-]?\d+(\.\d*)?", text) is None:
            return False
        cents = Fraction(Decimal(text)) * 100
        return cents.denominator == 1 and abs(cents) < 10**5

    expected = [v is not None and not fits(v) for v in values]
    assert violations(values, becomes("Decimal(5, 2)"), dtype=pl.String) == expected


@pytest.mark.parametrize(
    ("dtype", "name", "message"),
    [
        (pl.Int64, "Int46", "unknown type 'Int46'; did you mean 'Int64'?"),
        (pl.Int64, "String", "column 'a' is Int64, and never String; write Int64, or cast the column first"),
        (pl.List(pl.Int8), "Int8", "column 'a' is List(Int8), and never Int8; write List(Int8), or cast the column first"),
        (pl.Boolean, "Int8", "column 'a' is Boolean, and never Int8; write Boolean, or cast the column first"),
        (pl.Datetime("us"), "Datetime(us, UTC)", "column 'a' is Datetime(us), and never Datetime(us, UTC); write Datetime(us), or cast the column first"),
        (pl.Datetime("us", "UTC"), "Date", "column 'a' is Datetime(us, UTC), and never Date; write Datetime(us, UTC), or cast the column first"),
        (pl.Object, "Int8", "column 'a' is Object, and never Int8; write Object, or cast the column first"),
        (pl.String, "Duration(us)", "text cannot be read as Duration(us); name another type"),
        (pl.String, "List(String)", "text cannot be read as List(String); name another type"),
    ],
)  # fmt: skip
def test_no_way_between_types(refusal: Any, dtype: Any, name: str, message: str) -> None:
    assert refusal(pl.DataFrame(schema={"a": dtype}), becomes(name)) == message
    if "unknown" not in message:
        assert refusal(pl.DataFrame(schema={"b": dtype}), becomes(name)) == "unknown column 'a'; known columns: b"
