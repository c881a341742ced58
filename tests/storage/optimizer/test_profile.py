"""Profiles against what plain Python counts."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazypipe.errors import LazypipeError, SourceError
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import DataFile
from lazypipe.storage.optimizer.advise import advise
from lazypipe.storage.optimizer.candidates import forms_for
from lazypipe.storage.optimizer.form_numbers import Cast, Whole
from lazypipe.storage.optimizer.forms import physical, restore
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.optimizer.profile import profile
from lazypipe.storage.optimizer.relations import Relation, find_relations
from lazypipe.storage.optimizer.sample import take_sample
from lazypipe.storage.parquet.footers import column_bytes

# samples


@pytest.mark.parametrize("lazy", [False, True])
def test_a_sample_is_of_stretches_over_all_rows(*, lazy: bool) -> None:
    frame = pl.DataFrame({"x": range(1_000_000)})
    sample = take_sample(frame.lazy() if lazy else frame, 20_000)
    assert (sample.total, sample.frame.height, sample.scale) == (1_000_000, 20_000, 50.0)
    starts = [sample.frame["x"][i * 5_000] for i in range(4)]
    assert starts == [0, 250_000, 500_000, 750_000]
    assert sample.frame["x"].to_list() == [n for s in starts for n in range(s, s + 5_000)]


@pytest.mark.parametrize("name", ["*", "^x$", "_lazypipe:x:plain"])
@pytest.mark.parametrize("lazy", [False, True])
def test_names_that_cannot_be_used(name: str, *, lazy: bool) -> None:
    frame = pl.DataFrame({"x": [1], name: [2]})
    own = (
        "is reserved for lazypipe, which keeps values in compact form under such names; "
        "name the dataset's folder instead of its files, or rename the column"
    )
    said = own if name.startswith("_") else "would be read as a pattern of names; give it another name"
    with pytest.raises(LazypipeError, match=f"^{re.escape(f'column {name!r} {said}')}$"):
        profile(frame.lazy() if lazy else frame)


def test_files_that_differ_are_named(tmp_path: Path) -> None:
    """Of files that Polars cannot read together, or at all, the one is named that is to blame."""
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "1.parquet")
    fix = "name files with the same columns, name a dataset by its folder, or give a LazyFrame"
    for other, what in (
        (pl.DataFrame({"x": [1], "y": [2]}), "the file has a column 'y' that is not expected"),
        (pl.DataFrame({"y": [2]}), "the file lacks column 'x'"),
        (pl.DataFrame({"x": ["a"]}), "the file has String in column 'x', not Int64"),
    ):
        other.write_parquet(tmp_path / "2.parquet")
        with pytest.raises(SourceError) as told:
            profile(str(tmp_path / "*.parquet"))
        assert str(told.value) == f"{tmp_path / '2.parquet'}: {what}; {fix}"
    (tmp_path / "2.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(SourceError, match=r"2\.parquet: ") as told:
        profile(str(tmp_path / "*.parquet"))
    assert fix not in str(told.value)


def test_a_delta_table_is_read_by_its_log(tmp_path: Path) -> None:
    """Its folder still holds the rows that were there before, and its partition columns are in its log."""
    lake = pytest.importorskip("deltalake")
    table = str(tmp_path / "table")
    lake.write_deltalake(table, pl.DataFrame({"k": ["a"] * 500, "x": range(500)}).to_arrow(), partition_by=["k"])
    left = pl.DataFrame({"k": ["b"] * 10 + ["c"] * 5, "x": [*range(1_000, 1_015)]})
    lake.write_deltalake(table, left.to_arrow(), mode="overwrite", partition_by=["k"])
    found = profile(table)
    assert (found.total, found["x"].least, found["x"].greatest, found["k"].distinct) == (15, 1_000, 1_014, 2)
    stored = column_bytes([str(p) for k in "bc" for p in (tmp_path / "table" / f"k={k}").glob("*.parquet")])
    assert found["x"].stored == stored["x"]
    assert advise(table).rows == 15


def test_a_frame_that_fails_says_so_itself() -> None:
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        profile(pl.LazyFrame({"x": [1]}).select("y"))


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 99, 100])
def test_of_few_rows_the_sample_is_all(rows: int, *, lazy: bool) -> None:
    frame = pl.DataFrame({"x": range(rows)})
    sample = take_sample(frame.lazy() if lazy else frame, 100)
    assert sample.frame.equals(frame)
    assert (sample.total, sample.scale) == (rows, 1.0)


def test_a_sample_shorter_than_a_stretch() -> None:
    assert take_sample(pl.DataFrame({"x": range(100)}), 7).frame["x"].to_list() == list(range(7))


def test_a_sample_of_nothing_is_refused() -> None:
    with pytest.raises(LazypipeError, match="a sample of 0 rows shows nothing; write 1 or more"):
        take_sample(pl.DataFrame({"x": [1]}), 0)


def test_files_and_datasets_tell_what_columns_take(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": range(1000), "y": ["a", "b"] * 500})
    forms = {"x": Cast(pl.Int16())}
    (tmp_path / "d").mkdir()
    for i in range(2):
        physical(frame.lazy(), frame.schema, forms).sink_parquet(tmp_path / "d" / f"r-001-0000{i}.parquet")
    files = [DataFile(f"r-001-0000{i}.parquet", 1000, 1, layout=Layout(forms=forms)) for i in range(2)]
    Dataset(str(tmp_path / "d")).commit(files, frame.schema, run="r", time=datetime(2026, 1, 1))
    sample = take_sample(str(tmp_path / "d"))
    assert sample.frame.equals(pl.concat([frame, frame]))
    import pyarrow.parquet as pq

    meta = pq.read_metadata(tmp_path / "d" / "r-001-00000.parquet").row_group(0)
    sizes = {meta.column(i).path_in_schema: meta.column(i).total_compressed_size for i in range(meta.num_columns)}
    assert sample.stored == {"x": 2 * (sizes["x"] + sizes["_lazypipe:x:plain"]), "y": 2 * sizes["y"]}
    assert profile(str(tmp_path / "d"))["y"].stored == 2 * sizes["y"]

    frame.write_parquet(tmp_path / "one.parquet")
    found = profile(str(tmp_path / "*.parquet"))
    assert (found.total, found["x"].stored) == (1000, column_bytes([str(tmp_path / "one.parquet")])["x"])


def test_what_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 is not enough of it")
    with pytest.raises(SourceError) as caught:
        column_bytes([str(tmp_path / "a.parquet")])
    assert caught.value.uri == str(tmp_path / "a.parquet")
    assert "cannot be read" in str(caught.value)


# columns

FLOATS = st.integers(-999, 999).map(lambda n: n / 100) | st.sampled_from([0.5, math.inf, 1 / 3, 2.0])
VALUES: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "Int64": (pl.Int64(), st.integers(-5, 5) | st.integers(-(2**40), 2**40).map(lambda n: n * 1000)),
    "UInt8": (pl.UInt8(), st.integers(0, 255)),
    "Float64": (pl.Float64(), FLOATS),
    "String": (pl.String(), st.text("abé1", max_size=3)),
    "Binary": (pl.Binary(), st.binary(max_size=3)),
    "Boolean": (pl.Boolean(), st.booleans()),
    "Date": (pl.Date(), st.dates(date(2026, 1, 1), date(2026, 1, 9))),
    "Datetime": (pl.Datetime("us"), st.integers(0, 10**6).map(lambda n: datetime(2026, 1, 1) + timedelta(seconds=n))),
    "Decimal": (pl.Decimal(18, 4), st.decimals(-99, 99, places=2)),
    "Time": (pl.Time(), st.times()),
    "Enum": (pl.Enum(["b", "a"]), st.sampled_from(["a", "b"])),
}


@pytest.mark.parametrize("kind", VALUES)
def test_figures_are_those_that_python_counts(kind: str) -> None:
    dtype, values = VALUES[kind]

    @given(st.lists(st.none() | values, max_size=12))
    def check(drawn: list[Any]) -> None:
        found = profile(pl.DataFrame({"x": pl.Series(drawn, dtype=dtype)}))["x"]
        known = [v for v in drawn if v is not None]
        counts = Counter(known)
        assert (found.rows, found.nulls, found.distinct) == (len(drawn), len(drawn) - len(known), len(counts))
        assert (found.least, found.greatest) == ((min(known), max(known)) if known else (None, None))
        assert found.runs == sum(1 for _ in itertools.groupby(drawn))
        entropy = -sum(n / len(known) * math.log2(n / len(known)) for n in counts.values())
        assert found.entropy == pytest.approx(entropy, abs=1e-9)
        steps = [(a, b) for a, b in itertools.pairwise(drawn) if a is not None and b is not None]
        assert found.rising == (pytest.approx(sum(b >= a for a, b in steps) / len(steps)) if steps else None)
        whole = len(known) == len(drawn) and len(counts) > 1
        rises, falls = all(b >= a for a, b in steps), all(b <= a for a, b in steps)
        assert found.order == (None if not whole else "ascending" if rises else "descending" if falls else None)
        assert found.strict == (whole and (rises or falls) and all(a != b for a, b in steps))
        if dtype in (pl.String, pl.Binary):
            sizes = [len(v.encode() if isinstance(v, str) else v) for v in known]
            assert (found.shortest, found.longest) == ((min(sizes), max(sizes)) if sizes else (None, None))
            assert found.mean_bytes == (pytest.approx(sum(sizes) / len(sizes)) if sizes else None)

    check()


@given(st.lists(FLOATS, min_size=1, max_size=60))
def test_decimals_that_nearly_all_floats_have(values: list[float]) -> None:
    found = profile(pl.DataFrame({"x": values}, schema={"x": pl.Float64}))["x"].digits
    fits = [d for d in range(9) if sum((math.isfinite(v) and round(v, d) == v) for v in values) >= 0.98 * len(values)]
    assert found == (fits[0] if fits else None)


@given(st.lists(st.decimals(-9, 9, places=3), min_size=1, max_size=60))
def test_decimals_that_nearly_all_decimals_have(values: list[Decimal]) -> None:
    found = profile(pl.DataFrame({"x": pl.Series(values, dtype=pl.Decimal(12, 5))}))["x"].digits
    assert found == next(d for d in range(6) if sum(round(v, d) == v for v in values) >= 0.98 * len(values))


@pytest.mark.parametrize(
    ("values", "dtype", "unit"),
    [
        ([0, 86_400_000_000], pl.Datetime("us"), 86_400_000_000),
        ([1_000_000, 3_600_000_000], pl.Datetime("us"), 1_000_000),
        ([1_500, 3_600_000], pl.Duration("us"), 1),
        ([1_000, 3_000], pl.Duration("ms"), 1_000),
        ([2_000_000, 5_000], pl.Datetime("ns", "UTC"), 1_000),
        ([500, 1_200], pl.Int16(), 100),
        ([7], pl.Int8(), 1),
        ([100], pl.Int8(), 100),
        ([10_000, 20_000], pl.Date(), 1),
        ([], pl.Int64(), 1),
        ([1.0], pl.Float64(), None),
    ],
)
def test_the_unit_of_which_values_are_multiples(values: list[int], dtype: pl.DataType, unit: int | None) -> None:
    assert profile(pl.DataFrame({"x": pl.Series(values).cast(dtype)}))["x"].unit == unit


def test_bytes_per_encoding() -> None:
    frame = pl.DataFrame({
        "id": range(64), "flat": [7] * 64, "text": ["ab", "abcd"] * 32, "flag": [True] * 64, "half": [None, 1.5] * 32,
        "small": pl.Series([1] * 64, dtype=pl.Int8), "big": pl.Series([1] * 64, dtype=pl.Int128),
        "money": pl.Series([Decimal(1)] * 64, dtype=pl.Decimal(9, 2)), "more": pl.Series([Decimal(1)] * 64, dtype=pl.Decimal(18, 2)),
        "most": pl.Series([Decimal(1)] * 64, dtype=pl.Decimal(38, 2)),
    })  # fmt: skip
    sizes = {c.name: dict(c.encodings or {}) for c in profile(frame).columns}
    assert sizes["id"] == {"plain": 512, "dictionary": 512 + 48, "rle": 640, "delta": 0}
    assert sizes["flat"] == {"plain": 512, "dictionary": 8, "rle": 10, "delta": 0}
    assert sizes["text"] == {"plain": 64 * 7, "dictionary": 14 + 8, "rle": 64 * 9}
    assert sizes["flag"] == {"plain": 8, "rle": 1}
    assert sizes["half"] == {"plain": 256, "dictionary": 8, "rle": 640}
    assert [sizes[n]["plain"] // 64 for n in ("small", "big", "money", "more", "most")] == [4, 16, 4, 8, 16]
    # differences of 0 and 7, in two blocks of which each needs 3 bits for each value
    assert dict(profile(pl.DataFrame({"x": [0, 7] * 32})).columns[0].encodings or {})["delta"] == 2 * 32 * 4 // 8


def test_plain_data_tables_and_text() -> None:
    frame = pl.DataFrame({
        "at": [datetime(2026, 1, 1), datetime(2026, 1, 2)], "day": [date(2026, 1, 1)] * 2, "t": [time(1), time(2)], "for": [timedelta(1)] * 2,
        "price": [Decimal("1.50")] * 2, "raw": [b"\x00", b"a"], "a|b": ["x|y\n", "z" * 40], "list": [[1], None],
        "none": pl.Series([None, None], dtype=pl.Null), "id": ["A-01", "A-02"],
    })  # fmt: skip
    found = profile(frame)
    plain = json.loads(json.dumps(found.to_dict()))
    assert (plain["rows"], plain["total"]) == (2, 2)
    columns = {c["name"]: c for c in plain["columns"]}
    shown = {n: columns[n]["least"] for n in ("at", "day", "t", "for", "price", "raw", "list")}
    assert shown == {"at": "2026-01-01T00:00:00", "day": "2026-01-01", "t": "01:00:00", "for": "1 day, 0:00:00", "price": "1.50", "raw": "00", "list": None}  # fmt: skip
    assert columns["id"]["make"] == {"kind": "template", "pieces": ["A-", ""], "varying": [2]}
    table = found.to_frame()
    assert table.height == frame.width
    assert table.row(9, named=True)["make"] == "{'kind': 'template', 'pieces': ['A-', ''], 'varying': [2]}"
    assert table.row(8, named=True)["nulls"] == 2
    lines = found.to_markdown().splitlines()
    assert lines[0] == "2 of 2 rows"
    assert lines[4].startswith(
        "| at | Datetime(us) | 0 | 2 | 2026-01-01T00:00:00 | 2026-01-02T00:00:00 | 2 | ascending | 1.0 | plain 16"
    )
    assert lines[10].startswith("| a\\|b | String | 0 | 2 | x\\|y  | " + "z" * 29 + "… |")
    assert lines[11].startswith("| list | List(Int64) | 1 |  |  |  |  |  |  | plain ")
    both = profile(pl.DataFrame({"c": ["DE", "FR"] * 50, "l": ["Germany", "France"] * 50})).to_markdown()
    assert both.endswith(
        "- l has 2% of its runs when rows are ordered by c\n- c has 2% of its runs when rows are ordered by l"
    )


def test_dates_and_times_that_python_does_not_know() -> None:
    most = 2**63 - 1
    frame = pl.DataFrame({"day": [-900_000, 0, 4_000_000], "last": [-(2**31), 5, 2**31 - 1], "at": [-most, 7_000, most], "for": [-most, 7_000, most]}).select(
        pl.col("day", "last").cast(pl.Int32).cast(pl.Date), pl.col("at").cast(pl.Datetime("ms", "UTC")), pl.col("for").cast(pl.Duration("ms"))
    )  # fmt: skip
    found = profile(frame)
    assert (found["day"].least, found["day"].greatest) == ("-0495-11-20", "+12921-08-18")
    assert found["for"].greatest == f"{most}ms"
    json.dumps(found.to_dict())
    assert "+12921-08-18" in found.to_markdown()
    # and a layout is chosen for them, which gives back every value
    thousands = frame.with_columns(at=pl.Series([-(10**15), 0, 10**15]).cast(pl.Datetime("ms", "UTC")))
    for rows in (frame, thousands):
        layout = advise(rows, goal="storage", clock=lambda: 0.0).layout
        back = restore(physical(rows.lazy(), rows.schema, layout.forms), rows.schema, layout.forms).collect()
        assert back.select(pl.all().to_physical()).rows() == rows.select(pl.all().to_physical()).rows()
    at = profile(thousands)
    assert forms_for(at["at"], at, thousands) == [Whole(pl.Int64(), 1_000)]


@pytest.mark.parametrize(
    "frame", [pl.DataFrame(), pl.DataFrame({"x": []}), pl.DataFrame({"x": [None]}), pl.DataFrame({"x": [1]})]
)
def test_profiles_of_next_to_nothing(frame: pl.DataFrame) -> None:
    found = profile(frame)
    assert (found.rows, len(found.columns), found.relations) == (frame.height, frame.width, ())
    assert found.to_frame().height == frame.width


# relations


def relations(frame: pl.DataFrame, kind: str) -> list[Relation]:
    known = {n: frame[n].n_unique() for n in frame.columns}
    return [r for r in find_relations(frame, known) if r.kind == kind]


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=60, max_size=60))
def test_a_column_is_determined_as_python_finds(pairs: list[tuple[int, int]]) -> None:
    frame = pl.DataFrame(pairs, schema=["a", "b"], orient="row")
    found = {(r.by, r.column) for r in relations(frame, "determined")}
    follows = {}
    for by, column in (("a", "b"), ("b", "a")):
        groups: dict[int, Counter[int]] = {}
        for row in frame.iter_rows(named=True):
            groups.setdefault(row[by], Counter())[row[column]] += 1
        several = frame[column].n_unique() > 1 and frame[by].n_unique() >= frame[column].n_unique()
        follows[by, column] = several and all(len(c) == 1 for c in groups.values())
    if follows["a", "b"] and follows["b", "a"]:
        assert found == {("a", "b")}  # which of two that determine each other stays
    else:
        assert found == {p for p, holds in follows.items() if holds}


def test_few_exceptions_are_allowed_many_are_not() -> None:
    codes = ["DE", "FR"] * 1_000
    lands = ["Germany" if c == "DE" else "France" for c in codes]

    def found(wrong: int) -> list[str]:
        frame = pl.DataFrame(
            {"land": [*lands[wrong:], *lands[1 : wrong + 1]], "code": [*codes[wrong:], *codes[:wrong]]}
        )
        return [str(r) for r in relations(frame, "determined")]

    assert found(10) == ["code follows from land (0.50% of the rows are exceptions)"]
    assert found(11) == []


def test_exceptions_that_come_after_the_first_rows_count_too() -> None:
    first = pl.DataFrame({"a": [0, 1, 2] * 4_000, "b": [0, 1, 1] * 4_000})
    later = pl.DataFrame({"a": [0, 1, 2] * 4_000, "b": [0, 0, 1] * 4_000})
    assert [(r.by, r.column) for r in relations(first, "determined")] == [("a", "b")]
    assert relations(pl.concat([first, later]), "determined") == []


def test_differences_that_are_shorter_than_the_columns() -> None:
    at = [n * 1_000_003 for n in range(2_000)]
    frame = pl.DataFrame({
        "at": pl.Series(at).cast(pl.Datetime("us")), "seen": pl.Series([t + i % 50 for i, t in enumerate(at)]).cast(pl.Datetime("us")),
        "in_ms": pl.Series([t // 1000 for t in at]).cast(pl.Datetime("ms")), "n": [t + 5 for t in at], "small": range(2_000),
        "null": pl.Series([None] * 2_000, dtype=pl.Int64),
    })  # fmt: skip
    known = dict.fromkeys(frame.columns, 2000)
    found = [r for r in find_relations(frame, known) if r.kind == "difference"]
    assert {(r.column, r.by) for r in found} == {("at", "seen"), ("seen", "at")}
    assert str(found[0]) == "at less seen needs 6 bits rather than 31"
    assert found[0].to_dict()["of"] == pytest.approx(math.log2(0.98 * at[-1]), abs=0.01)


def test_a_look_at_few_differences_hides_none_that_is_shorter() -> None:
    rows = 4_000
    noise = [n * 2_654_435_761 % 2**32 for n in range(rows)]
    second = 1_000_000
    frame = pl.DataFrame({
        "at": pl.Series([n * second + n % 900 * 1_000 for n in range(rows)]).cast(pl.Datetime("us")),
        # a day later at most, in whole seconds: as far as all times lie apart, but of fewer bits
        "later": pl.Series([n * second + n % 900 * 1_000 + x % 86_400 * second for n, x in enumerate(noise)]).cast(pl.Datetime("us")),
        "id": pl.Series(noise).cast(pl.Int64), "far": pl.Series([x + x % 9 * 10**12 for x in noise]),
        "other": pl.Series([x * 40_503 % 2**32 for x in noise]),
    })  # fmt: skip
    found = {(r.column, r.by): r for r in find_relations(frame, dict.fromkeys(frame.columns, rows))}
    near = {("later", "at"), ("at", "later"), ("far", "id"), ("id", "far")}
    assert {pair for pair, r in found.items() if r.kind == "difference"} == near
    apart = (frame["later"] - frame["at"]).dt.total_seconds().sort()
    exact = math.log2(apart[round(0.99 * (rows - 1))] - apart[round(0.01 * (rows - 1))] + 1)
    assert found["later", "at"].strength == pytest.approx(exact, abs=0.01)
    assert found["far", "id"].strength == pytest.approx(math.log2(9))


def test_columns_that_are_clustered_when_rows_are_in_another_order() -> None:
    frame = pl.DataFrame(
        {"shop": [n % 7 for n in range(700)], "city": [n % 7 // 2 for n in range(700)], "x": range(700)}
    )
    found = {(r.column, r.by): r.strength for r in relations(frame, "clustered")}
    sorted_runs = {c: sum(1 for _ in itertools.groupby(frame.sort("shop", maintain_order=True)[c])) for c in ("city",)}
    before = sum(1 for _ in itertools.groupby(frame["city"]))
    assert found["city", "shop"] == pytest.approx(sorted_runs["city"] / before)
    assert {c for c, _ in found} == {"city"}  # ordered by city, shops change as often as before
    assert relations(frame.select("x"), "clustered") == []


def test_a_look_at_few_values_hides_no_unit_and_no_decimals() -> None:
    rows = 4_000
    few = [n * 100 + (n % 60 == 0) for n in range(rows)]  # 1.7 % of the values are no multiples
    more = [n * 100 + (n % 25 == 0) for n in range(rows)]  # 4 %
    frame = pl.DataFrame({"few": few, "more": more, "two": [n / 100 for n in few], "odd": [math.sqrt(n) for n in few]})
    found = profile(frame, sample=rows)
    assert (found["few"].unit, found["more"].unit) == (100, 1)
    assert (found["two"].digits, found["odd"].digits) == (0, None)
    cents = pl.DataFrame({"x": [n / 100 if n % 61 else n / 10**7 for n in range(rows)]})
    assert profile(cents, sample=rows)["x"].digits == 2


@pytest.mark.parametrize("period", [75, 100, 128, 1_000])
def test_decimals_are_those_of_all_values_also_where_what_has_others_recurs(period: int) -> None:
    rows = 50_000  # of which 2,000 are looked at: one of 25
    odd = pl.DataFrame({"x": [n / 100 if n % period else n / 10**7 for n in range(rows)]})
    assert profile(odd, sample=rows)["x"].digits == 2


@pytest.mark.parametrize("every", [1_000_000, 60, 25, 2])
def test_multiples_are_those_that_python_finds(every: int) -> None:
    by = [n * 31 % 41 + 2 for n in range(2_000)]
    values = [7_919 * n % 10_007 * b + (n % every == 1) for n, b in enumerate(by)]
    frame = pl.DataFrame({"amount": values, "by": by})
    share = sum(v % b == 0 for v, b in zip(values, by, strict=True)) / len(by)
    found = find_relations(frame, {n: frame[n].n_unique() for n in frame.columns})
    assert [r.kind for r in found if (r.column, r.by) == ("amount", "by")] == ["multiple"] * (share >= 0.98)


def test_nothing_is_a_multiple_of_what_is_hardly_ever_there() -> None:
    by = [n % 41 + 2 if n % 10 == 0 else None for n in range(2_000)]
    frame = pl.DataFrame({"amount": [7_919 * n % 10_007 * (b or 40) for n, b in enumerate(by)], "by": by})
    known = {n: frame[n].n_unique() for n in frame.columns}
    odd = frame.with_columns(pl.col("amount") + 1)
    assert [[r.kind for r in find_relations(f, known) if r.by == "by"] for f in (frame, odd)] == [["multiple"], []]
