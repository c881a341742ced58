"""Datasets: what is written is what is read, in every type and every folder, and readers see whole commits."""

from __future__ import annotations

import datetime as dt
import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from polars.testing.parametric import column, dataframes

import lazypipe as lp
from lazypipe.errors import CommitConflict, SourceError, StorageError
from lazypipe.storage import hive
from lazypipe.storage.datasets.dataset import Dataset, is_dataset
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.sink import DatasetSink

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
DAY = dt.date(2024, 2, 29)
MOMENT = dt.datetime(2024, 2, 29, 23, 59, 59, 123456)


@pytest.fixture(params=["local", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield from new_uri(request.param, tmp_path)


def new_uri(kind: str, tmp_path: Path) -> Iterator[str]:
    if kind == "local":
        yield str(tmp_path / uuid.uuid4().hex)
    else:
        name = uuid.uuid4().hex
        yield f"memory://{name}/d"
        fs = fsspec.filesystem("memory")
        if fs.exists(f"/{name}"):
            fs.rm(f"/{name}", recursive=True)


def write(
    uri: str, frame: pl.DataFrame, *partition_by: str, mode: str = "replace", run: str | None = None, **more: Any
) -> Commit:
    dataset = Dataset(uri)
    latest = dataset.latest()
    number = latest.version + 1 if latest else 1
    sink = DatasetSink(uri, f"{run or f'r{number}'}-001", partition_by)
    written = sink.write(frame.lazy())
    assert written.rows == frame.height
    time = NOON + timedelta(hours=number)
    return dataset.commit(
        written.files, frame.schema, run=run or f"r{number}", time=time, mode=mode, partition_by=partition_by, **more
    )


def files_of(uri: str) -> list[str]:
    fs, root = fsspec.core.url_to_fs(uri)
    return sorted(p.removeprefix(root).lstrip("/") for p in fs.find(root))


def assert_same_rows(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert_frame_equal(found, expected, check_row_order=False, categorical_as_str=True)


# replace and append


def test_replace_puts_new_rows_in_place_of_the_old_ones(uri: str) -> None:
    write(uri, pl.DataFrame({"a": [1, 2]}))
    second = write(uri, pl.DataFrame({"a": [3]}))
    assert (second.version, second.rows) == (2, 1)
    assert lp.scan(uri).collect()["a"].to_list() == [3]


def test_append_adds_rows(uri: str) -> None:
    write(uri, pl.DataFrame({"a": [1, 2]}))
    second = write(uri, pl.DataFrame({"a": [3]}), mode="append")
    assert second.rows == 3
    assert second.bytes == sum(f.bytes for f in second.files) > 0
    assert lp.scan(uri).collect()["a"].sort().to_list() == [1, 2, 3]


def test_append_to_nothing_is_the_first_commit(uri: str) -> None:
    assert write(uri, pl.DataFrame({"a": [1]}), mode="append").version == 1
    assert lp.scan(uri).collect()["a"].to_list() == [1]


@pytest.mark.parametrize(
    ("frame", "partition_by"),
    [
        (pl.DataFrame({"a": ["x"], "k": ["u"]}), ("k",)),
        (pl.DataFrame({"a": [1]}), ()),
    ],
    ids=["type", "column"],
)
def test_rows_of_another_shape_are_not_appended(uri: str, frame: pl.DataFrame, partition_by: tuple[str, ...]) -> None:
    write(uri, pl.DataFrame({"a": [1], "k": ["u"]}), "k")
    with pytest.raises(StorageError, match="other columns than the dataset"):
        write(uri, frame, *partition_by, mode="append")
    assert lp.scan(uri).collect().rows() == [(1, "u")]


def test_rows_in_other_partitions_are_appended(uri: str) -> None:
    write(uri, pl.DataFrame({"a": [1], "k": ["u"]}), "k")
    write(uri, pl.DataFrame({"a": [2], "k": ["v"]}), mode="append")
    write(uri, pl.DataFrame({"a": [3], "k": ["w"]}), "a", mode="append")
    assert sorted(lp.scan(uri).collect().rows()) == [(1, "u"), (2, "v"), (3, "w")]
    assert lp.scan(uri).filter(k="v").collect().rows() == [(2, "v")]
    write(uri, pl.DataFrame({"a": [4], "k": ["x"]}), "k")
    assert lp.scan(uri).collect().rows() == [(4, "x")]


def test_columns_in_another_order_are_appended_by_name(uri: str) -> None:
    write(uri, pl.DataFrame({"a": [1], "b": ["u"]}))
    write(uri, pl.DataFrame({"b": ["v"], "a": [2]}), mode="append")
    assert sorted(lp.scan(uri).select("a", "b").collect().rows()) == [(1, "u"), (2, "v")]


def test_a_commit_on_top_of_somebody_elses_is_a_conflict(uri: str) -> None:
    write(uri, pl.DataFrame({"a": [1]}))
    with pytest.raises(CommitConflict, match="version 1 was committed by another run"):
        write(uri, pl.DataFrame({"a": [2]}), run="late", expected=0)
    assert lp.scan(uri).collect()["a"].to_list() == [1]


# reading


def test_versions_and_moments(uri: str) -> None:
    for value in (1, 2, 3):
        write(uri, pl.DataFrame({"a": [value]}))

    def values(**which: Any) -> list[int]:
        return lp.scan(uri, **which).collect()["a"].to_list()

    assert [values(version=v) for v in (1, 2, 3)] == [[1], [2], [3]]
    assert values(as_of=datetime(2024, 5, 1, 13, 59)) == [1]
    assert values(as_of=NOON + timedelta(hours=2)) == [2]
    assert values(as_of="2024-05-01T13:59") == values(as_of="2024-05-01 15:59+02:00") == [1]
    assert values(as_of="2024-05-01T14:00Z") == [2]
    assert values(as_of="2024-05-02") == values(as_of=dt.date(2024, 5, 2)) == [3]
    with pytest.raises(StorageError, match="there is no version 4; versions 1 to 3 exist"):
        lp.scan(uri, version=4)
    with pytest.raises(StorageError, match="there is no version from before"):
        lp.scan(uri, as_of=NOON)
    with pytest.raises(StorageError, match="there is no version from before"):
        lp.scan(uri, as_of=NOON.date())
    for wrong, message in (
        ({"version": 1, "as_of": NOON}, "both version and as_of are given; leave out version or as_of"),
        ({"version": "1"}, "version '1' is not a number; give version=3, or as_of='2024-01-31T12:00'"),
        ({"as_of": "noon"}, "as_of 'noon' is not a time; write one such as 2024-01-31 or 2024-01-31T12:00"),
        ({"as_of": 3}, "as_of 3 is not a time; give a datetime, a date, or a text such as 2024-01-31"),
    ):
        with pytest.raises(StorageError) as error:
            values(**wrong)
        assert str(error.value) == f"{uri}: {message}"


def test_a_data_file_that_is_gone_is_told_with_its_version(tmp_path: Path) -> None:
    uri = str(tmp_path / "d")
    for value in (1, 2):
        write(uri, pl.DataFrame({"a": [value], "p": ["é b"]}), "p")
    (first,) = (Path(uri) / f.path for f in Dataset(uri).read(version=1).files)
    first.unlink()
    assert lp.scan(uri).collect()["a"].to_list() == [2]
    with pytest.raises(StorageError) as caught:
        lp.scan(uri, version=1)
    fix = "restore it from a backup, or read another version: 2 is in force"
    assert str(caught.value) == f"{first}: a data file of version 1 is gone; {fix}"
    with pytest.raises(StorageError, match="a data file of version 1 is gone"):
        lp.diff(f"{uri}@1", uri, key="a")


def test_columns_are_chosen_by_name(uri: str) -> None:
    write(uri, pl.DataFrame({"a": [1], "origin": ["JFK"]}), "origin")
    assert lp.scan(uri, columns=["origin"]).collect().rows() == [("JFK",)]
    with pytest.raises(StorageError, match="there is no column 'origen'; did you mean 'origin'?"):
        lp.scan(uri, columns=["origen"])


def test_nothing_there_says_so(uri: str) -> None:
    assert not is_dataset(uri)
    with pytest.raises(StorageError, match="there is no dataset here"):
        lp.scan(uri)


def test_a_reader_of_an_old_version_goes_on_until_vacuum(uri: str) -> None:
    write(uri, pl.DataFrame({"a": [1]}), run="old")
    opened = lp.scan(uri)
    write(uri, pl.DataFrame({"a": [2]}), run="new")
    assert opened.collect()["a"].to_list() == [1]
    assert lp.vacuum(uri) == ["old-001-00000.parquet"]
    with pytest.raises((FileNotFoundError, SourceError, pl.exceptions.ComputeError), match="old-001-00000.parquet"):
        opened.collect()
    with pytest.raises(StorageError, match="there is no version 1; versions 2 to 2 exist"):
        lp.scan(uri, version=1)
    assert lp.scan(uri).collect()["a"].to_list() == [2]


def test_a_missing_data_file_of_a_live_commit_is_named(uri: str) -> None:
    write(uri, pl.DataFrame({"a": [1], "k": ["x"]}), "k")
    fs, root = fsspec.core.url_to_fs(uri)
    fs.rm_file(f"{root}/k=x/r1-001-00000.parquet")
    with pytest.raises((StorageError, SourceError), match="k=x/r1-001-00000.parquet"):
        lp.scan(uri).collect()


def test_files_that_no_commit_names_are_not_read(uri: str) -> None:
    write(uri, pl.DataFrame({"a": [1]}))
    DatasetSink(uri, "killed-001").write(pl.LazyFrame({"a": [99]}))
    assert len(files_of(uri)) == 2
    assert lp.scan(uri).collect()["a"].to_list() == [1]


# partitions

ODD = ["a b", "a/b", "100%", "%41", "ü", "", "__HIVE_DEFAULT_PARTITION__", None, "a=b", "a+b", "..", ".", "~", "x:y"]
ODD += [
    "*",
    "a?b",
    "[z]",
    "#h",
    "a&b",
    "{c}",
    "new\nline",
    "tab\t",
    "quo\"te'",
    "\\",
    "日本",
    "a" * 80,
    " lead",
    "null",
]
KEYS: dict[str, pl.Series] = {
    "string": pl.Series(["JFK", "LGA", "JFK", None]),
    "odd text": pl.Series(ODD, dtype=pl.String),
    "int": pl.Series([1, -1, 0, None, 2**63 - 1]),
    "int8": pl.Series([1, -128, None], dtype=pl.Int8),
    "uint64": pl.Series([0, 2**64 - 1, None], dtype=pl.UInt64),
    "bool": pl.Series([True, False, None]),
    "date": pl.Series([DAY, dt.date(1600, 1, 1), dt.date(9999, 12, 31), None]),
    "naive ms": pl.Series([MOMENT, None], dtype=pl.Datetime("ms")),
    "naive us": pl.Series([MOMENT, dt.datetime(1, 1, 1), None], dtype=pl.Datetime("us")),
    "naive ns": pl.Series([MOMENT, None], dtype=pl.Datetime("ns")),
    "utc": pl.Series([MOMENT, None]).dt.replace_time_zone("UTC"),
    # 00:30 UTC and 01:30 UTC: the same hour on the wall, twice, when summer time ends; and the odd seconds of old times
    "berlin": pl.Series([dt.datetime(2023, 10, 29, 0, 30), dt.datetime(2023, 10, 29, 1, 30), dt.datetime(1800, 1, 1)])
    .dt.replace_time_zone("UTC")
    .dt.convert_time_zone("Europe/Berlin"),
    "categorical": pl.Series(["a b", "c", None], dtype=pl.Categorical),
    "enum": pl.Series(["a b", "c", None], dtype=pl.Enum(["c", "a b", "x"])),
    "text like null": pl.Series(["__HIVE_DEFAULT_PARTITION__", None, "a"]),
    "only nulls": pl.Series([None, None], dtype=pl.Int64),
}


@pytest.mark.parametrize("key", KEYS)
def test_partition_values_come_back(uri: str, key: str) -> None:
    values = KEYS[key]
    frame = pl.DataFrame({"i": range(len(values)), "k": values})
    commit = write(uri, frame, "k")
    assert len(commit.files) == values.n_unique()
    assert all(f.path.count("/") == 1 for f in commit.files)
    found = lp.scan(uri).sort("i").collect()
    assert found.schema == frame.schema
    assert found["k"].to_list() == values.to_list()
    for value in values.unique().to_list():
        wanted = frame.filter(pl.col("k").eq_missing(pl.lit(value, dtype=values.dtype)))["i"].to_list()
        condition = pl.col("k").eq_missing(pl.lit(value, dtype=values.dtype))
        assert lp.scan(uri).filter(condition).sort("i").collect()["i"].to_list() == wanted


def test_two_partition_columns_of_two_types(uri: str) -> None:
    frame = pl.DataFrame({"d": [DAY, DAY, None, DAY], "i": [1, 2, 3, 4], "s": ["x/y", None, "z", "x/y"]})
    commit = write(uri, frame, "s", "d")
    assert [f.path.rsplit("/", 1)[0] for f in commit.files] == [
        "s=__HIVE_DEFAULT_PARTITION__/d=2024-02-29",
        "s=x%2Fy/d=2024-02-29",
        "s=z/d=__HIVE_DEFAULT_PARTITION__",
    ]
    assert_frame_equal(lp.scan(uri).sort("i").collect(), frame)
    assert lp.scan(uri).filter(pl.col("s").is_null()).select("i", "d").collect().rows() == [(2, DAY)]


@pytest.mark.parametrize("name", ["a b", "ü", "a=b", "a/b", "a%b", "k#?", "[k]", "K", "i'"])
def test_partition_columns_of_odd_names(uri: str, name: str) -> None:
    frame = pl.DataFrame({"i": [1, 2], name: ["x", "y"]})
    write(uri, frame, name)
    assert_frame_equal(lp.scan(uri).sort("i").collect(), frame)
    assert lp.scan(uri, columns=[name]).filter(pl.col(name) == "y").collect().rows() == [("y",)]


def test_folders_above_the_dataset_are_not_its_partitions(tmp_path: Path) -> None:
    for root in (tmp_path / "run=5" / "d", tmp_path / "k=9", tmp_path / "a=1" / "b" / "k=7"):
        frame = pl.DataFrame({"i": [1, 2], "k": ["x", None]})
        write(str(root), frame, "k")
        assert_frame_equal(lp.scan(str(root)).sort("i").collect(), frame)
    whole = tmp_path / "x=1" / "whole"
    write(str(whole), frame)
    assert_frame_equal(lp.scan(str(whole)).sort("i").collect(), frame)


def test_a_predicate_on_a_partition_column_leaves_the_other_files_alone(tmp_path: Path) -> None:
    uri = str(tmp_path / "d")
    write(uri, pl.DataFrame({"i": [1, 2, 3], "k": ["a", "b", "c"]}), "k")
    for key in ("a", "c"):
        (tmp_path / "d" / f"k={key}" / "r1-001-00000.parquet").write_bytes(b"not a Parquet file at all, " * 10)
    frame = lp.scan(uri).filter(pl.col("k") == "b")
    assert frame.collect().rows() == [(2, "b")]
    assert "k=b/r1-001-00000.parquet" in frame.explain()
    assert "k=a" not in frame.explain()
    with pytest.raises(pl.exceptions.ComputeError, match="footer"):
        lp.scan(uri).collect()


def test_a_scan_reads_no_file_before_it_is_collected(tmp_path: Path) -> None:
    uri = str(tmp_path / "d")
    write(uri, pl.DataFrame({"i": [1], "k": ["a"]}), "k")
    for file in files_of(uri):
        (Path(uri) / file).write_bytes(b"not Parquet")
    assert lp.scan(uri).collect_schema() == {"i": pl.Int64, "k": pl.String}


def test_no_rows_are_a_commit_with_the_columns(uri: str) -> None:
    frame = pl.DataFrame(schema={"i": pl.Int64, "k": pl.Date})
    write(uri, pl.DataFrame({"i": [1], "k": [DAY]}), "k")
    empty = write(uri, frame, "k")
    assert empty.files == ()
    assert_frame_equal(lp.scan(uri).collect(), frame)
    assert lp.scan(uri).filter(pl.col("k") == DAY).select(pl.len()).collect().item() == 0
    lp.vacuum(uri, older_than=timedelta(0))
    assert files_of(uri) == []
    write(uri, pl.DataFrame({"i": [1], "k": [DAY]}), "k", mode="append")
    assert lp.scan(uri).collect().rows() == [(1, DAY)]


def test_no_rows_without_partitions_are_still_a_file_for_plain_readers(tmp_path: Path) -> None:
    uri = str(tmp_path / "d")
    frame = pl.DataFrame(schema={"i": pl.Int64, "s": pl.String})
    write(uri, frame)
    assert_frame_equal(lp.scan(uri).collect(), frame)
    assert_frame_equal(pl.scan_parquet(uri).collect(), frame)


def test_plain_polars_reads_the_folder_after_vacuum(tmp_path: Path) -> None:
    uri = str(tmp_path / "d")
    write(uri, pl.DataFrame({"i": [9, 9], "k": ["x", "q"]}), "k")
    frame = pl.DataFrame({"i": [1, 2, 3], "k": ["a b/c", None, "ü%"]})
    write(uri, frame, "k")
    lp.vacuum(uri)
    assert_frame_equal(pl.scan_parquet(uri).select("i", "k").sort("i").collect(), frame)
    assert sorted(os.listdir(uri)) == ["k=%C3%BC%25", "k=__HIVE_DEFAULT_PARTITION__", "k=a%20b%2Fc"]


# all types

DTYPES = [pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Int128, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float32]
DTYPES += [pl.Float64, pl.Boolean, pl.String, pl.Binary, pl.Date, pl.Time, pl.Categorical, pl.List, pl.Array, pl.Struct]
DTYPES += [pl.Datetime("ms"), pl.Datetime("us"), pl.Datetime("ns"), pl.Datetime("us", "UTC"), pl.Duration("us")]
DTYPES += [pl.Decimal(20, 3), pl.Enum(["a", "b,c", ""])]
FOLDERS = [pl.String, pl.Int8, pl.Int64, pl.UInt32, pl.Boolean, pl.Date, pl.Enum(["a", "b,c", ""])]


@given(
    frame=dataframes(min_cols=1, max_cols=5, max_size=8, allowed_dtypes=DTYPES),
    kind=st.sampled_from(["local", "memory"]),
)
def test_frames_of_all_types_come_back(frame: pl.DataFrame, kind: str, tmp_path: Path) -> None:
    for uri in new_uri(kind, tmp_path):
        write(uri, frame)
        found = lp.scan(uri).collect()
        assert found.schema == frame.schema
        assert_same_rows(found, frame)
        assert lp.scan(uri).select(pl.len()).collect().item() == frame.height


@settings(max_examples=25)
@given(
    data=st.data(),
    key=st.sampled_from(FOLDERS),
    kind=st.sampled_from(["local", "memory"]),
)
def test_frames_partitioned_by_any_key_come_back(data: st.DataObject, key: Any, kind: str, tmp_path: Path) -> None:
    frame = data.draw(
        dataframes(
            [column("k", dtype=key, allow_null=True), column("i", dtype=pl.Int64), column("s", dtype=pl.String)],
            max_size=6,
        )
    )
    for uri in new_uri(kind, tmp_path):
        write(uri, frame, "k")
        found = lp.scan(uri).collect()
        assert found.schema == frame.schema
        assert_same_rows(found, frame)
        for value in frame["k"].unique():
            same = pl.col("k").eq_missing(pl.lit(value, dtype=frame.schema["k"]))
            assert_same_rows(lp.scan(uri).filter(same).collect(), frame.filter(same))


# folders


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (["1", "2"], pl.Int64),
        (["1", "x"], pl.String),
        (["2024-01-01", None], pl.Date),
        (["true", "false"], pl.Boolean),
        (["1.5"], pl.Float64),
        ([None], pl.String),
        ([""], pl.String),
        (["a,b", "new\nline"], pl.String),
    ],
)
def test_types_of_folders_are_guessed_from_all_of_them(values: list[str | None], dtype: Any) -> None:
    assert hive.types([hive.folders(["k"], [v]) + "f.parquet" for v in values]) == {"k": dtype}


@given(st.lists(st.tuples(st.text(min_size=1), st.none() | st.text()), min_size=1, unique_by=lambda pair: pair[0]))
def test_any_text_can_be_a_folder(pairs: list[tuple[str, str | None]]) -> None:
    names, texts = zip(*pairs, strict=True)
    try:
        path = hive.folders(names, texts)
    except UnicodeEncodeError:  # lone surrogates are no text that Polars could hold
        return
    assert path.count("/") == len(pairs)
    assert hive.values("x=y/out/" + path + "f") == dict(pairs)
