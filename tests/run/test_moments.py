"""Moments in CSV files: whatever way they are written in, a run ends in the rows that Polars' reader gives."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import lazypipe as lp

TYPES = {"n": pl.Int64(), "t": pl.Datetime("us", "UTC"), "u": pl.Datetime("us")}


def pipe(base: Path) -> lp.Pipeline:
    contract = {"columns": {"t": "Datetime(us, UTC)", "u": "Datetime(us)"}}
    return (
        lp.pipeline("p", base=str(base), audit="off")
        .source("rows", "rows-*.csv", contract=contract)
        .stage("all", "rows", do=[{"derive": {"twice": "n * 2"}}])
        .output("all", "out")
        .build()
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["2013-01-01T05:00:00Z", "2013-01-01T06:00:00.5+02:00"], ["2013-01-01T07:00:00Z"]),
        (
            ["01/02/2013 10:00", ""],
            ["2013-01-01T05:00:00Z"],
        ),  # the first row: read by Polars' reader from the beginning
        (["2013-01-01T05:00:00Z"], ["01/02/2013 10:00"]),  # a later one: read once more
    ],
)
def test_rows_are_those_of_the_reader(tmp_path: Path, first: list[str], second: list[str]) -> None:
    for name, moments in (("a", first), ("b", second)):
        lines = [f"{n},{m},{m}\n" for n, m in enumerate(moments)]
        (tmp_path / f"rows-{name}.csv").write_text("n,t,u\n" + "".join(lines))
    pipe(tmp_path).compile().run().raise_for_status()
    expected = pl.read_csv(tmp_path / "rows-*.csv", schema=TYPES).with_columns(twice=pl.col("n") * 2)
    assert sorted(lp.scan(str(tmp_path / "out")).collect().rows(), key=repr) == sorted(expected.rows(), key=repr)
    assert len(list((tmp_path / "out").rglob("*.parquet"))) == 1  # nothing is left of the first try


def test_what_is_no_moment_is_told_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "rows-a.csv").write_text("n,t,u\n1,2013-01-01T05:00:00Z,\n2,2013-02-30T05:00:00Z,\n")
    (found,) = pipe(tmp_path).compile().run().segments
    assert found.status == "error"
    assert "rows-a.csv" in str(found.error)
    assert "2013-02-30T05:00:00Z" in str(found.error)
    assert "line 3" in str(found.error)
    assert lp.history(str(tmp_path / "out")).is_empty()


@pytest.mark.parametrize(
    "files",
    [
        [[("2013-01-01T05:00:00Z", 5), ("2013-01-01T06:00:00+02:00", 4)]],
        [[("2013-01-01T05:00:00Z", 5)], [("01/01/2013 10:00", 10)]],  # left to the reader
        [[("2013-01-01T05:00:00", 5), ("2013-01-01T06:00:00Z", 6)]],  # refused by the reader: each for itself
    ],
)
def test_moments_that_rows_are_joined_with(tmp_path: Path, files: list[list[tuple[str, int]]]) -> None:
    """What the other side holds is read as the rows of a run are, so that a change there is told by key."""
    made = lp.pipeline("p", base=str(tmp_path), audit="off").source("rows", "rows-*.csv")
    made = made.source("times", "times-*.csv", contract={"columns": {"k": "Int64", "t": "Datetime(us, UTC)"}})
    made = made.stage("s", "rows", do=[{"join": {"with": "times", "on": "k", "how": "left"}}]).output("s", "out")
    for n in range(3):
        (tmp_path / f"rows-{n}.csv").write_text(f"k\n{n}\n")
    hours: dict[int, int | None] = dict.fromkeys(range(3))
    for more, why in (
        ([], "nothing was committed yet"),
        ([("2013-01-01T07:00:00Z", 7)], "(1 key changed): 1 of 3 files of rows"),
    ):
        for number, lines in enumerate([*files, more]):
            start = sum(map(len, files[:number]))
            hours |= {n: hour for n, (_, hour) in enumerate(lines, start)}
            text = "".join(f"{n},{moment}\n" for n, (moment, _) in enumerate(lines, start))
            (tmp_path / f"times-{number}.csv").write_text("k,t\n" + text)
        result = made.build().compile().run()
        result.raise_for_status()
        assert why in str(result.segments[0].why)
        rows = lp.scan(str(tmp_path / "out")).select("k", pl.col("t").dt.hour()).sort("k").collect().rows()
        assert rows == [*hours.items()]
