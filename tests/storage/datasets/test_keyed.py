"""Keys are found and taken out: the same rows as by a plain filter, and no file is touched that holds none."""

from __future__ import annotations

import datetime as dt
import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.errors import StorageError
from lazypipe.storage.datasets import key_bounds, keyed
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.key_bounds import KeyBounds, exact_bounds
from lazypipe.storage.datasets.keyed import Rewrite, not_ruled_out, rewrite_without, rows_with
from lazypipe.storage.datasets.log import Commit, DataFile
from lazypipe.storage.datasets.unit_counts import count_units
from lazypipe.storage.datasets.units import UNIT
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.parquet.footers import read_footer
from lazypipe.storage.parquet.prune import Bounds
from lazypipe.storage.sink import DatasetSink, is_data_file

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def write(
    uri: str, frames: Sequence[pl.DataFrame], *by: str, keys: Sequence[str] = (), **options: Any
) -> tuple[Dataset, Commit]:
    """Commit each frame as a file of its own (or one per folder), with the bounds of ``keys`` in the commit."""
    dataset = Dataset(uri)
    files: list[DataFile] = []
    for number, frame in enumerate(frames):
        files += DatasetSink(uri, f"r1-001-{number:03}", by, options=options).write(frame.lazy()).files
    dataset.commit(files, frames[0].schema, run="r1", time=NOON, partition_by=by, keys=keys)
    return dataset, Dataset(uri).read()


def tagged(uri: str, frames: Sequence[pl.DataFrame], units: Sequence[Sequence[int]]) -> tuple[Dataset, Commit]:
    dataset, schema = Dataset(uri), frames[0].schema
    files: list[DataFile] = []
    for number, (frame, of) in enumerate(zip(frames, units, strict=True)):
        rows = frame.with_columns(pl.Series(UNIT, of, dtype=pl.UInt64)).lazy()
        files += DatasetSink(uri, f"r1-001-{number:03}").write(rows).files
    counted = count_units(uri, files)
    return dataset, dataset.commit(counted, schema, run="r1", time=NOON, tagged=True)


def publish(dataset: Dataset, found: Rewrite, commit: Commit, **more: Any) -> Commit:
    return dataset.commit(
        found.files,
        commit.schema,
        run="r2",
        time=NOON,
        mode="change",
        partition_by=commit.partition_by,
        without=found.without,
        tagged=commit.tagged,
        expected=commit.version,
        **more,
    )


