"""Text with times that nanoseconds do not reach: Polars' readers would take the years for others, in silence."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import lazypipe as lp

DEFINITION = """
version: 1
name: nanoseconds
sources:
  r: {uri: "in/*.EXT", contract: {columns: {at: "DTYPE", k: String}MORE}}
stages:
  made: {from: r, do: [{filter: k IS NOT NULL}]}
outputs: {made: {to: out/made}}
"""
FINE = "2262-04-11T23:47:16.854775806"


def deliver(root: Path, ext: str, *times: str) -> None:
    folder = root / "in"
    folder.mkdir(exist_ok=True)
    if ext == "csv":
        text = "at,k\n" + "".join(f"{t},a\n" for t in times)
    else:
        text = "".join(json.dumps({"at": t, "k": "a"}) + "\n" for t in times)
    (folder / f"{len(list(folder.iterdir()))}.{ext}").write_text(text)


def run(root: Path, ext: str, dtype: str = "Datetime(ns)", more: str = "") -> lp.RunResult:
    text = DEFINITION.replace("EXT", ext).replace("DTYPE", dtype).replace("MORE", more)
    return lp.Pipeline.from_yaml(text, base=str(root)).compile().run()


def times(root: Path) -> list[Any]:
    return lp.scan(str(root / "out/made")).collect()["at"].sort().to_physical().to_list()


@pytest.mark.parametrize("ext", ["csv", "ndjson"])
@pytest.mark.parametrize("dtype", ["Datetime(ns)", "Datetime(ns, UTC)", "Datetime(ns, Asia/Kolkata)"])
def test_what_nanoseconds_reach_is_read_to_the_nanosecond(tmp_path: Path, ext: str, dtype: str) -> None:
    deliver(tmp_path, ext, FINE, "1677-09-21T00:12:44", "2024-02-29T12:00:00.000000001")
    run(tmp_path, ext, dtype).raise_for_status()
    seconds = int(datetime(2024, 2, 29, 12, tzinfo=UTC).timestamp())
    # 2 to the 63 nanoseconds end one later
    assert times(tmp_path) == [-9_223_372_036 * 10**9, seconds * 10**9 + 1, 2**63 - 2]
    assert lp.scan(str(tmp_path / "out/made")).collect_schema()["at"].time_unit == "ns"  # type: ignore[attr-defined]


@pytest.mark.parametrize("ext", ["csv", "ndjson"])
@pytest.mark.parametrize("more", ["", ", on_type_change: evolve", ", on_type_change: freeze"])
@pytest.mark.parametrize("year", [1600, 2300, 9999])
def test_what_they_do_not_reach_stops_the_run_with_its_file(tmp_path: Path, ext: str, more: str, year: int) -> None:
    deliver(tmp_path, ext, FINE)
    deliver(tmp_path, ext, FINE, f"{year}-02-28T00:00:00")
    result = run(tmp_path, ext, more=more)
    with pytest.raises(
        lp.LazypipeError, match=f"1.{ext}: source 'r': column 'at' has 1 value that is not a valid .*'{year}-02-28T"
    ):
        result.raise_for_status()
    assert not (tmp_path / "out/made.commits").exists()


@pytest.mark.parametrize("ext", ["csv", "ndjson"])
def test_or_is_put_aside_where_that_is_asked_for(tmp_path: Path, ext: str) -> None:
    deliver(tmp_path, ext, FINE, "2300-02-28T00:00:00")
    run(tmp_path, ext, more=", on_type_change: discard_row").raise_for_status()
    assert times(tmp_path) == [2**63 - 2]
    (aside,) = lp.scan(str(tmp_path / ".lazypipe/quarantine/nanoseconds/r")).collect()["_lazypipe_raw"]
    assert json.loads(aside) == {"at": "2300-02-28T00:00:00"}


def test_a_new_file_with_another_column_is_told_as_ever(tmp_path: Path) -> None:
    deliver(tmp_path, "csv", FINE)
    run(tmp_path, "csv").raise_for_status()
    (tmp_path / "in/1.csv").write_text("at,k,new\n2024-01-01T00:00:00,a,1\n")
    with pytest.raises(lp.LazypipeError, match="1.csv"):
        run(tmp_path, "csv").raise_for_status()
