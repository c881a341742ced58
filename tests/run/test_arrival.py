"""What a run knows of event times before it reads rows: from commits, footers, one column, or on the way."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.compile.sources.source import BoundSource
from lazypipe.run.arrival import Counter, arrived
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.files import FileInfo
from lazypipe.windows.watermark import Extent

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def source_of(root: Path, fmt: str, dtype: str = "Datetime(us)", **watermark: Any) -> tuple[lp.Plan, BoundSource]:
    pipe = lp.pipeline("p", base=str(root)).source(
        "a",
        f"in/*.{fmt}",
        event_time="t",
        watermark={"delay": "0s", **watermark},
        contract={"columns": {"t": dtype, "k": "String"}},
    )
    plan = pipe.output("a", "out/a").build().compile()
    source = plan.nodes["a"].source
    assert source is not None
    return plan, source


def us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)


@pytest.mark.parametrize("unit", ["ms", "us", "ns", "date"])
@pytest.mark.parametrize("fmt", ["parquet", "ipc"])
def test_times_are_those_of_the_file(tmp_path: Path, fmt: str, unit: str) -> None:
    (tmp_path / "in").mkdir()
    low, high = datetime(2024, 1, 3), datetime(2024, 2, 5)
    dtype = pl.Date() if unit == "date" else pl.Datetime(unit)  # type: ignore[arg-type]
    frames = {"1": [low, None, high], "2": [None], "3": [], "4": [high, datetime(2200, 1, 1)]}
    for name, times in frames.items():
        frame = pl.DataFrame({"t": times, "k": ["a"] * len(times)}, schema={"t": pl.Datetime("us"), "k": pl.String})
        frame = frame.with_columns(pl.col("t").cast(dtype))
        path = tmp_path / "in" / f"{name}.{fmt}"
        frame.write_parquet(path) if fmt == "parquet" else frame.write_ipc(path)
    plan, source = source_of(tmp_path, fmt, "Date" if unit == "date" else f"Datetime({unit})")
    found = arrived(plan, source, source.snapshot(), NOW, last=True).arrivals
    both, top = Extent(us(low), us(high)), Extent(us(high), us(high))
    assert [dict(a.extents or {}) for a in found.values()] == [{"": both}, {}, {}, {"": top}]
    ahead = arrived(plan, source, source.snapshot(), NOW).arrivals
    assert [a.extents is None for a in ahead.values()] == [False, False, False, True]
    assert [dict(a.before) for a in ahead.values()] == [{}, *[{"": us(high)}] * 3]


def test_times_that_were_read_are_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "12":
        (tmp_path / f"in/{name}.csv").write_text(f"t,k\n2024-01-0{name}T00:00:00,a\n")
    plan, source = source_of(tmp_path, "csv")
    seen: dict[FileInfo, Any] = {}
    first = arrived(plan, source, source.snapshot(), NOW, seen)
    (tmp_path / "in/1.csv").rename(tmp_path / "gone")
    assert arrived(plan, source, first, NOW, seen).arrivals == first.arrivals


def test_the_order_of_stamps_needs_stamps(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/1.csv").write_text("t,k\n2024-01-01T00:00:00,a\n")
    plan, source = source_of(tmp_path, "csv", order="stamp")
    snapshot = source.snapshot()
    without = replace(snapshot, files=(snapshot.files[0]._replace(stamp=None),))
    with pytest.raises(lp.SourceError) as found:
        arrived(plan, source, without, NOW)
    assert str(found.value) == (
        f"{tmp_path}/in/1.csv: source 'a': its storage does not say when it was written, and order: stamp needs that"
        "; write order: name, or use a column with the arrival time"
    )


def test_files_that_went_and_are_ignored_have_moved_the_watermark(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "123":
        (tmp_path / f"in/{name}.csv").write_text(f"t,k\n2024-01-0{4 - int(name)}T00:00:00,a\n")
    text = """
