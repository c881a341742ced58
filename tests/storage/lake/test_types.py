"""Types against those that deltalake takes the same columns for."""

from __future__ import annotations

from typing import Any

import deltalake
import polars as pl
import pytest

from lazypipe.errors import StorageError
from lazypipe.storage.lake.types import is_naive, misfits, schema_string, to_polars

TYPES = {
    "text": pl.String(),
    "long": pl.Int64(),
    "int": pl.Int32(),
    "short": pl.Int16(),
    "byte": pl.Int8(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "ok": pl.Boolean(),
    "raw": pl.Binary(),
    "day": pl.Date(),
    "seen": pl.Datetime("us"),
    "at": pl.Datetime("us", "UTC"),
    "price": pl.Decimal(12, 2),
    "list": pl.List(pl.List(pl.Int64)),
    "inner": pl.Struct({"a": pl.Int64, "b": pl.List(pl.Struct({"c": pl.Decimal(38, 0)}))}),
    "map": pl.Map(pl.String, pl.Struct({"d": pl.Date})),
}


def test_columns_as_deltalake_reads_and_writes_them() -> None:
    text = schema_string(TYPES)
    theirs = deltalake.Schema.from_json(text)
    assert pl.Schema(to_polars(theirs.to_json(), "memory://t")) == pl.Schema(TYPES)
    assert not [*misfits(TYPES, ["day", "text"])]
    again = deltalake.Schema.from_arrow(pl.DataFrame(schema=TYPES).to_arrow().schema)
    assert to_polars(again.to_json(), "memory://t") == pl.Schema(TYPES)


def test_what_is_read_as_something_alike() -> None:
    schema = {"kind": pl.Categorical(), "ms": pl.Datetime("ms"), "berlin": pl.Datetime("ms", "Europe/Berlin")}
    assert not [*misfits(schema)]
    assert dict(to_polars(schema_string(schema), "memory://t")) == {
        "kind": pl.String(),
        "ms": pl.Datetime("us"),
        "berlin": pl.Datetime("us", "UTC"),
    }


@pytest.mark.parametrize(
    ("dtype", "fix"),
    [
        (pl.UInt8(), "Int16"),
        (pl.UInt16(), "Int32"),
        (pl.UInt32(), "Int64"),
        (pl.UInt64(), "Int64, or Decimal(20, 0) where values are larger"),
        (pl.Int128(), "Int64 or Decimal(38, 0)"),
        (pl.UInt128(), "Int64 or Decimal(38, 0)"),
        (pl.Float16(), "Float32"),
        (pl.Time(), "String, or Int64 (nanoseconds since midnight)"),
        (pl.Duration("ms"), "Int64 (ms)"),
        (pl.Enum(["a"]), "String"),
        (pl.Datetime("ns", "UTC"), "Datetime(time_unit='us', time_zone='UTC')"),
        (pl.Array(pl.Int64, 2), "List(Int64)"),
        (pl.Struct({}), "a struct with fields"),
        (pl.Null(), "the type that its values would have"),
        (pl.Object(), "a type that Delta has"),
    ],
    ids=str,
)
def test_types_that_delta_lacks(dtype: pl.DataType, fix: str) -> None:
    (found,) = misfits({"x": dtype})
    assert (found.column, found.what, found.fix) == (
        "x",
        f"a Delta table cannot hold column 'x' ({dtype})",
        f"cast it to {fix}",
    )
    (inside,) = misfits({"x": pl.List(pl.Struct({"y": dtype}))})
    assert inside.what == f"a Delta table cannot hold 'x.y' ({dtype}) in column 'x'"


@pytest.mark.parametrize(
    ("schema", "by", "message"),
    [
        (
            {"a b": pl.Int64()},
            [],
            "a Delta table cannot have ' ' in the name of column 'a b'; rename it, such as to 'a_b'",
        ),
        (
            {"a": pl.Struct({"b=c": pl.Int64()})},
            [],
            "a Delta table cannot have '=' in the name of field 'a.b=c'; rename it",
        ),
        (
            {"Id": pl.Int64(), "id": pl.Int64()},
            [],
            "a Delta table cannot tell columns 'Id' and 'id' apart; rename one of them: upper and lower case are the same there",
        ),
        (
            {"x": pl.Float64(), "y": pl.Int64()},
            ["x"],
            "a Delta table cannot have partitions by column 'x' (Float64); choose a column of whole numbers, text or dates",
        ),
        (
            {"x": pl.Int64()},
            ["x"],
            "a Delta table cannot have partitions by all of its columns; leave one of them out of partition_by",
        ),
    ],
)
def test_names_and_partitions(schema: dict[str, Any], by: list[str], message: str) -> None:
    assert [f"{m.what}; {m.fix}" for m in misfits(schema, by)] == [message]


def test_times_without_a_zone() -> None:
    assert is_naive({"x": pl.List(pl.Datetime("us"))})
    assert not is_naive({"x": pl.Datetime("us", "UTC"), "y": pl.Int64()})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"fields":[{"name":"x","type":"variant"}]}', "type 'variant' is not known"),
        ('{"fields":[{"name":"x","type":{"type":"odd"}}]}', "type 'odd' is not known"),
        ("{}", "'fields'"),
    ],
)
def test_columns_that_cannot_be_read(text: str, why: str) -> None:
    with pytest.raises(StorageError) as caught:
        to_polars(text, "memory://t")
    assert str(caught.value) == (
        f"memory://t: the Delta table has columns that cannot be read: {why}; read it with another engine, or upgrade lazypipe"
    )