def canonical(value: Any) -> Any:
    """NaN is equal to NaN, and zero to zero."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value + 0.0
    return value.isoformat() if isinstance(value, dt.date) else value


def key_of(row: dict[str, Any], on: Sequence[str]) -> tuple[Any, ...]:
    return tuple(canonical(row[c]) for c in on)


def counted(rows: list[dict[str, Any]]) -> Counter[str]:
    return Counter(repr([canonical(r[k]) for k in sorted(r)]) for r in rows)


TYPES: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "int": (pl.Int64(), st.integers(-3, 6)),
    "small": (pl.UInt8(), st.integers(0, 4)),
    "text": (pl.String(), st.sampled_from(["", "a", "b", "bb", "é", "z" * 70, "z" * 70 + "a"])),
    "float": (pl.Float64(), st.sampled_from([0.0, -0.0, 1.5, math.inf, -math.inf, math.nan])),
    "date": (pl.Date(), st.dates(dt.date(2024, 1, 1), dt.date(2024, 1, 5))),
    "time": (pl.Datetime("us", "UTC"), st.sampled_from([NOON, NOON + dt.timedelta(microseconds=1)])),
    "truth": (pl.Boolean(), st.booleans()),
    "big": (pl.Int128(), st.integers(-2, 2)),
}


@st.composite
def cases(draw: st.DrawFn) -> tuple[pl.Schema, list[str], list[str], list[list[dict[str, Any]]], list[dict[str, Any]]]:
    names = draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=3, unique=True))
    schema = pl.Schema({n: TYPES[n][0] for n in names} | {"v": pl.Int64()})
    row = st.fixed_dictionaries({n: st.one_of(st.none(), TYPES[n][1]) for n in names} | {"v": st.integers(0, 99)})
    files = draw(st.lists(st.lists(row, min_size=1, max_size=5), min_size=1, max_size=4))
    keys = draw(st.lists(st.one_of(row, st.sampled_from([r for f in files for r in f])), max_size=4))
    folders = [n for n in names if n not in ("float", "big")]
    by = draw(st.sampled_from([[], folders[:1]]))
    return schema, names, by, files, keys


@given(
    case=cases(),
    few=st.sampled_from([keyed._FEW, 1]),
    tests=st.sampled_from([keyed._TESTS, 0]),
    boxes=st.sampled_from([keyed._BOXES, 0]),
    noted=st.sampled_from([0, 1, 3]),
    one_group=st.sampled_from([key_bounds._ONE_GROUP, 0]),
)
def test_the_same_rows_as_by_a_plain_filter(
    case: Any, few: int, tests: int, boxes: int, noted: int, one_group: int
) -> None:
    schema, on, by, files, keys = case
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyed, "_FEW", few)
        patch.setattr(keyed, "_PART", 4)
        patch.setattr(keyed, "_TESTS", tests)
        patch.setattr(keyed, "_BOXES", boxes)
        patch.setattr(keyed, "_SMALL", 1)
        patch.setattr(key_bounds, "_ONE_GROUP", one_group)
        frames = [pl.DataFrame(f, schema=schema) for f in files]
        dataset, commit = write(folder + "/d", frames, *by, keys=on[:noted])
        wanted = {key_of(k, on) for k in keys}
        frame = pl.DataFrame(keys, schema=schema)
        holding = {
            f.path
            for f in commit.files
            if any(
                key_of(r, on) in wanted
                for r in dataset.scan(replace(commit, files=(f,))).collect().iter_rows(named=True)
            )
        }
        found = rewrite_without(dataset, commit, frame.lazy(), on, prefix="r2-001k")
        assert found.without == holding
        assert {f.path for f in found.read} >= holding
        taken = rows_with(dataset, commit, found.replaced, frame.lazy(), on).collect().rows(named=True)
        now = publish(dataset, found, commit, keys=on[:noted])
        assert dataset.read() == now
        rows = [dict(r) for f in files for r in f]
        there = dataset.scan(now).collect()
        assert there.schema == schema
        assert counted(there.rows(named=True)) == counted([r for r in rows if key_of(r, on) not in wanted])
        assert counted(taken) == counted([r for r in rows if key_of(r, on) in wanted])
        assert now.rows == there.height
        assert all(is_data_file(f.path) for f in now.files)
        on_disk = {str(p.relative_to(folder + "/d")) for p in Path(folder, "d").rglob("*.parquet")}
        assert on_disk == {f.path for f in (*commit.files, *found.files)}


def ids(dataset: Dataset, commit: Commit, column: str = "id") -> list[Any]:
    return dataset.scan(commit).collect()[column].to_list()


def plain(uri: str, files: int = 10, rows: int = 1_000) -> tuple[Dataset, Commit]:
    """Files of consecutive ids, each in ten row groups."""
    frames = [
        pl.DataFrame({"id": range(n * rows, (n + 1) * rows)}).with_columns(v=pl.col("id") % 7) for n in range(files)
    ]
    return write(uri, frames, row_group_size=rows // 10)


def test_statistics_rule_out_what_cannot_hold_a_key(tmp_path: Path) -> None:
    dataset, commit = plain(str(tmp_path / "d"))
    found = rewrite_without(dataset, commit, pl.LazyFrame({"id": [1_500, 4_000, 99_999, -1]}), ["id"], prefix="r2-001k")
    assert found.read == found.replaced == (commit.files[1], commit.files[4])
    assert sum(f.rows for f in found.files) == 1_998
    now = publish(dataset, found, commit)
    assert sorted(ids(dataset, now)) == [n for n in range(10_000) if n not in (1_500, 4_000)]
    # what was not touched is the very same file
    assert {f.path for f in now.files} >= {f.path for n, f in enumerate(commit.files) if n not in (1, 4)}


def unreadable(dataset: Dataset, files: Sequence[DataFile]) -> None:
    for file in files:
        Path(dataset.uri, file.path).write_bytes(b"no Parquet at all")


def test_what_the_commit_rules_out_is_not_even_opened(tmp_path: Path) -> None:
    frames = [pl.DataFrame({"id": [n, n + 9], "at": [dt.date(2024, 1, 1 + n)] * 2}) for n in range(0, 30, 10)]
    dataset, commit = write(str(tmp_path / "d"), frames, keys=["id", "at"])
    unreadable(dataset, [commit.files[0], commit.files[2]])
    keys = pl.LazyFrame({"id": [11, 14, 19], "at": [dt.date(2024, 1, 11)] * 3})
    found = rewrite_without(dataset, commit, keys, ["id", "at"], prefix="r2-001k")
    assert found.replaced == found.read == (commit.files[1],)
    # of what stays, nothing is opened either when the next version notes bounds
    now = publish(dataset, found, commit, keys=["id"])
    assert [set(f.bounds) for f in now.files] == [
        {"id", "at"}
    ] * 3  # of what is written, those by which it was looked for
    assert [f.bounds["id"][:3] for f in now.files] == [(0, 9, 0), (20, 29, 0), (10, 10, 0)]
    with pytest.raises(StorageError, match=r"d/r1-001-000-00000.parquet: a data file cannot be read: "):
        rewrite_without(dataset, now, pl.LazyFrame({"id": [5]}), ["id"], prefix="r3-001k")


def test_bounds_are_noted_of_files_that_lack_them(tmp_path: Path) -> None:
    dataset, commit = plain(str(tmp_path / "d"), files=2)
    assert [f.bounds for f in commit.files] == [{}, {}]
    more = DatasetSink(dataset.uri, "r2-001").write(pl.LazyFrame({"id": [-7, None], "v": [0, 0]})).files
    dataset.commit(more, commit.schema, run="r2", time=NOON, mode="append", keys=["id"])
    now = dataset.read()
    assert [f.bounds["id"] for f in now.files] == [(0, 999, 0, 1_000), (1_000, 1_999, 0, 1_000), (-7, -7, 1, 2)]
    found = rewrite_without(
        dataset, now, pl.LazyFrame({"id": [None]}, schema={"id": pl.Int64}), ["id"], prefix="r3-001k"
    )
    assert found.read == found.replaced == (now.files[2],)


def test_bounds_go_when_the_column_has_another_type(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": [1, 2], "at": pl.Series([1, 2], dtype=pl.Datetime("ms"))})
    dataset, commit = write(str(tmp_path / "d"), [frame], keys=["id", "at"])
    schema = pl.Schema({"id": pl.Int64(), "at": pl.Datetime("us")})
    made = dataset.commit(commit.files, schema, run="r2", time=NOON)
    assert [set(f.bounds) for f in made.files] == [{"id"}]


@pytest.mark.parametrize(
    "values",
    [
        pl.Series(["a", "b" * 257]),
        pl.Series([1.5, math.inf]),
        pl.Series([-math.inf, 2.0]),
        pl.Series([True, False]),
        pl.Series([1, 2], dtype=pl.Int128),
    ],
)
def test_bounds_that_cannot_be_written_down_rule_out_nothing(tmp_path: Path, values: pl.Series) -> None:
    dataset, frame = Dataset(str(tmp_path / "d")), pl.LazyFrame({"k": values})
    layout = Layout(writer="pyarrow") if values.dtype == pl.String else None  # Polars cuts long texts
    files = DatasetSink(dataset.uri, "r1-001", layout=layout).write(frame).files
    commit = dataset.commit(files, frame.collect_schema(), run="r1", time=NOON, keys=["k"])
    assert commit.files[0].bounds["k"][:2] == (None, None)
    for value in values:
        keys = pl.LazyFrame({"k": pl.Series([value], dtype=values.dtype)})
        found = rewrite_without(dataset, commit, keys, ["k"], prefix="r2-001k")
        assert [f.rows for f in found.files] == [1]
        found.discard()


def test_ten_thousand_keys_touch_the_files_that_hold_them(tmp_path: Path) -> None:
    dataset, commit = plain(str(tmp_path / "d"), files=20, rows=5_000)
    # between the row groups' bounds of all files, but rows of three only
    held = [*range(5_000, 5_050), *range(60_000, 64_950), *range(95_000, 100_000)]
    keys = pl.LazyFrame({"id": [*held, None, -5, *range(200_000, 200_010)]})
    found = rewrite_without(dataset, commit, keys, ["id"], prefix="r2-001k")
    assert [commit.files.index(f) for f in found.replaced] == [1, 12, 19]
    assert [f.rows for f in found.files] == [4_950 + 50]  # the last is empty; small neighbours become one
    assert sorted(ids(dataset, publish(dataset, found, commit))) == sorted({*range(100_000)} - {*held})


def test_bounds_that_overlap_are_told_apart_by_the_keys(tmp_path: Path) -> None:
    frames = [pl.DataFrame({"id": range(n, 1_000, 4)}) for n in range(4)]
    dataset, commit = write(str(tmp_path / "d"), frames)
    found = rewrite_without(dataset, commit, pl.LazyFrame({"id": [402, 406]}), ["id"], prefix="r2-001k")
    assert found.read == commit.files
    assert found.replaced == (commit.files[2],)


def test_a_key_of_two_columns_must_lie_within_one_row_group(tmp_path: Path) -> None:
    # each column alone is within the bounds of both files
    frames = [pl.DataFrame({"a": [0, 5], "b": [0, 5]}), pl.DataFrame({"a": [1, 9], "b": [9, 9]})]
    dataset, commit = write(str(tmp_path / "d"), frames)
    keys = pl.LazyFrame({"a": [9, 0], "b": [0, 9]})
    assert rewrite_without(dataset, commit, keys, ["a", "b"], prefix="r2-001k") == Rewrite()
    keys = pl.LazyFrame({"a": [9, 5], "b": [9, 9]})
    found = rewrite_without(dataset, commit, keys, ["a", "b"], prefix="r2-002k")
    assert found.read == found.replaced == (commit.files[1],)


ENDS: dict[str, st.SearchStrategy[Any]] = {
    "a": st.integers(0, 4),
    "f": st.sampled_from([-1.0, 0.0, 0.5, 2.0]),
    "t": st.sampled_from([b"", b"a", b"ab", b"b"]),
}
VALUES = {"a": ENDS["a"], "f": ENDS["f"] | st.just(math.nan), "t": ENDS["t"].map(bytes.decode)}


@st.composite
def bounds_of(draw: st.DrawFn, ends: st.SearchStrategy[Any]) -> Bounds:
    """Return bounds of a column of a file with three rows, as a commit may state them."""
    nulls = draw(st.sampled_from([None, 0, 1, 3]))
    known = nulls != 3 and draw(st.booleans())
    low, high = sorted([draw(ends), draw(ends)]) if known else (None, None)
    return Bounds(low, high, nulls, 3)


def may_be(value: Any, box: Bounds) -> bool:
    if value is None:
        return box.nulls != 0
    if box.nulls == box.values:
        return False
    if box.low is None or value != value:  # bounds do not speak of what is not a number
        return True
    plain = value.encode() if isinstance(value, str) else value
    return bool(box.low <= plain <= box.high)


@given(
    st.lists(st.tuples(*(st.none() | v for v in VALUES.values())), min_size=1, max_size=5),
    st.lists(st.fixed_dictionaries({n: bounds_of(e) for n, e in ENDS.items()}), max_size=4),
    st.sampled_from([("a",), ("a", "f"), ("f", "t"), ("a", "f", "t")]),
    st.sampled_from([keyed._BOXES, 0]),
)
def test_only_files_whose_bounds_hold_all_columns_of_some_key_are_looked_at(
    rows: list[tuple[Any, ...]], boxes: list[dict[str, Bounds]], on: tuple[str, ...], few: int
) -> None:
    schema = pl.Schema({"a": pl.Int8(), "f": pl.Float64(), "t": pl.String()})
    files = tuple(DataFile(f"{n}.parquet", 3, 100, bounds=box) for n, box in enumerate(boxes))
    commit = Commit(1, "r1", NOON, "replace", schema, files)
    keys = pl.DataFrame(rows, schema, orient="row").select(on)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyed, "_BOXES", few)
        found = not_ruled_out(Dataset("nowhere"), commit, keys)
    expected = [f for f in files if any(all(map(may_be, k, [f.bounds[n] for n in on])) for k in keys.rows())]
    assert [*found] == expected


def test_files_without_statistics_are_all_looked_at(tmp_path: Path) -> None:
    frames = [pl.DataFrame({"a": [n], "b": [n]}) for n in range(3)]
    dataset, commit = write(str(tmp_path / "d"), frames, statistics=False)
    found = rewrite_without(dataset, commit, pl.LazyFrame({"a": [1, 2], "b": [1, 1]}), ["a", "b"], prefix="r2-001k")
    assert (found.read, found.replaced) == (commit.files, (commit.files[1],))


def test_folders_rule_out_files_and_stay(tmp_path: Path) -> None:
    frame = pl.DataFrame({"day": ["a", "a", "b", None], "id": [1, 2, 1, 1], "v": [1, 2, 3, 4]})
    dataset, commit = write(str(tmp_path / "d"), [frame], "day")
    keys = pl.LazyFrame({"day": pl.Series([None, "b"], dtype=pl.String), "id": [1, 2]})
    found = rewrite_without(dataset, commit, keys, ["day", "id"], prefix="r2-001k")
    assert {f.path.rpartition("/")[0] for f in found.replaced} == {"day=__HIVE_DEFAULT_PARTITION__"}
    assert found.files == ()
    # a key that does not name the folder may be in any
    found = rewrite_without(dataset, commit, pl.LazyFrame({"id": [1]}), ["id"], prefix="r3-001k")
    assert len(found.replaced) == 3
    now = publish(dataset, found, commit)
    assert dataset.scan(now).collect().rows() == [("a", 2, 2)]
    assert [f.path.rpartition("/")[0] for f in now.files] == ["day=a"]
    # values whose order bounds do not know are looked for in the files
    dataset, commit = write(str(tmp_path / "e"), [pl.DataFrame({"yes": [True, False], "id": [1, 2]})], "yes")
    found = rewrite_without(dataset, commit, pl.LazyFrame({"yes": [True]}), ["yes"], prefix="r2-001k")
    assert [f.path.rpartition("/")[0] for f in found.replaced] == ["yes=true"]
    assert len(found.read) == 2


def test_order_and_neighbourhood_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled = pl.DataFrame({"id": range(300_000)}).sample(fraction=1.0, shuffle=True, seed=1)
    dataset, commit = write(str(tmp_path / "d"), [shuffled])
    gone = [7, 299_999, 150_000]
    found = rewrite_without(dataset, commit, pl.LazyFrame({"id": gone}), ["id"], prefix="r2-001k")
    assert ids(dataset, publish(dataset, found, commit)) == [i for i in shuffled["id"] if i not in gone]
    dataset, commit = plain(str(tmp_path / "e"))
    monkeypatch.setattr(keyed, "_SMALL", 2 * commit.files[0].bytes + 10)
    found = rewrite_without(dataset, commit, pl.LazyFrame({"id": range(0, 10_000, 500)}), ["id"], prefix="r2-001k")
    assert [f.rows for f in found.files] == [1_996] * 5


def test_rows_keep_their_units_and_rows_of_gone_units_go(tmp_path: Path) -> None:
    frames = [pl.DataFrame({"id": [1, 2, 3, 4]}), pl.DataFrame({"id": [5, 6]}), pl.DataFrame({"id": [7]})]
    dataset, commit = tagged(str(tmp_path / "d"), frames, [[10, 10, 11, 12], [12, 11], [13]])
    commit = dataset.commit((), commit.schema, run="x", time=NOON, mode="change", tagged=True, gone=[12])
    assert commit.gone == {12}
    # 4 is only in a row that is gone: no file holds it any more; 5 neither
    assert rewrite_without(dataset, commit, pl.LazyFrame({"id": [4, 5]}), ["id"], prefix="r2-001k").replaced == ()
    found = rewrite_without(dataset, commit, pl.LazyFrame({"id": [1]}), ["id"], prefix="r2-002k")
    assert found.replaced == (commit.files[0],)
    assert [dict(f.units) for f in found.files] == [{10: 1, 11: 1}]
    now = publish(dataset, found, commit, gone=[13])
    assert dataset.scan(now, tags=True).collect().sort("id").rows() == [(2, 10), (3, 11), (6, 11)]
    assert now.gone == {12}  # still in the file that was not touched
    # a file all of whose rows are gone is not looked at
    commit = replace(commit, gone=commit.gone | {13})
    found = rewrite_without(dataset, commit, pl.LazyFrame({"id": [7]}), ["id"], prefix="r2-003k")
    assert found.read == ()


def test_more_keys_than_are_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed, "_FEW", 100)
    monkeypatch.setattr(keyed, "_PART", 2_500)
    dataset, commit = plain(str(tmp_path / "d"))
    keys = pl.concat([pl.LazyFrame({"id": range(0, 20_000, 2)}) for _ in range(3)])
    found = rewrite_without(dataset, commit, keys, ["id"], prefix="r2-001k")
    assert found.replaced == commit.files
    assert sorted(ids(dataset, publish(dataset, found, commit))) == [*range(1, 10_000, 2)]
    few = rewrite_without(dataset, commit, keys.filter(pl.col("id") < 600), ["id"], prefix="r2-002k")
    assert few.replaced == (commit.files[0],)
    none = pl.LazyFrame({"id": range(20_000, 21_000)})
    assert rewrite_without(dataset, commit, none, ["id"], prefix="r2-003k") == Rewrite()


def test_a_store_that_polars_does_not_know() -> None:
    uri = f"memory://{Path(tempfile.mktemp()).name}/d"
    dataset, commit = plain(uri, files=3)
    found = rewrite_without(dataset, commit, pl.LazyFrame({"id": [1_500]}), ["id"], prefix="r2-001k")
    assert found.read == found.replaced == (commit.files[1],)
    assert sorted(ids(dataset, publish(dataset, found, commit))) == [n for n in range(3_000) if n != 1_500]


def test_nothing_to_look_for(tmp_path: Path) -> None:
    dataset, commit = plain(str(tmp_path / "d"), files=1)
    assert (
        rewrite_without(dataset, commit, pl.LazyFrame(schema={"id": pl.Int64()}), ["id"], prefix="p-001k") == Rewrite()
    )


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    dataset, commit = plain(str(tmp_path / "d"), files=2)
    for keys, on, message in (
        ({"id": [1]}, "idd", "the dataset has no key column 'idd'; did you mean 'id'?"),
        (
            {"idd": [1]},
            "id",
            "the keys have no column 'id', which is part of the dataset's key; did you mean 'idd'?",
        ),
        (
            {"id": ["1"]},
            "id",
            "key column 'id' is String in the keys and Int64 in the dataset; cast it to the dataset's type",
        ),
    ):
        with pytest.raises(StorageError) as caught:
            rewrite_without(dataset, commit, pl.LazyFrame(keys), [on], prefix="r2-001k")
        assert str(caught.value) == f"{dataset.uri}: {message}"
    path = Path(dataset.uri) / commit.files[1].path
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    mend = "; restore it from a backup, roll back, or run in full"
    with pytest.raises(
        StorageError, match="a data file cannot be read: the file does not end as a Parquet file does"
    ) as caught:
        rewrite_without(dataset, commit, pl.LazyFrame({"id": [1]}), ["id"], prefix="r2-001k")
    assert str(caught.value).endswith(mend)
    path.unlink()
    with pytest.raises(StorageError) as caught:
        rewrite_without(dataset, commit, pl.LazyFrame({"id": [1]}), ["id"], prefix="r2-001k")
    assert str(caught.value) == f"{path}: a data file cannot be read: No such file or directory{mend}"


def test_what_was_written_goes_when_it_goes_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, commit = plain(str(tmp_path / "d"), files=3)
    monkeypatch.setattr(keyed, "_SMALL", 1)
    path = Path(dataset.uri) / commit.files[2].path
    data = bytearray(path.read_bytes())
    with path.open("rb") as file:
        ((start, length),) = read_footer(file).ranges(0, ["v"])
    data[start : start + length] = b"\xff" * length
    keys = pl.LazyFrame({"id": [1, 1_001]})
    found = rewrite_without(dataset, commit, keys, ["id"], prefix="r2-001k")
    assert len(list(tmp_path.rglob("r2-*.parquet"))) == 2
    found.discard()
    assert not list(tmp_path.rglob("r2-*.parquet"))
    path.write_bytes(data)
    with pytest.raises(pl.exceptions.PolarsError):
        rewrite_without(dataset, commit, pl.LazyFrame({"id": [1, 2_001]}), ["id"], prefix="r2-001k")
    assert not list(tmp_path.rglob("r2-*.parquet"))


def test_a_large_footer_is_read_whole(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": range(20_000)})
    dataset, commit = write(str(tmp_path / "d"), [frame], row_group_size=20)
    assert commit.files[0].bytes > 64 * 1024
    found = rewrite_without(dataset, commit, pl.LazyFrame({"id": [19_999]}), ["id"], prefix="r2-001k")
    assert [f.rows for f in found.files] == [19_999]


VALUES: dict[str, pl.Series] = {
    "small": pl.Series([3, None, -7], dtype=pl.Int8),
    "large": pl.Series([2**64 - 1, 0], dtype=pl.UInt64),
    "huge": pl.Series([2**80, -1], dtype=pl.Int128),
    "float": pl.Series([1.5, float("nan"), -2.0]),
    "infinite": pl.Series([1.5, float("-inf")]),
    "only nan": pl.Series([float("nan")] * 2),
    "text": pl.Series(["b", "", None, "ü"]),
    "long text": pl.Series(["a" * 300, "b"]),
    "cut text": pl.Series(["ü" * 200, "ü" * 100]),
    "day": pl.Series([dt.date(1960, 1, 1), dt.date(2024, 2, 29)]),
    "moment": pl.Series([datetime(1960, 1, 1), None], dtype=pl.Datetime("ns")),
    "zoned": pl.Series([datetime(2024, 1, 1), datetime(1969, 7, 1)], dtype=pl.Datetime("us", "UTC")),
    "span": pl.Series([dt.timedelta(1), dt.timedelta(-1)]),
    "time": pl.Series([dt.time(1), dt.time(2)]),
    "truth": pl.Series([True, None]),
    "money": pl.Series([Decimal("1.5"), Decimal(-3)], dtype=pl.Decimal(10, 2)),
    "bytes": pl.Series([b"x", b"\xff"]),
    "kind": pl.Series(["b", "a"], dtype=pl.Enum(["b", "a"])),
    "list": pl.Series([[1], [], None], dtype=pl.List(pl.Int64)),
    "nothing": pl.Series([None, None], dtype=pl.Int64),
    "no rows": pl.Series([], dtype=pl.String),
}


@pytest.mark.parametrize("name", VALUES)
def test_bounds_of_values_at_hand_are_those_that_a_footer_tells(tmp_path: Path, name: str) -> None:
    values = VALUES[name].alias("k")
    found = exact_bounds(values)
    assert (found is None) is (name in {"large", "infinite", "only nan", "long text", "cut text"})
    if found is None:  # who notes them asks the footer
        return
    file = DataFile("a.parquet", len(values), 0)
    values.to_frame().write_parquet(tmp_path / file.path)
    (told,) = KeyBounds(str(tmp_path), ("k",), pl.Schema({"k": values.dtype})).noted([file])
    footer = told.bounds["k"]
    assert (found.low, found.high, found.values) == (footer.low, footer.high, footer.values)
    assert found.nulls == values.to_list().count(None)
    assert footer.nulls in (None, found.nulls)
