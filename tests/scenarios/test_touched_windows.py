"""A late row makes anew the windows that it touches, of files with rows in them, whatever is computed."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.run.segment import figures
from tests.delivered import put, spoil

T0 = datetime(2024, 3, 1)
SCHEMA = {"at": pl.Datetime("us"), "site": pl.String, "x": pl.Int64}
DEFINITION = """
version: 1
name: touched
audit: "off"
sources: {readings: {uri: in/*.parquet, event_time: at}}
stages:
  made:
    from: readings
    do: [STEP]
outputs: {made: {to: out/made}}
"""
Row = tuple[datetime | None, str | None, int]


def deliver(root: Path, name: str, rows: list[Row], day: int) -> Path:
    return put(root / "in" / f"{name}.parquet", pl.DataFrame(rows, schema=SCHEMA, orient="row"), 1_710_000_000 + day)


def readings(day: int) -> list[Row]:
    """Return the readings of a day, one each two hours at three sites, and one without a time."""
    return [
        (T0 + timedelta(days=day, hours=2 * n), site, (7 * n + day) % 5) for n in range(12) for site in ("a", "b")
    ] + [(T0 + timedelta(days=day, hours=3), None, 9), (None, "a", 100)]


def run(root: Path, step: str) -> lp.RunResult:
    result = lp.Pipeline.from_yaml(DEFINITION.replace("STEP", step), base=str(root)).compile().run()
    result.raise_for_status()
    return result


def found(root: Path) -> dict[Any, Any]:
    rows = lp.scan(str(root / "out/made")).collect()
    keys = [c for c in rows.columns if c not in ("m", "n", "window_end", "session_end")]
    return {tuple(row[k] for k in keys): row["m"] for row in rows.iter_rows(named=True)}


def floor(at: datetime, hours: int) -> datetime:
    """Return where the window of so many hours begins, as all do at midnight of the first of March."""
    return T0 + (at - T0) // timedelta(hours=hours) * timedelta(hours=hours)


def wanted(rows: list[Row], windows: dict[str, tuple[int, int]], *, by: bool) -> dict[Any, float]:
    """Return the median of each window, ``every`` and ``period`` in hours, row by row; those of several kinds with their name."""
    held: dict[Any, list[int]] = {}
    for at, site, x in rows:
        if at is None:
            continue
        for name, (every, period) in windows.items():
            start = floor(at, every)
            while start + timedelta(hours=period) > at:
                key = (*((site,) if by else ()), *((name,) if len(windows) > 1 else ()), start)
                held.setdefault(key, []).append(x)
                start -= timedelta(hours=every)
    return {key: median(values) for key, values in held.items()}


@pytest.mark.parametrize("held", [figures._PAIRS, 4])
@pytest.mark.parametrize("by", [True, False])
@pytest.mark.parametrize(
    ("how", "windows"),
    [
        ("every: 4h", {"4h": (4, 4)}),
        ("every: 6h, period: 15h", {"6h": (6, 15)}),
        ("every: [6h, 1d]", {"6h": (6, 6), "1d": (24, 24)}),
    ],
)
def test_medians_of_windows_are_made_anew_of_files_with_rows_in_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    windows: dict[str, tuple[int, int]],
    held: int,
    *,
    by: bool,
) -> None:
    monkeypatch.setattr(figures, "_PAIRS", held)
    step = f"window: {{time: at, {how}, {'by: [site], ' if by else ''}aggregate: {{m: median(x), n: count(*)}}}}"
    rows = {day: readings(day) for day in range(6)}
    paths = [deliver(tmp_path, f"{day}", there, day) for day, there in rows.items()]
    run(tmp_path, step)
    assert found(tmp_path) == wanted([r for of in rows.values() for r in of], windows, by=by)
    # of what is far from the late row nothing is read: it cannot be any more (the first file tells the columns)
    for path in (paths[1], paths[5]):
        spoil(path)
    late: list[Row] = [(T0 + timedelta(days=3, minutes=30), "a", 50)]
    deliver(tmp_path, "late", late, 9)
    (segment,) = run(tmp_path, step).segments
    everything = wanted([r for of in rows.values() for r in of] + late, windows, by=by)
    assert found(tmp_path) == everything
    changed = wanted(late, windows, by=by)
    assert segment.written == len(changed) < len(everything) / 4
    assert f"; {len(changed)} group{'s' * (len(changed) > 1)} touched, of " in segment.why


@pytest.mark.parametrize(
    "step",
    [
        "window: {time: at, every: 6h, period: 15h, by: site, aggregate: {m: sum(x)}}",
        "session: {time: at, gap: 1h, by: site, aggregate: {m: sum(x)}}",
    ],
)
def test_of_windows_that_share_rows_and_of_sessions_those_are_made_anew_that_late_rows_lie_in(
    tmp_path: Path, step: str
) -> None:
    for day in range(3):
        deliver(tmp_path, f"{day}", readings(day), day)
    run(tmp_path, step)
    before = found(tmp_path)
    deliver(tmp_path, "late", [(T0 + timedelta(days=1, minutes=30), None, 50)], 9)
    (segment,) = run(tmp_path, step).segments
    after = found(tmp_path)
    touched = {k for k in after if after[k] != before.get(k)}
    assert segment.written == len(touched) < len(after) / 4
    assert segment.why.startswith(f"readings: 1 added, 3 unchanged; {len(touched)} group")
    for day in range(3):
        deliver(tmp_path / "full", f"{day}", readings(day), day)
    deliver(tmp_path / "full", "late", [(T0 + timedelta(days=1, minutes=30), None, 50)], 9)
    run(tmp_path / "full", step)
    assert after == found(tmp_path / "full")
    assert {k[0] for k in touched} == {None}


@pytest.mark.parametrize("every", ["4h", "[4h, 1d]"])
def test_medians_of_windows_are_traced_and_have_lineage(tmp_path: Path, every: str) -> None:
    deliver(tmp_path, "0", readings(0), 0)
    step = f"window: {{time: at, every: {every}, by: site, aggregate: {{m: median(x)}}}}"
    run(tmp_path, step)
    plan = lp.Pipeline.from_yaml(DEFINITION.replace("STEP", step), base=str(tmp_path)).compile()
    key = {"site": "a", "window_start": T0 + timedelta(hours=4), **({} if every == "4h" else {"window": "4h"})}
    found = plan.trace("made", key)
    (rows,) = (of.rows for of in found.sources.values())
    assert rows is not None
    assert rows["at"].sort().to_list() == [T0 + timedelta(hours=h) for h in (4, 6)]
    assert rows["site"].unique().to_list() == ["a"]
    assert found.exact
    assert {str(c) for c in plan.lineage().upstream("made.m").columns} >= {"readings.x", "readings.at"}
    # a preview names the columns as the output does
    deliver(tmp_path, "1", readings(1), 1)
    (preview,) = plan.preview()
    assert "__lazypipe" not in preview["why"]
    assert preview["why"].endswith("window_start are read again")


def test_times_in_nanoseconds_go_by_their_groups(tmp_path: Path) -> None:
    schema = {**SCHEMA, "at": pl.Datetime("ns")}
    rows = pl.DataFrame(readings(0), schema=SCHEMA, orient="row").cast(schema)  # type: ignore[arg-type]
    (tmp_path / "in").mkdir()
    rows.write_parquet(tmp_path / "in/0.parquet")
    step = "window: {time: at, every: 4h, by: site, aggregate: {m: median(x)}}"
    run(tmp_path, step)
    assert found(tmp_path) == wanted(readings(0), {"4h": (4, 4)}, by=True)
    pl.DataFrame([(T0, None, 50)], schema=SCHEMA, orient="row").cast(schema).write_parquet(tmp_path / "in/1.parquet")  # type: ignore[arg-type]
    (segment,) = run(tmp_path, step).segments
    assert segment.why.endswith("1 group touched, of 13 rows")
    assert found(tmp_path) == wanted([*readings(0), (T0, None, 50)], {"4h": (4, 4)}, by=True)
