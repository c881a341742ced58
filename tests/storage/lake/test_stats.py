"""Statistics of files against the values in them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazypipe.storage.lake.stats import MOST_COLUMNS, of_file, said
from lazypipe.storage.parquet.prune import Bounds

FEW = settings.get_profile("few")


def told(path: Path, frame: pl.DataFrame, **options: Any) -> dict[str, Any]:
    frame.write_parquet(path, **options)
    found: dict[str, Any] = json.loads(of_file(str(path), frame.height, frame.schema, {}))
    return found


def test_values_of_each_type(tmp_path: Path) -> None:
    aware = datetime(2024, 1, 1, 12, 0, 0, 1, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "n": pl.Series([3, None, -5], dtype=pl.Int16),
            "name": ["b", "a", None],
            "kind": pl.Series(["y", "x", "y"], dtype=pl.Categorical),
            "day": [date(2024, 1, 2), date(1969, 12, 31), None],
            "at": [aware, None, aware + timedelta(seconds=1)],
            "seen": pl.Series([datetime(1969, 12, 31, 23, 59, 59, 999_999)] * 3, dtype=pl.Datetime("us")),
            "ms": pl.Series([datetime(2024, 1, 1)] * 3, dtype=pl.Datetime("ms")),
            "x": [1.0, float("nan"), None],
            "ok": [True, None, None],
            "none": pl.Series([None] * 3, dtype=pl.Int64),
            "list": [[1], None, []],
        }
    )
    found = told(tmp_path / "a.parquet", frame)
    assert found["numRecords"] == 3
    assert found["nullCount"] == {
        "n": 1, "name": 1, "kind": 0, "day": 1, "at": 1, "seen": 0, "ms": 0, "x": 1, "ok": 2, "none": 3,
    }  # fmt: skip
    assert found["minValues"] == {
        "n": -5,
        "name": "a",
        "kind": "x",
        "day": "1969-12-31",
        "at": "2024-01-01T12:00:00.000Z",
        "seen": "1969-12-31T23:59:59.999",
        "ms": "2024-01-01T00:00:00.000",
    }
    assert found["maxValues"] == {
        "n": 3,
        "name": "b",
        "kind": "y",
        "day": "2024-01-02",
        "at": "2024-01-01T12:00:01.001Z",
        "seen": "1970-01-01T00:00:00.000",
        "ms": "2024-01-01T00:00:00.000",
    }


def test_long_texts_and_cut_ones_are_no_bounds() -> None:
    schema = {"a": pl.String(), "b": pl.String()}
    found = said(1, {"a": Bounds(b"a", b"z" * 257, 0, 1), "b": Bounds(b"a", "é".encode()[:1], None, 1)}, schema)
    assert json.loads(found) == {"numRecords": 1, "nullCount": {"a": 0}}


def test_times_that_no_calendar_has() -> None:
    schema = {"d": pl.Date(), "t": pl.Datetime("us")}
    far = Bounds(0, 2**60, 0, 1)
    assert json.loads(said(1, {"d": far._replace(high=10**7), "t": far}, schema))["nullCount"] == {"d": 0, "t": 0}
    assert "maxValues" not in json.loads(said(1, {"d": far._replace(high=10**7), "t": far}, schema))


def test_row_groups_of_which_one_tells_nothing(tmp_path: Path) -> None:
    found = told(tmp_path / "a.parquet", pl.DataFrame({"x": [None, None, 5, 7]}), row_group_size=2)
    assert found == {"numRecords": 4, "minValues": {"x": 5}, "maxValues": {"x": 7}, "nullCount": {"x": 2}}
    assert told(tmp_path / "b.parquet", pl.DataFrame({"x": [1]}), statistics=False) == {"numRecords": 1}
    assert said(1, {"x": None}, {"x": pl.Int64()}) == '{"numRecords":1}'


def test_files_that_cannot_be_read_tell_their_rows(tmp_path: Path) -> None:
    assert of_file(str(tmp_path / "gone.parquet"), 7, {"x": pl.Int64()}, {}) == '{"numRecords":7}'


def test_the_first_columns_only(tmp_path: Path) -> None:
    frame = pl.DataFrame({f"c{n}": [n] for n in range(MOST_COLUMNS + 5)})
    assert list(told(tmp_path / "a.parquet", frame)["minValues"]) == [f"c{n}" for n in range(MOST_COLUMNS)]


@FEW
@given(
    values=st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.text(max_size=80),
            st.none() | st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_no_value_lies_outside(tmp_path_factory: pytest.TempPathFactory, values: list[Any]) -> None:
    schema = {"n": pl.Int64(), "s": pl.String(), "t": pl.Datetime("us")}
    frame = pl.DataFrame(values, schema=schema, orient="row")
    path = tmp_path_factory.mktemp("stats") / "a.parquet"
    found = told(path, frame, row_group_size=7)
    for name in schema:
        there = frame[name].drop_nulls().to_list()
        assert found["nullCount"][name] == frame[name].null_count()
        for bound, inside in (("minValues", lambda b, v: b <= v), ("maxValues", lambda b, v: v <= b)):
            if name in found.get(bound, {}):
                text = found[bound][name]
                # texts are compared by their bytes
                known = datetime.fromisoformat(text) if name == "t" else text.encode() if name == "s" else text
                assert all(inside(known, v.encode() if name == "s" else v) for v in there)