version: 1
name: p
sources:
  a: {uri: in/*.csv, event_time: t, watermark: {delay: 0s}, on_removed: ignore, contract: {columns: {t: Datetime(us), k: String}}}
outputs: {a: {to: out/a}}
"""
    for _ in range(2):
        lp.Pipeline.from_yaml(text, base=str(tmp_path)).compile().run().raise_for_status()
        rows = lp.scan(str(tmp_path / "out/a")).sort("t").collect()
        assert rows["_watermark"].to_list() == [datetime(2024, 1, 3), datetime(2024, 1, 3), datetime(1, 1, 1)]
        (tmp_path / "in/1.csv").unlink(missing_ok=True)


@pytest.mark.parametrize("fmt", ["csv", "parquet"])
def test_a_corrupt_file_moves_nothing(tmp_path: Path, fmt: str) -> None:
    (tmp_path / "in").mkdir()
    for day in (3, 9, 2, 1):
        path = tmp_path / f"in/{9 if day == 9 else 4 - day}.{fmt}"
        frame = pl.DataFrame({"t": [datetime(2024, 1, day)], "k": ["a"]})
        frame.write_csv(path) if fmt == "csv" else frame.write_parquet(path)
    (tmp_path / f"in/9.{fmt}").rename(tmp_path / f"in/15.{fmt}")
    bad = tmp_path / f"in/15.{fmt}"
    bad.write_bytes(b"t,k\nwhen,a\n" if fmt == "csv" else bad.read_bytes()[:-20])
    pipe = lp.pipeline("p", base=str(tmp_path)).source(
        "a",
        f"in/*.{fmt}",
        event_time="t",
        watermark={"delay": "0s"},
        on_corrupt="skip",
        contract={"columns": {"t": "Datetime(us)", "k": "String"}},
    )
    plan = pipe.output("a", "out/a").build().compile()
    plan.run().raise_for_status()
    rows = lp.scan(str(tmp_path / "out/a")).sort("t").collect()
    assert rows["_watermark"].to_list() == [datetime(2024, 1, 3), datetime(2024, 1, 3), datetime(1, 1, 1)]
    assert plan.run().status == "unchanged"


def test_times_are_counted_while_rows_flow_by(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/1.csv").write_text("t,k\n2024-01-01T00:00:00,a\n")
    plan, source = source_of(tmp_path, "csv", by="k")
    snapshot = arrived(plan, source, source.snapshot(), NOW)
    (uri,) = snapshot.arrivals
    counter = Counter(source, snapshot, {7: uri}, "n")
    times = [datetime(2024, 1, 5), datetime(2024, 1, 2), None, datetime(2300, 1, 1), datetime(2024, 1, 9)]
    rows = pl.DataFrame({"t": times, "k": ["a", "a", "a", "b", None], "n": [7, 7, 7, 7, 8]})
    for part in (rows, rows.with_columns(n=pl.lit(7))):
        assert counter.attach(part.lazy()).collect().equals(part)
    expected = {
        "=a": Extent(us(times[1] or NOW), us(times[0] or NOW)),
        "": Extent(us(datetime(2024, 1, 9)), us(datetime(2024, 1, 9))),
    }
    assert counter.found == {uri: expected}


def test_dates_are_days(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/1.csv").write_text("t,k\n2024-01-05,a\n")
    (tmp_path / "in/2.csv").write_text("t,k\n2024-01-04,a\n")
    plan, _ = source_of(tmp_path, "csv", "Date", delay="36h")
    plan.run().raise_for_status()
    rows = lp.scan(str(tmp_path / "out/a")).sort("t").collect()
    assert rows["_watermark"].to_list() == [date(2024, 1, 3), date(1, 1, 1)]
    commit = Dataset(str(tmp_path / "out/a")).latest()
    assert commit is not None
    assert [times for _, _, times, _ in commit.info["consumed"]["arrivals"]["a"]["files"]] == [
        {"": [us(datetime(2024, 1, d))] * 2} for d in (5, 4)
    ]


@pytest.mark.parametrize("by", [{}, {"by": "k"}], ids=["whole", "by"])
@pytest.mark.parametrize("unit", ["Date", "Datetime(ms)", "Datetime(us)", "Datetime(ns)"])
def test_what_is_counted_on_the_way_is_what_reading_ahead_finds(tmp_path: Path, unit: str, by: dict[str, str]) -> None:
    (tmp_path / "in").mkdir()
    times = [
        datetime(1969, 12, 30, 12, 0, 0, 1),
        datetime(1970, 1, 2),
        None,
        datetime(2024, 5, 6, 7),
        datetime(2199, 1, 1),
    ]
    for name, some in {"1": times, "2": times[2:], "3": times[2:3], "4": times[:2]}.items():
        frame = pl.DataFrame(
            {"t": some, "k": [*"abab"[: len(some) - 1], None]}, schema={"t": pl.Datetime, "k": pl.String}
        )
        dtype = {"Date": pl.Date(), "Datetime(ms)": pl.Datetime("ms"), "Datetime(ns)": pl.Datetime("ns")}.get(unit)
        frame.with_columns(pl.col("t").cast(dtype or pl.Datetime("us"))).write_ipc(tmp_path / "in" / f"{name}.ipc")
    plan, source = source_of(tmp_path, "ipc", unit, **by)
    snapshot = source.snapshot()
    read = arrived(plan, source, snapshot, NOW, last=True)
    counter = Counter(source, read, dict(enumerate(read.arrivals)), "n")
    parts = [source.scan(replace(read, files=(f,))).with_columns(n=pl.lit(n)) for n, f in enumerate(snapshot.files)]
    counter.attach(pl.concat(parts)).collect(engine="streaming")
    for batch in pl.collect_all([parts[1], pl.concat(parts), parts[0].head(0), parts[0].with_columns(n=pl.lit(9))]):
        assert counter._count(batch) is batch
    assert counter.found == {uri: a.extents for uri, a in read.arrivals.items()}
    assert [t.within for t in counter.found.values()] == [False, False, True, True]
    if unit == "Datetime(us)" and not by:
        assert [dict(t) for t in counter.found.values()] == [
            {"": Extent(us(datetime(1969, 12, 30, 12, 0, 0, 1)), us(datetime(2024, 5, 6, 7)))},
            {"": Extent(us(datetime(2024, 5, 6, 7)), us(datetime(2024, 5, 6, 7)))},
            {},
            {"": Extent(us(datetime(1969, 12, 30, 12, 0, 0, 1)), us(datetime(1970, 1, 2)))},
        ]
