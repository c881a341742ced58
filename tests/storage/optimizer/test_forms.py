"""Forms: whatever is written in a form is read back in every bit, whether it fits the form or not."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lazypipe.errors import StorageError
from lazypipe.storage.datasets.data_files import find_odd, scan_files
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit, DataFile
from lazypipe.storage.optimizer.form import Form, literal, scalars
from lazypipe.storage.optimizer.forms import (
    KINDS,
    Cast,
    Coded,
    Constant,
    Determined,
    Flag,
    Hexed,
    Multiple,
    Paged,
    Scaled,
    Template,
    Whole,
    check_forms,
    from_dict,
    odd_columns,
    physical,
    physical_schema,
    restore,
    scan_schema,
)
from lazypipe.storage.optimizer.layout import Layout

NAN = struct.unpack("<d", b"\x01\x00\x00\x00\x00\x00\xf8\xff")[0]
"""Not the NaN that arithmetic makes: it has other bits."""
ODD_FLOATS = [0.0, -0.0, math.nan, NAN, math.inf, -math.inf, 5e-324, 1.7e308, 0.1, 1 / 3, 2.0**53 + 2]
US, NS, UTC_US = pl.Datetime("us"), pl.Datetime("ns"), pl.Datetime("us", "UTC")
BERLIN = pl.Datetime("ms", "Europe/Berlin")

INTS = st.integers(-(2**63), 2**63 - 1) | st.integers(-300, 300)
FLOATS = st.floats(width=64) | st.sampled_from(ODD_FLOATS) | st.integers(-10_000, 10_000).map(lambda n: n / 100)
HEX = "0123456789abcdef"
UUIDS = st.text(HEX, min_size=32, max_size=32).map(lambda t: "-".join([t[:8], t[8:12], t[12:16], t[16:20], t[20:]]))
TEXTS = (
    st.text(max_size=6)
    | st.sampled_from(["", "yes", "no", "new", "a@b", "@", "user7@x3.com", "user07@x3.com", "user7@x3.com\n", "ID-0042", "ID-00042"])
    | st.builds("user{}@x{}.com".format, st.integers(0, 10**20), st.integers(0, 9))
    | UUIDS
    | UUIDS.map(str.upper)
    | UUIDS.map(lambda t: t + "ab")
)  # fmt: skip
TICKS = st.integers(-(2**62), 2**62) | st.integers(-(10**6), 10**6).map(lambda n: n * 86_400_000_000)

CASES: list[tuple[pl.DataType, st.SearchStrategy[Any], Form]] = [
    (pl.Int64(), INTS, Cast(pl.Int8())),
    (pl.Int64(), INTS, Cast(pl.UInt16())),
    (pl.UInt64(), st.integers(0, 2**64 - 1) | st.integers(0, 300), Cast(pl.UInt8())),
    (pl.UInt64(), st.integers(0, 2**64 - 1) | st.integers(0, 300), Whole(pl.Int16())),
    (pl.Int64(), st.integers(-(2**63), 2**63 - 1) | INTS, Paged()),
    (pl.UInt64(), st.integers(0, 2**64 - 1) | st.integers(0, 600), Paged(1 << 16)),
    (BERLIN, st.integers(-(2**40), 2**40), Paged()),
    (pl.Int128(), st.integers(-(2**127), 2**127 - 1) | INTS, Cast(pl.Int64())),
    (pl.Float64(), FLOATS, Cast(pl.Float32())),
    (pl.Float64(), FLOATS, Cast(pl.Int32())),
    (pl.Float64(), FLOATS, Scaled(2, pl.Int32())),
    (pl.Float64(), FLOATS, Scaled(4, pl.Int64())),
    (pl.Float64(), FLOATS | st.integers(-10_000, 10_000).map(lambda n: n * 0.01), Scaled(2, pl.Int32(), product=True)),
    (pl.Decimal(18, 2), st.decimals(-(10**15), 10**15, places=2) | st.decimals(-9, 9, places=1), Whole(pl.Int16(), 10)),
    (pl.Decimal(9, 0), st.integers(-(10**9) + 1, 10**9 - 1).map(Decimal), Whole(pl.Int64())),
    (pl.Float32(), st.floats(width=32), Cast(pl.Int16())),
    (pl.Decimal(38, 4), st.decimals(-10**20, 10**20, places=4) | st.decimals(-9, 9, places=2), Cast(pl.Decimal(9, 2))),
    (US, TICKS, Cast(pl.Date())),
    (NS, TICKS, Cast(pl.Datetime("ms"))),
    (UTC_US, TICKS, Cast(pl.Datetime("ms", "UTC"))),
    (pl.Duration("us"), TICKS, Cast(pl.Duration("ms"))),
    (US, TICKS, Whole(pl.Int32(), 1_000_000)),
    (BERLIN, st.integers(-(2**40), 2**40), Whole(pl.Int32(), 1_000)),
    (pl.Date(), st.integers(-(10**5), 10**5), Whole(pl.Int16(), 7)),
    (pl.Duration("ns"), TICKS, Whole(pl.Int64(), 1_000)),
    (pl.String(), TEXTS, Flag("yes", "no")),
    (pl.String(), TEXTS, Coded(("", "new", "yes"))),
    (pl.String(), TEXTS, Template(("user", "@x", ".com"), ("number", "number"))),
    (pl.String(), TEXTS, Template(("", "@", ""), ("text", "text"))),
    (pl.String(), TEXTS, Template(("ID-", ""), (4,))),
    (pl.String(), TEXTS, Template(("", ""), (12,))),
    (pl.String(), st.integers(-(2**63), 2**65).map(str) | TEXTS, Template(("", ""), ("long",))),
    (pl.String(), st.integers(-(2**63), 2**65).map("user{}@x3.com".format) | TEXTS, Template(("user", "@x3.com"), ("number",))),
    (pl.String(), TEXTS, Hexed((8, 4, 4, 4, 12))),
    (pl.String(), TEXTS, Hexed((32,))),
    (pl.String(), TEXTS, Constant("yes")),
    (pl.Float64(), FLOATS, Constant(-0.0)),
    (pl.Boolean(), st.booleans(), Constant(value=True)),
    (US, TICKS, Constant(0)),
    (pl.Date(), st.integers(-9, 9), Constant(7)),
]  # fmt: skip
NAMES = [f"{form.to_dict()} of {dtype}" for dtype, _, form in CASES]


def series(name: str, values: list[Any], dtype: pl.DataType) -> pl.Series:
    if dtype.is_temporal():
        inside = pl.Int32() if dtype == pl.Date else pl.Int64()
        return pl.Series(name, values, dtype=inside).cast(dtype)
    return pl.Series(name, values, dtype=dtype)


def bits(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    """Return every value so that two are equal only if they are the same."""

    def exact(value: Any) -> Any:
        if isinstance(value, float):
            return struct.pack("<d", value)
        if isinstance(value, list):
            return [exact(v) for v in value]
        if isinstance(value, dict):
            return {k: exact(v) for k, v in value.items()}
        return value

    raw = frame.select(
        pl.col(n).reinterpret(dtype=pl.UInt64) if t == pl.Float64 else pl.col(n) for n, t in frame.schema.items()
    )
    return [tuple(exact(v) for v in row) for row in raw.select(pl.all().to_physical()).iter_rows()]


def through(frame: pl.DataFrame, forms: Mapping[str, Form], path: Path, **how: Any) -> pl.DataFrame:
    physical(frame.lazy(), frame.schema, forms).sink_parquet(path)
    assert pl.read_parquet_schema(path) == physical_schema(frame.schema, forms)
    return restore(pl.scan_parquet(path), frame.schema, forms, **how).collect()


@pytest.mark.parametrize(("dtype", "values", "form"), CASES, ids=NAMES)
def test_what_is_read_is_what_was_written(
    dtype: pl.DataType, values: st.SearchStrategy[Any], form: Form, tmp_path: Path
) -> None:
    @settings(max_examples=max(15, settings().max_examples // 3))
    @given(st.lists(st.none() | values, max_size=20))
    def check(drawn: list[Any]) -> None:
        frame = pl.DataFrame([series("x", drawn, dtype)])
        found = through(frame, {"x": form}, tmp_path / "a.parquet")
        assert found.schema == frame.schema
        assert bits(found) == bits(frame)

    check()


# values that fit each form, so that they do not stand aside; null always fits, but where a file says only whether a value is kept
FITTING: list[tuple[Form, pl.DataType, list[Any]]] = [
    (Cast(pl.Int8()), pl.Int64(), [-128, 127, None]),
    (Cast(pl.Float32()), pl.Float64(), [0.5, -0.0, math.inf, None]),
    (Cast(pl.Int32()), pl.Float64(), [1.0, -7.0]),
    (Cast(pl.Decimal(9, 2)), pl.Decimal(38, 4), [Decimal("1.2500"), Decimal(-3)]),
    (Cast(pl.Date()), US, [0, 86_400_000_000, None]),
    (Cast(pl.Datetime("ms")), NS, [1_000_000, None]),
    (Whole(pl.Int8(), 60), pl.Int64(), [60, -120, None]),
    (Whole(pl.Int32(), 1_000_000), UTC_US, [1_700_000_000_000_000]),
    (Scaled(2, pl.Int32()), pl.Float64(), [n / 100 for n in range(20_000)]),
    (Scaled(3, pl.Int64()), pl.Float64(), [n / 1000 for n in range(10**9, 10**9 + 20_000)]),
    (Scaled(2, pl.Int32(), product=True), pl.Float64(), [n * 0.01 for n in range(20_000)]),
    (Whole(pl.Int32(), 10), pl.Decimal(18, 2), [Decimal("-12.50"), Decimal(0), None]),
    (Template(("", ""), ("long",)), pl.String(), [str(2**64 - 1), "0", None]),
    (Scaled(8, pl.Int32()), pl.Float64(), [n / 10**8 for n in range(-10_000, 0)]),
    (Flag("yes", "no"), pl.String(), ["yes", None, "no"]),
    (Coded(("b", "a")), pl.String(), ["a", "b", None]),
    (Template(("user", "@x", ".com"), ("number", "number")), pl.String(), ["user0@x12.com", None]),
    (Template(("a.(", ")"), ("text",)), pl.String(), ["a.(\n)", "a.(ü)"]),
    (Template(("", "-", ""), (3, 18)), pl.String(), ["007-000000000000000001"]),
    (Hexed((2, 4)), pl.String(), ["0a-1b2c", None]),
    (Hexed((4,)), pl.String(), ["beef"]),
    (Constant("é"), pl.String(), ["é", "é"]),
    (Constant(math.inf), pl.Float64(), [math.inf]),
    (Constant(3), US, [3]),
]


@pytest.mark.parametrize(("form", "dtype", "values"), FITTING, ids=[str(f.to_dict()) for f, _, _ in FITTING])
def test_what_fits_stands_in_its_form_alone(form: Form, dtype: pl.DataType, values: list[Any], tmp_path: Path) -> None:
    frame = pl.DataFrame([series("x", values, dtype)])
    found = through(frame, {"x": form}, tmp_path / "a.parquet", odd=())
    assert bits(found) == bits(frame)
    inside = pl.scan_parquet(tmp_path / "a.parquet").select(odd_columns(["x"])).collect()
    assert inside.row(0) == (False,)


def test_scaled_floats_do_not_depend_on_how_many_rows_are_read_at_once() -> None:
    form = Scaled(2, pl.Int32())
    for number in range(0, 3_000, 7):
        one = pl.DataFrame({"x": [number]}).lazy().select(form.join({"": pl.col("x")}, pl.Float64())).collect()
        assert one.item() == number / 100


def test_a_column_as_the_difference_from_another(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "at": [datetime(2026, 1, 1), None, datetime(2026, 1, 2), datetime(2026, 1, 3)],
            "seen": [datetime(2026, 1, 1, 0, 0, 5), datetime(2026, 1, 5), None, datetime(2026, 1, 3, 0, 0, 0, 1)],
            "n": [1, 2, 3, 2**40],
            "m": [2, 2, None, 2**40 + 1],
        }
    )
    forms = {
        "at": Whole(pl.Int32(), 1_000_000),  # itself in a form: it is read first
        "seen": Whole(pl.Int32(), 1_000_000, base="at"),
        "m": Whole(pl.Int8(), base="n"),
    }
    assert_frame_equal(through(frame, forms, tmp_path / "a.parquet"), frame)
    inside = pl.read_parquet(tmp_path / "a.parquet")
    assert inside["seen"].to_list() == [5, None, None, 0]
    # one has nothing to differ from, the other is no whole second after
    aside = inside["_lazypipe:seen:plain"].to_list()
    assert aside == [None, datetime(2026, 1, 5), None, datetime(2026, 1, 3, 0, 0, 0, 1)]
    assert inside["m"].to_list() == [1, 0, None, 1]


AMOUNTS: list[tuple[pl.DataType, pl.DataType, Multiple]] = [
    (pl.Int64(), pl.Int64(), Multiple(pl.Int32(), "n")),
    (pl.UInt64(), pl.Int8(), Multiple(pl.Int64(), "n", 3)),
    (pl.Int8(), pl.UInt32(), Multiple(pl.Int8(), "n")),
    (pl.Decimal(15, 2), pl.Decimal(9, 2), Multiple(pl.Int32(), "n", 100)),
    (pl.Decimal(18, 0), pl.Int64(), Multiple(pl.Int64(), "n")),
]


@pytest.mark.parametrize(("dtype", "by", "form"), AMOUNTS, ids=[f"{d} by {b}" for d, b, _ in AMOUNTS])
def test_a_column_as_a_multiple_of_another(dtype: pl.DataType, by: pl.DataType, form: Multiple, tmp_path: Path) -> None:
    def of(kind: pl.DataType) -> st.SearchStrategy[Any]:
        if isinstance(kind, pl.Decimal):
            most = 10**kind.precision - 1
            return (st.integers(-most, most) | st.integers(-50, 50)).map(lambda n: Decimal(n).scaleb(-kind.scale))
        low, high = (int(pl.select(v).item()) for v in (kind.min(), kind.max()))
        return st.integers(low, high) | st.integers(max(low, -9), 9) | st.sampled_from([low, high, 0])

    @settings(max_examples=max(25, settings().max_examples // 3))
    @given(st.lists(st.tuples(st.none() | of(dtype), st.none() | of(by)), max_size=20))
    def check(drawn: list[tuple[Any, Any]]) -> None:
        frame = pl.DataFrame([
            pl.Series("x", [a for a, _ in drawn], dtype=dtype), pl.Series("n", [b for _, b in drawn], dtype=by),
        ])  # fmt: skip
        assert bits(through(frame, {"x": form}, tmp_path / "a.parquet")) == bits(frame)

    check()


def test_what_multiples_are_in_a_file(tmp_path: Path) -> None:
    total = [Decimal(t) for t in ("30.00", "0.00", "-7.50", "5.00", "1.01", "8.00")] + [None]
    frame = pl.DataFrame(
        {"total": total, "pieces": [Decimal(p) for p in ("3", "0", "5", "0", "2")] + [None, Decimal(4)]},
        schema={"total": pl.Decimal(15, 2), "pieces": pl.Decimal(15, 2)},
    )
    forms = {"total": Multiple(pl.Int32(), "pieces", 100), "pieces": Whole(pl.Int32(), 100)}
    assert_frame_equal(through(frame, forms, tmp_path / "a.parquet"), frame)
    inside = pl.read_parquet(tmp_path / "a.parquet")
    # cents of one piece; none of nothing makes nothing, and what does not divide, or has no other, stands aside
    assert inside["total"].to_list() == [1_000, 0, -150, 0, 50, None, None]
    aside = inside["_lazypipe:total:plain"].to_list()
    assert aside == [None, None, None, Decimal(5), Decimal("1.01"), Decimal(8), None]


def test_a_column_that_another_determines(tmp_path: Path) -> None:
    codes = ["DE", "FR", None, "XX", "DE", "FR"]
    frame = pl.DataFrame(
        {
            "code": codes,
            "land": ["Germany", "France", None, "?", "Allemagne", None],
            "tax": [0.19, 0.2, -0.0, None, 0.19, 0.2],
            "since": [date(1990, 10, 3), None, date(1970, 1, 1), None, None, date(1970, 1, 2)],
            "number": [1, 2, 3, 4, 1, 2],
        }
    )
    keys = ("DE", "FR", None)
    forms = {
        "land": Determined("code", keys, ("Germany", "France", None)),
        "tax": Determined("code", keys, (0.19, 0.2, 0.0)),
        "since": Determined("code", keys, (7580, None, 0)),
        "number": Determined("since", (7580, 0), (1, 3)),
    }
    found = through(frame, forms, tmp_path / "a.parquet")
    assert bits(found) == bits(frame)
    inside = pl.read_parquet(tmp_path / "a.parquet")
    assert inside["_lazypipe:land:kept"].to_list() == [True, True, True, False, False, False]
    assert inside["_lazypipe:land:plain"].to_list() == [None, None, None, "?", "Allemagne", None]
    assert inside["_lazypipe:tax:kept"].to_list() == [True, True, False, True, True, True]
    assert inside["_lazypipe:number:kept"].to_list() == [True, False, True, False, False, False]


def test_columns_without_a_form_and_nested_ones_stay_as_they_are(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "list": [[1.5, None, math.nan], [], None],
            "struct": [{"a": "", "b": None}, {"a": None, "b": -0.0}, None],
            "x": [1, None, 1000],
            "bytes": [b"", None, b"\x00"],
            "empty": pl.Series([None, None, None], dtype=pl.Null),
            "choice": pl.Series(["b", None, "a"], dtype=pl.Enum(["b", "a"])),
        }
    )
    found = through(frame, {"x": Cast(pl.Int8())}, tmp_path / "a.parquet")
    assert found.schema == frame.schema
    assert bits(found.select("list", "struct", "x", "bytes")) == bits(frame.select("list", "struct", "x", "bytes"))
    assert found["choice"].to_list() == ["b", None, "a"]
    lazy = frame.lazy()
    assert physical(lazy, frame.schema, {}) is lazy
    assert restore(lazy, frame.schema, {}) is lazy


def test_columns_that_are_not_part_of_the_schema_are_carried_along() -> None:
    frame = pl.LazyFrame({"x": [1, 2], "_lazypipe_unit": [8, 9]})
    schema, forms = {"x": pl.Int64()}, {"x": Cast(pl.Int8())}
    inside = physical(frame, schema, forms)
    assert inside.collect_schema().names() == ["x", "_lazypipe:x:plain", "_lazypipe_unit"]
    assert_frame_equal(restore(inside, schema, forms), frame)


@pytest.mark.parametrize(
    "form",
    [c[2] for c in CASES]
    + [Determined("a", ("k", None), (1.5, None)), Whole(pl.Int8(), 2, "b"), Multiple(pl.Int8(), "b", 2)],
)
def test_a_form_comes_back_from_json(form: Form) -> None:
    back = from_dict(json.loads(json.dumps(form.to_dict())))
    assert (back, type(back), hash(back)) == (form, type(form), hash(form))
    assert back.to_dict() == form.to_dict()


def test_every_kind_is_among_the_cases() -> None:
    assert {c[2].kind for c in CASES} | {"determined", "multiple"} == set(KINDS)
    assert {k: f.kind for k, f in KINDS.items()} == {k: k for k in KINDS}


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        ({"kind": "flagg"}, "there is no form of kind 'flagg'; did you mean 'flag'?; upgrade lazypipe if a newer one wrote it"),
        ({}, "there is no form of kind None"),
        ({"kind": ["flag"]}, "there is no form of kind ['flag']"),
        ({"kind": "flag"}, "the form {'kind': 'flag'} cannot be read; restore the commit file, or read an earlier version"),
        ({"kind": "cast", "dtype": "Int9"}, "the form {'kind': 'cast', 'dtype': 'Int9'} cannot be read"),
        ({"kind": "whole", "unit": 1}, "the form {'kind': 'whole', 'unit': 1} cannot be read"),
    ],
)  # fmt: skip
def test_what_is_no_form_is_refused(plain: dict[str, Any], says: str) -> None:
    with pytest.raises(StorageError) as caught:
        from_dict(plain)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        (Cast(pl.Int8()), pl.String()),
        (Cast(pl.Int8()), pl.Int8()),
        (Cast(pl.String()), pl.Int8()),
        (Cast(pl.Date()), UTC_US),
        (Cast(US), NS.__class__("ms")),
        (Cast(UTC_US), NS),
        (Cast(pl.Int64()), US),
        (Cast(pl.Int64()), pl.Duration("us")),
        (Cast(pl.Duration("ns")), pl.Duration("us")),
        (Cast(pl.Int64()), pl.Decimal(9, 2)),
        (Cast(pl.Float32()), pl.Float32()),
        (Cast(pl.Float32()), pl.Int64()),
        (Cast(pl.Decimal(9, 2)), pl.Float64()),
        (Whole(pl.Int8()), pl.Int128()),
        (Whole(pl.Int8()), pl.Time()),
        (Whole(pl.UInt8()), pl.Int64()),
        (Whole(pl.Int128()), pl.Int64()),
        (Whole(pl.Int8(), 0), pl.Int64()),
        (Multiple(pl.Int8(), "a"), pl.Date()),
        (Multiple(pl.Int8(), "a"), pl.Decimal(38, 2)),
        (Multiple(pl.UInt8(), "a"), pl.Int64()),
        (Multiple(pl.Int8(), "a", 0), pl.Int64()),
        (Scaled(2, pl.Int32()), pl.Float32()),
        (Scaled(0, pl.Int32()), pl.Float64()),
        (Scaled(9, pl.Int32()), pl.Float64()),
        (Scaled(2, pl.UInt32()), pl.Float64()),
        (Scaled(2, pl.Int128()), pl.Float64()),
        (Flag("a", "a"), pl.String()),
        (Flag("a", "b"), pl.Binary()),
        (Coded(()), pl.String()),
        (Coded(("a", "a")), pl.String()),
        (Coded(("a",)), pl.Enum(["a"])),
        (Template(("a",), ()), pl.String()),
        (Template(("a", "b"), ("digits",)), pl.String()),
        (Template(("a", "b"), (19,)), pl.String()),
        (Template(("a",), ("text",)), pl.String()),
        (Template(("a", "b"), ("text",)), pl.Binary()),
        (Hexed(()), pl.String()),
        (Hexed((3,)), pl.String()),
        (Hexed((4, 0)), pl.String()),
        (Hexed((4,)), pl.Binary()),
        (Constant("a"), pl.Int64()),
        (Constant(1), pl.String()),
        (Constant(1), pl.Boolean()),
        (Constant(1), pl.Float64()),
        (Constant(value=True), pl.Int64()),
        (Constant(1), pl.List(pl.Int64())),
        (Determined("a", (), ()), pl.Int64()),
        (Determined("a", (1, 1), (1, 1)), pl.Int64()),
        (Determined("a", (1,), ("a",)), pl.Int64()),
        (Determined("a", (1,), (1, 2)), pl.Int64()),
        (Determined("a", (1,), (1,)), pl.Time()),
    ],
    ids=str,
)
def test_a_form_says_which_types_it_is_not_for(form: Form, dtype: pl.DataType) -> None:
    with pytest.raises(StorageError) as caught:
        check_forms({"x": form}, {"x": dtype, "a": pl.Int64()})
    assert f"column 'x' ({dtype}) cannot be written in the form {form.kind}; choose a form for {dtype}, or none" == str(
        caught.value
    )


@pytest.mark.parametrize(
    ("forms", "says"),
    [
        ({"amoumt": Cast(pl.Int8())}, "a form needs column 'amoumt'; did you mean 'amount'?"),
        ({"amount": Whole(pl.Int8(), base="of")}, "a form needs column 'of'; known columns: amount, other"),
        (
            {"amount": Whole(pl.Int8(), base="other"), "other": Whole(pl.Int8(), base="amount")},
            "forms need each other: 'amount', 'other'; write one of these columns plainly",
        ),
    ],
)
def test_forms_that_name_wrong_columns_are_refused(forms: dict[str, Form], says: str) -> None:
    schema = {"amount": pl.Int64(), "other": pl.Int64()}
    with pytest.raises(StorageError) as caught:
        check_forms(forms, schema)
    assert str(caught.value) == says
    with pytest.raises(StorageError):
        physical(pl.LazyFrame(schema=schema), schema, forms)


@pytest.mark.parametrize(
    ("form", "other"),
    [
        (Whole(pl.Int8(), base="other"), pl.String()),
        (Multiple(pl.Int8(), "other"), pl.Duration("us")),
        (Determined("other", ("a",), (1,)), pl.Int64()),
        (Determined("other", (1.5,), (1,)), pl.Float64()),
        (Determined("other", ("a",), (1,)), pl.Enum(["a"])),
    ],
)
def test_forms_that_lean_on_columns_of_other_types_are_refused(form: Form, other: pl.DataType) -> None:
    with pytest.raises(StorageError) as caught:
        check_forms({"x": form}, {"x": pl.Int64(), "other": other})
    assert str(caught.value) == (
        f"column 'x' in the form {form.kind} cannot lean on column 'other' ({other}); choose another column, or write it plainly"
    )
    assert Cast(pl.Int8()).leans_on(other)  # it needs none


def test_a_column_called_as_a_part_is_refused() -> None:
    with pytest.raises(StorageError) as caught:
        check_forms({"x": Cast(pl.Int8())}, {"x": pl.Int64(), "_lazypipe:x:plain": pl.Int64()})
    assert str(caught.value) == (
        "the column name '_lazypipe:x:plain' is one of those that forms are written under; rename the column"
    )


@given(st.lists(st.dates(), max_size=4))
def test_scalars_stand_for_values(dates: list[date]) -> None:
    values = pl.Series(dates, dtype=pl.Date)
    made = [pl.select(literal(s, pl.Date())).item() for s in scalars(values)]
    assert made == dates
    assert scalars(pl.Series(["a"])) == ["a"]


# in datasets

SCHEMA = pl.Schema({"id": pl.Int64(), "mail": pl.String(), "score": pl.Float64(), "at": US, "side": pl.String()})
FORMS = {
    "id": Cast(pl.Int32()),
    "mail": Template(("", "@", ""), ("text", "text")),
    "score": Cast(pl.Float32()),
    "at": Whole(pl.Int64(), 1_000),
    "side": Flag("buy", "sell"),
}


def rows(start: int, count: int, *, odd: bool = False) -> pl.DataFrame:
    numbers = range(start, start + count)
    frame = pl.DataFrame(
        {
            "id": numbers,
            "mail": [f"u{n}@x.org" for n in numbers],
            "score": [n / 2 for n in numbers],
            "at": [datetime(2026, 1, 1) + timedelta(seconds=n) for n in numbers],
            "side": ["buy" if n % 3 else "sell" for n in numbers],
        },
        schema=SCHEMA,
    )
    last = pl.int_range(pl.len()) == pl.len() - 1
    wrong = {"id": 2**40, "mail": "nobody", "score": 0.1, "at": datetime(2026, 1, 1, 0, 0, 0, 1), "side": "hold"}
    return (
        frame.with_columns(pl.when(last).then(pl.lit(v)).otherwise(pl.col(n)).alias(n) for n, v in wrong.items())
        if odd
        else frame
    )


def written(uri: str, frame: pl.DataFrame, layout: Layout | None, name: str) -> DataFile:
    """Write a file as it stands in its layout; partition columns go into folders."""
    forms = {} if layout is None else layout.forms
    by = () if layout is None else layout.partition_by
    inside = physical(frame.lazy(), frame.schema, {n: f for n, f in forms.items() if n not in by}).collect()
    folders = "".join(f"{n}={frame[n][0]}/" for n in by)
    path = Path(uri.removeprefix("file://")) / folders / name
    path.parent.mkdir(parents=True, exist_ok=True)
    inside.drop(by).write_parquet(path, row_group_size=100)
    return DataFile(folders + name, frame.height, path.stat().st_size, layout=layout)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, list[DataFile], pl.DataFrame]:
    uri = str(tmp_path / "d")
    parts = [rows(0, 1000), rows(1000, 1000), rows(2000, 500, odd=True), rows(3000, 200)]
    layouts = [None, Layout(forms=FORMS), Layout(forms=FORMS), Layout(forms={"side": Coded(("buy", "sell"))})]
    made = [written(uri, f, n, f"r-001-0000{i}.parquet") for i, (f, n) in enumerate(zip(parts, layouts, strict=True))]
    return uri, made, pl.concat(parts)


def test_the_columns_with_values_that_do_not_fit_are_found(files: tuple[str, list[DataFile], pl.DataFrame]) -> None:
    uri, made, _ = files
    found = find_odd(uri, made, SCHEMA)
    assert [f.odd for f in found] == [None, (), tuple(FORMS), ()]
    again = [DataFile.from_dict(f.to_dict(), {f.layout.id: f.layout} if f.layout else {}) for f in found]
    assert again == list(found)


@pytest.mark.parametrize("known", [True, False])
def test_files_in_different_forms_are_read_together(
    files: tuple[str, list[DataFile], pl.DataFrame], *, known: bool
) -> None:
    uri, made, expected = files
    dataset = Dataset(uri)
    dataset.commit(
        find_odd(uri, made, SCHEMA) if known else made, SCHEMA, run="r", time=datetime(2026, 1, 1, tzinfo=UTC)
    )
    commit = dataset.read()
    scan = dataset.scan(commit)
    assert scan.collect_schema() == SCHEMA
    assert_frame_equal(scan.collect(engine="streaming").sort("id"), expected.sort("id"))
    assert scan.select(pl.len()).collect().item() == 2700
    some = scan.filter(pl.col("side") == "hold", pl.col("score") < 1).select("mail", "id").collect()
    assert some.rows() == [("nobody", 2**40)]
    with_files = scan_files(uri, commit.files, SCHEMA, (), {}, file_column=True).collect()
    assert with_files["_lazypipe_file"].n_unique() == 4


def test_rows_with_units_too(tmp_path: Path) -> None:
    frame = rows(0, 10, odd=True)
    layout = Layout(forms=FORMS)
    inside = physical(frame.lazy().with_columns(pl.lit(7, dtype=pl.UInt64).alias("_lazypipe_unit")), SCHEMA, FORMS)
    (tmp_path / "d").mkdir()
    inside.sink_parquet(tmp_path / "d" / "a.parquet")
    file = DataFile("a.parquet", 10, 1, units={7: 10}, layout=layout)
    (found,) = find_odd(str(tmp_path / "d"), [file], SCHEMA, tagged=True)
    assert found.odd == tuple(FORMS)
    scan = scan_files(str(tmp_path / "d"), [found], SCHEMA, (), {}, tagged=True, units=[7])
    assert_frame_equal(scan.collect(), frame)
    assert scan_files(str(tmp_path / "d"), [found], SCHEMA, (), {}, tagged=True, units=[8]).collect().is_empty()


def test_through_fsspec_the_same_is_read(files: tuple[str, list[DataFile], pl.DataFrame]) -> None:
    import fsspec

    uri, made, expected = files
    memory = fsspec.filesystem("memory")
    for file in made:
        memory.pipe(f"/forms/{file.path}", (Path(uri) / file.path).read_bytes())
    found = find_odd("memory://forms", made, SCHEMA)
    assert [f.odd for f in found] == [None, (), tuple(FORMS), ()]
    scan = scan_files("memory://forms", found, SCHEMA, (), {})
    assert_frame_equal(scan.collect().sort("id"), expected.sort("id"))
    memory.rm("/forms", recursive=True)


def test_numbers_are_widened_by_the_scan_so_that_filters_skip_row_groups(
    files: tuple[str, list[DataFile], pl.DataFrame],
) -> None:
    uri, made, expected = files
    found = find_odd(uri, made, SCHEMA)
    scan = scan_files(uri, found[1:2], SCHEMA, (), {}).filter(pl.col("id") > 1_990)
    assert 'SELECTION: col("id") > 1990' in scan.explain()
    assert scan.collect()["id"].to_list() == list(range(1_991, 2_000))
    inside = scan_schema(SCHEMA, FORMS, ())
    assert (inside["id"], inside["score"], inside["at"]) == (pl.Int64, pl.Float64, pl.Int64)
    assert scan_schema(SCHEMA, FORMS, ("id",))["id"] == pl.Int32
    assert scan_schema({"x": pl.Int64()}, {"x": Cast(pl.UInt8())}, ())["x"] == pl.UInt8
    assert scan_schema({"x": pl.Float64()}, {"x": Cast(pl.Int8())}, ())["x"] == pl.Int8


def test_partition_columns_have_no_form_but_others_may_need_them(tmp_path: Path) -> None:
    frame = pl.DataFrame({"day": [20, 20, 20], "end": [21, 22, None], "side": ["buy", "sell", "buy"]})
    forms = {"day": Cast(pl.Int8()), "end": Whole(pl.Int8(), base="day"), "side": Flag("buy", "sell")}
    layout = Layout(forms=forms, partition_by=("day",))
    file = written(str(tmp_path / "d"), frame, layout, "r-001-00000.parquet")
    (found,) = find_odd(str(tmp_path / "d"), [file], frame.schema)
    assert found.odd == ()
    scan = scan_files(str(tmp_path / "d"), [found], frame.schema, ("day",), {})
    assert_frame_equal(scan.collect(), frame)
    assert scan.select("end").collect()["end"].to_list() == [21, 22, None]


def test_a_commit_holds_the_forms_of_its_files() -> None:
    layout = Layout(forms={**FORMS, "side": Determined("id", (1, None), ("buy", None))})
    file = DataFile("a.parquet", 1, 1, layout=layout, odd=("id",))
    commit = Commit(
        1, "r", datetime(2026, 1, 1, tzinfo=UTC), "replace", SCHEMA, (file, DataFile("b", 1, 1, layout=layout))
    )
    assert Commit.from_json(commit.to_json(), "u") == commit


def test_texts_of_two_parts_are_taken_apart_at_the_first_separator() -> None:
    texts = ["a@b@c.com", "ü@ß.com", "@.com", "a.com", "a@b", "", None, "a@b.com\n"]
    frame = pl.DataFrame({"x": texts}, schema={"x": pl.String})
    form = Template(("", "@", ".com"), ("text", "text"))
    inside = physical(frame.lazy(), frame.schema, {"x": form}).collect()
    assert inside.rows()[:3] == [("a", "b@c", None), ("ü", "ß", None), ("", "", None)]
    assert inside["_lazypipe:x:plain"].to_list()[3:] == ["a.com", "a@b", "", None, "a@b.com\n"]
    assert restore(inside.lazy(), frame.schema, {"x": form}).collect()["x"].to_list() == texts
