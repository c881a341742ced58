"""Names of types: every type that can be written is read back as the same."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lazypipe.spec.types import dtype_from_name, dtype_name

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.text('a,():" \\\n', max_size=4)
PLAIN = [pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Int128, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.UInt128,
         pl.Float16, pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Binary, pl.Date, pl.Time, pl.Categorical, pl.Null]  # fmt: skip
UNITS = st.sampled_from(["ms", "us", "ns"])
ZONES = st.sampled_from([None, "UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"])
LEAVES = (
    st.sampled_from([t() for t in PLAIN])
    | st.builds(pl.Datetime, UNITS, ZONES)
    | st.builds(pl.Duration, UNITS)
    | st.integers(1, 38).flatmap(lambda p: st.builds(pl.Decimal, st.just(p), st.integers(0, p)))
    | st.lists(WORDS, unique=True, max_size=4).map(pl.Enum)
)
TYPES = st.recursive(
    LEAVES,
    lambda inner: (
        inner.map(pl.List)
        | st.builds(pl.Map, inner, inner)
        | st.builds(pl.Array, inner, st.integers(0, 9))
        | st.dictionaries(WORDS, inner, max_size=3).map(pl.Struct)
    ),
    max_leaves=6,
)


@given(TYPES)
@example(pl.Enum(["a, b", "c (d)", '"', "", " ", "e: f", "\\", "plain", "two words"]))
@example(pl.Struct({"a: b": pl.Enum([","]), "": pl.Array(pl.Array(pl.Int8, 2), 3), "Int8": pl.Null()}))
def test_every_type_is_read_back(dtype: pl.DataType) -> None:
    name = dtype_name(dtype)
    assert dtype_from_name(name) == dtype
    assert dtype_name(dtype_from_name(f"  {name} ")) == name


def test_every_plain_type_of_polars_has_a_name() -> None:
    known = {t for t in vars(pl).values() if isinstance(t, type) and issubclass(t, pl.DataType)}
    nested = {pl.Array, pl.Map, pl.List, pl.Struct, pl.Enum, pl.Decimal, pl.Datetime, pl.Duration, pl.Field}
    assert {t.__name__ for t in known - nested - set(PLAIN)} == {"DataType", "Object", "Unknown", "BaseExtension", "Extension"}  # fmt: skip


def test_names_as_people_write_them() -> None:
    written = {
        "INT64": pl.Int64(),
        " bigint ": pl.Int64(),
        "varchar": pl.String(),
        "timestamp": pl.Datetime("us"),
        "Datetime": pl.Datetime("us"),
        "duration": pl.Duration("us"),
        "decimal(10,2)": pl.Decimal(10, 2),
        "Datetime(ns)": pl.Datetime("ns"),
        "datetime( us , UTC )": pl.Datetime("us", "UTC"),
        "list (int)": pl.List(pl.Int64()),
        'Enum(a, "b, c", d e)': pl.Enum(["a", "b, c", "d e"]),
        'Struct(a: Int8, "b:c": List(Struct(x: Enum("("))))': pl.Struct(
            {"a": pl.Int8(), "b:c": pl.List(pl.Struct({"x": pl.Enum(["("])}))}
        ),
    }
    assert {name: dtype_from_name(name) for name in written} == written


def test_names_are_short_where_words_are_plain() -> None:
    dtype = pl.Struct({"a": pl.Enum(["low", "very high", "a,b"]), "b c": pl.Datetime("us", "UTC")})
    assert dtype_name(dtype) == 'Struct(a: Enum(low, very high, "a,b"), b c: Datetime(us, UTC))'


WRONG = {
    "Int46": "unknown type 'Int46'; did you mean 'Int64'?",
    "List(Strng)": "unknown type 'Strng'; did you mean 'String'?",
    "Listt(Int8)": "cannot read the type 'Listt(Int8)'; did you mean 'List'?",
    "Int8(3)": "cannot read the type 'Int8(3)'; known types with arguments: Array, Datetime, Decimal, Duration, Enum, List, Map, Struct",
    "Enum": "the type 'Enum' needs arguments; write it as Enum(low, high)",
    "Enum(a,,b)": "cannot read the type 'Enum(a,,b)'; write it as Enum(low, high)",
    "Enum(a, a)": "cannot read the type 'Enum(a, a)'; write it as Enum(low, high)",
    'Enum("a)': "cannot read the type 'Enum(\"a)'; write it as Enum(low, high)",
    'Enum("a" b)': "cannot read the type 'Enum(\"a\" b)'; write it as Enum(low, high)",
    "Struct(a)": "cannot read the type 'Struct(a)'; write it as Struct(a: Int64, b: String)",
    "Struct(a: Int8, a: Int8)": "cannot read the type 'Struct(a: Int8, a: Int8)'; write it as Struct(a: Int64, b: String)",
    "Decimal(39, 2)": "cannot read the type 'Decimal(39, 2)'; write it as Decimal(10, 2)",
    "Decimal(2, 3)": "cannot read the type 'Decimal(2, 3)'; write it as Decimal(10, 2)",
    "Array(Int8, -1)": "cannot read the type 'Array(Int8, -1)'; write it as Array(Float64, 3)",
    "Array(Int8, 99999999999)": "cannot read the type 'Array(Int8, 99999999999)'; write it as Array(Float64, 3)",
    "Datetime(s)": "cannot read the type 'Datetime(s)'; write it as Datetime(us, UTC)",
    "Datetime(us, Europe/Berlni)": "unknown time zone 'Europe/Berlni'; did you mean 'Europe/Berlin'?",
    "Datetime(us, CEST)": "unknown time zone 'CEST'; write one such as UTC or Europe/Berlin",
    "Datetime(us, Mars)": "unknown time zone 'Mars'; write one such as UTC or Europe/Berlin",
    "List()": "cannot read the type 'List()'; write it as List(Int64)",
    "money": "unknown type 'money'; known types: Array, Binary, Boolean, Categorical, Date, Datetime, Decimal, Duration, Enum, Float16, Float32, Float64 … (42 in all)",
}  # fmt: skip


@pytest.mark.parametrize(("name", "message"), WRONG.items(), ids=list(WRONG))
def test_wrong_names_say_what_to_write(name: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        dtype_from_name(name)
    assert str(caught.value) == message
