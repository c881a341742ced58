"""Names of types in other tools."""

from __future__ import annotations

import polars as pl
import pytest

from lazypipe.contracts.types import from_physical, from_python, logical, strftime


@pytest.mark.parametrize(
    ("written", "dtype"),
    [
        ("character varying(20)", "String"),
        ("double precision", "Float64"),
        ("TIMESTAMP WITH TIME ZONE", "Datetime(us, UTC)"),
        ("timestamp(6) without time zone", "Datetime(us)"),
        ("NUMERIC(38)", "Decimal(38, 0)"),
        ("NUMBER", None),
        ("decimal(99, 2)", None),
        ("decimal(2, 5)", None),
        ("text[]", "List(String)"),
        ("geometry[]", None),
        ("", None),
        ("list<x>", None),
        ("Enum(a, b)", "Enum(a, b)"),
        ("interval", "Duration(us)"),
    ],
)
def test_types_of_databases(written: str, dtype: str | None) -> None:
    assert from_physical(written) == dtype


@pytest.mark.parametrize(
    ("written", "dtype"),
    [
        ("LongType()", "Int64"),
        ("DecimalType(10,2)", "Decimal(10, 2)"),
        ("datetime64[ns]", "Datetime(ns)"),
        ("UInt8Dtype", "UInt8"),
        ("float", "Float64"),
        ("TIMESTAMP_TZ", "Datetime(us, UTC)"),
        ("object", None),
    ],
)
def test_types_of_python(written: str, dtype: str | None) -> None:
    assert from_python(written) == dtype


@pytest.mark.parametrize(
    ("jdk", "found"),
    [
        ("yyyy-MM-ddTHH:mm:ssZ", "%Y-%m-%dT%H:%M:%S%z"),
        ("dd/MM/yy hh:mm a", "%d/%m/%y %I:%M %p"),
        ("'it''s' yyyy 100%", "it's %Y 100%%"),
        ("HH''mm", "%H'%M"),
        ("ss.SSSS", None),
        ("M/d", None),
    ],
)
def test_formats_of_dates(jdk: str, found: str | None) -> None:
    assert strftime(jdk) == found


@pytest.mark.parametrize(
    ("dtype", "found"),
    [
        (pl.Enum(["a"]), ("string", {})),
        (pl.Date(), ("date", {})),
        (pl.Time(), ("time", {})),
        (pl.Datetime("ms"), ("timestamp", {})),
        (pl.Boolean(), ("boolean", {})),
        (pl.Array(pl.Int8(), 2), ("array", {})),
        (pl.Struct({"a": pl.Int8()}), ("object", {})),
        (pl.Float32(), ("number", {"format": "f32"})),
        (pl.Float16(), ("number", {})),
        (pl.Decimal(9, 2), ("number", {})),
        (pl.UInt128(), ("integer", {"format": "u128"})),
        (pl.Int8(), ("integer", {"format": "i8"})),
        (pl.Binary(), (None, {})),
        (pl.Duration("us"), (None, {})),
    ],
)
def test_logical_types(dtype: pl.DataType, found: object) -> None:
    assert logical(dtype) == found
