"""How many files hold the same values, counted from footers, against Python's count of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.errors import SourceError
from lazypipe.storage.datasets.data_files import find_odd
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.optimizer.forms import Cast, Whole
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.optimizer.maintenance import recluster
from lazypipe.storage.optimizer.overlap import depth, overlaps
from lazypipe.storage.sink import DatasetSink

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def committed(
    folder: Path, frames: Sequence[pl.DataFrame], layout: Layout, by: tuple[str, ...] = (), **info: Any
) -> tuple[Dataset, Commit]:
    dataset = Dataset(str(folder))
    files = [
        f for i, frame in enumerate(frames) for f in DatasetSink(dataset.uri, f"w-{i:03}", by, layout=layout).write(frame.lazy()).files
    ]  # fmt: skip
    schema = frames[0].schema
    files = [*find_odd(dataset.uri, files, schema)]
    said = {"optimize": {"goal": None, "layout": layout.to_dict(), "reasons": []}, **info}
    return dataset, dataset.commit(files, schema, run="w", time=NOW, partition_by=by, info=said)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted), max_size=6))
def test_depth_is_what_a_count_of_values_gives(ranges: list[list[int]]) -> None:
    def others(first: int, last: int) -> int:
        """Count those that an order would have kept from holding the first value: it may end a file, and fill several."""
        if first == last:
            return sum(low < first < high for low, high in ranges)
        return sum(low <= first < high for low, high in ranges) - 1

    counted = [1 + others(*each) for each in ranges]
    expected = sum(counted) / len(counted) if counted else 0.0
    assert depth([((low,), (high,)) for low, high in ranges]) == pytest.approx(expected)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 9))
def test_files_of_rows_in_order_are_apart_however_many_hold_one_value(values: list[int], size: int) -> None:
    rows = sorted(values)
    files = [rows[i : i + size] for i in range(0, len(rows), size)]
    assert depth([((f[0],), (f[-1],)) for f in files]) == 1.0


@given(st.lists(st.integers(0, 99), min_size=4, max_size=60), st.integers(2, 5))
def test_files_that_hold_the_same_are_not(values: list[int], files: int) -> None:
    low, high = min(values), max(values)
    assert depth([((low,), (high,))] * files) == (files if low < high else 1.0)
    assert depth([((low, 0), (high, 9))] * files) == files


def test_files_are_counted_by_partition_and_column(tmp_path: Path) -> None:
    frames = [
        pl.DataFrame({"p": ["a"] * 4 + ["b"] * 2, "x": [1, 9, 5, 5, 1, 2], "y": [1, 1, 9, 9, 5, 5]}),
        pl.DataFrame({"p": ["a"] * 2 + ["b"] * 2, "x": [2, 3, 3, 4], "y": [20, 30, 5, 5]}),
    ]
    one = Layout(sort_by=("x",))
    dataset, commit = committed(tmp_path / "d", frames, one, ("p",))
    assert overlaps(dataset, commit, one) == {"p=a": 1.5, "p=b": 1.0}
    assert overlaps(dataset, commit, Layout(sort_by=("p", "x"))) == {"p=a": 1.5, "p=b": 1.0}
    # along a curve files are apart that are so in any of its columns
    assert overlaps(dataset, commit, Layout(sort_by=("x", "y"), curve="hilbert")) == {"p=a": 1.0, "p=b": 1.0}
    assert overlaps(dataset, commit, Layout()) == {}


@pytest.mark.parametrize(
    ("form", "values", "expected"),
    [
        (Cast(pl.Int32()), [[1, 5], [2, 3]], 1.5),
        (Cast(pl.Int32()), [[1, 2**40], [2, 3]], 1.0),  # what is odd is not in the bounds: that file is not counted
        (Whole(pl.Int32(), 2), [[2, 6], [4, 4]], 0.0),  # bounds are those of something else
        (None, [[None, None], [4, 4]], 1.0),
    ],
)
def test_only_bounds_that_are_those_of_values_count(
    tmp_path: Path, form: Any, values: list[list[int | None]], expected: float
) -> None:
    layout = Layout(forms={"x": form} if form else {})
    frames = [pl.DataFrame({"x": pl.Series(v, dtype=pl.Int64)}) for v in values]
    dataset, commit = committed(tmp_path / "d", frames, layout)
    assert overlaps(dataset, commit, Layout(sort_by=("x",))) == {"": expected}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    frames = [pl.DataFrame({"x": [1]})] * 2
    dataset, commit = committed(tmp_path / "d", frames, Layout(sort_by=("x",)))
    (tmp_path / "d" / commit.files[1].path).write_bytes(b"broken")
    with pytest.raises(SourceError, match=commit.files[1].path):
        recluster(dataset, 1, run="m", time=NOW)


def test_only_partitions_that_are_out_of_order_are_written_anew(tmp_path: Path) -> None:
    frames = [pl.DataFrame({"p": ["a", "a", "b"], "x": [i, 10 - i, i]}) for i in range(4)]
    dataset, commit = committed(tmp_path / "d", frames, Layout(sort_by=("x",)), ("p",))
    made = recluster(dataset, 2, run="m", time=NOW)
    assert made is not None
    assert {f.path.split("/")[0] for f in made.replaced} == {"p=a"}
    assert made.tasks[0].why == "2.5 files of p=a hold the same x"
    after = dataset.read()
    assert [f for f in after.files if f.path.startswith("p=b")] == [f for f in commit.files if f.path.startswith("p=b")]
    assert lp_rows(dataset, "p=a") == sorted(x for i in range(4) for x in (i, 10 - i))
    assert recluster(dataset, 2, run="n", time=NOW) is None


def lp_rows(dataset: Dataset, folder: str) -> list[int]:
    """Return the values in a folder, in the order of its files."""
    commit = dataset.read()
    return [
        x for f in commit.files if f.path.startswith(folder)
        for x in pl.read_parquet(f"{dataset.uri}/{f.path}", hive_partitioning=False)["x"].to_list()
    ]  # fmt: skip


def test_what_a_pipeline_has_ordered_is_left(tmp_path: Path) -> None:
    frames = [pl.DataFrame({"x": [1, 2]})] * 3
    dataset, _ = committed(tmp_path / "d", frames, Layout(sort_by=("x",)), ordered=True)
    assert recluster(dataset, 1, run="m", time=NOW) is None
    other, _ = committed(tmp_path / "e", frames, Layout())
    assert recluster(other, 1, run="m", time=NOW) is None
