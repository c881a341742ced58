"""Layouts as plain data, and data files of one commit that are read in different ways."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit, DataFile
from lazypipe.storage.optimizer.layout import CURVES, DEFAULT, Layout
from lazypipe.storage.sink import DatasetSink

NAMES = st.lists(st.text(min_size=1, max_size=4), max_size=3, unique=True).map(tuple)
NUMBER = st.none() | st.integers(1, 1 << 40)
LAYOUTS = st.builds(
    Layout,
    sort_by=NAMES,
    curve=st.sampled_from(CURVES),
    codec=st.sampled_from(["zstd", "lz4", "uncompressed"]),
    level=st.none() | st.integers(1, 22),
    codecs=st.dictionaries(st.text(max_size=3), st.tuples(st.sampled_from(["zstd", "gzip"]), st.none() | st.integers(1, 9))),
    encodings=st.dictionaries(st.text(max_size=3), st.sampled_from(["delta", "plain"])),
    row_group_rows=NUMBER,
    page_bytes=NUMBER,
    file_bytes=NUMBER,
    statistics=st.booleans(),
    bloom=NAMES,
    writer=st.sampled_from(["polars", "pyarrow"]),
    partition_by=NAMES,
)  # fmt: skip


@given(LAYOUTS, LAYOUTS)
def test_a_layout_comes_back_from_json_and_its_id_tells_it_from_others(one: Layout, other: Layout) -> None:
    assert Layout.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    assert hash(Layout.from_dict(one.to_dict())) == hash(one)
    assert (one.id == other.id) == (one == other)


def test_what_is_at_its_default_is_not_written() -> None:
    assert DEFAULT.to_dict() == {}
    assert Layout(statistics=False).to_dict() == {"statistics": False}


def commit_of(*files: DataFile, by: tuple[str, ...] = ()) -> Commit:
    schema = pl.Schema({"day": pl.Date(), "x": pl.Int64()})
    return Commit(1, "r", datetime(2026, 1, 1, tzinfo=UTC), "replace", schema, files, by)


def test_a_commit_says_how_a_file_was_written_where_a_reader_must_know() -> None:
    plain = commit_of(DataFile("a", 1, 1))
    encoded = commit_of(DataFile("a", 1, 1, layout=Layout(encodings={"x": "delta"})), DataFile("b", 1, 1))
    in_folders = commit_of(DataFile("day=2026-01-01/a", 1, 1, layout=Layout(partition_by=("day",))))
    assert "layouts" not in json.loads(plain.to_json())
    for commit in (plain, encoded, in_folders):
        assert Commit.from_json(commit.to_json(), "u") == commit


def test_files_of_one_commit_may_differ_in_their_partitions(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"day": ["2026-01-01", "2026-01-02", None], "x": [1, 2, 3]}, schema={"day": pl.String, "x": pl.Int64}
    )
    frame = frame.with_columns(pl.col("day").str.to_date())
    files: list[DataFile] = []
    for number, by in enumerate([(), ("day",), ("x",)]):
        made = DatasetSink(str(tmp_path / "d"), f"r-00{number}", by).write(
            frame.with_columns(pl.col("x") + 10 * number).lazy()
        )
        files += [DataFile(f.path, f.rows, f.bytes, layout=Layout(partition_by=by)) for f in made.files]
    dataset = Dataset(str(tmp_path / "d"))
    commit = dataset.commit(files, frame.schema, run="r", time=datetime(2026, 1, 1, tzinfo=UTC), partition_by=("day",))
    expected = pl.concat(frame.with_columns(pl.col("x") + 10 * n) for n in range(3))
    for found in (dataset.scan(commit), dataset.scan(dataset.read())):
        assert_frame_equal(found.collect(), expected, check_row_order=False)
    wanted = dataset.scan(commit).filter(pl.col("day") == pl.date(2026, 1, 2)).select("x").collect()
    assert sorted(wanted["x"]) == [2, 12, 22]
