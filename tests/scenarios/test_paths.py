"""Where a dataset's URI is asked for, a path will do; where a source's is, whatever fsspec understands."""

from __future__ import annotations

import io
import uuid
import zipfile
from pathlib import Path

import fsspec
import pytest

import lazypipe as lp


def test_paths_are_as_good_as_texts(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pipe = lp.pipeline("p", base=tmp_path).source("a", tmp_path / "in/*.csv").output("a", tmp_path / "out").build()
    for number in (1, 2):
        (tmp_path / f"in/{number}.csv").write_text(f"x\n{number}\n")
        pipe.compile().run().raise_for_status()
    out = tmp_path / "out"
    assert sorted(lp.scan(out).collect()["x"]) == [1, 2]
    assert lp.history(out)["version"].to_list() == [1, 2]
    assert lp.diff((out, 1), out, key="x").inserted["x"].to_list() == [2]
    assert lp.optimize.rewrite(out, "read", dry_run=True).uri == str(out)
    assert lp.optimize.compact(out, dry_run=True).uri == str(out)
    assert lp.rollback(out, version=1) == 3
    assert lp.publish_delta(out) > 0
    before = {f.name for f in out.glob("*.parquet")}
    gone = lp.vacuum(out)
    assert len(gone) == 1
    assert {*gone} == before - {f.name for f in out.glob("*.parquet")}
    assert lp.ledger(tmp_path / ".lazypipe/ledger").verify(datasets=[str(out)]).ok


def test_what_is_done_to_a_dataset_is_recorded_as_of_its_pipeline_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = lp.pipeline("p", base=tmp_path).source("a", "*.csv").output("a", "out").build()
    for number in (1, 2):
        (tmp_path / f"{number}.csv").write_text(f"x\n{number}\n")
        pipe.compile().run().raise_for_status()
    monkeypatch.chdir(tmp_path)
    assert lp.rollback("out", version=1) == 3
    assert lp.optimize.rewrite("out", lp.optimize.Layout(sort_by=("x",))).record is not None
    output = lp.audit_report(pipe, "a").to_dict()["output"]
    assert (output["uri"], output["version"]) == (str(tmp_path / "out"), 4)
    assert lp.ledger(".lazypipe/ledger").verify(datasets=[str(tmp_path / "out")]).ok
    assert {h.uri for h in lp.ledger(".lazypipe/ledger").containing("1.csv")} == {str(tmp_path / "out")}


@pytest.mark.parametrize(
    "uri",
    [
        "simplecache::{}/*.csv",
        "simplecache::{}/a.csv",
        "filecache::{}/*.csv",
        "zip://*.csv::{}/all.zip",
        "zip://*.csv::simplecache::{}/all.zip",
    ],
)
def test_caches_and_archives_are_listed_and_give_what_files_hold_now(tmp_path: Path, uri: str) -> None:
    fs, root = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}"

    def put(text: str) -> None:
        fs.pipe_file(f"{root}/a.csv", text.encode())
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr(zipfile.ZipInfo("a.csv"), text)  # of the same time and size, whatever it holds
        fs.pipe_file(f"{root}/all.zip", packed.getvalue())

    options = {"filecache": {"cache_storage": str(tmp_path / "cache")}} if uri.startswith("filecache") else {}
    pipe = (
        lp.pipeline("p", base=tmp_path)
        .source("a", uri.format(f"memory:/{root}"), storage_options=options)
        .output("a", "out")
        .build()
    )
    for rows in (["1", "2"], ["3", "4"]):
        put("\n".join(["x", *rows]) + "\n")
        assert pipe.compile().run().status == "done"
        assert lp.scan(tmp_path / "out").collect()["x"].to_list() == [int(x) for x in rows]
        assert pipe.compile().run().status == "unchanged"


@pytest.mark.parametrize("mode", ["append", "upsert", "scd2"])
def test_rows_of_archives_are_added_run_after_run(tmp_path: Path, mode: str) -> None:
    pipe = (
        lp.pipeline("p", base=tmp_path)
        .source("a", "zip://*.csv::all.zip")
        .output("a", "out", mode=mode, key="x")
        .build()
    )
    for number in (1, 2):
        with zipfile.ZipFile(tmp_path / "all.zip", "a") as archive:
            archive.writestr(f"{number}.csv", f"x\n{number}\n")
        assert pipe.compile().run().status == "done"
        assert pipe.compile().run().status == "unchanged"
    assert sorted(lp.scan(tmp_path / "out").collect()["x"]) == [1, 2]


def test_files_of_archives_with_event_times_are_known_again(tmp_path: Path) -> None:
    """Their store tells no stamp, which would be when they came: what they hold says that they are not new."""
    columns = {"columns": {"x": "Int64", "at": "Datetime(us)"}}
    more = {"event_time": "at", "watermark": {"delay": "0s"}, "contract": columns, "on_corrupt": "skip"}
    pipe = lp.pipeline("p", base=tmp_path).source("a", "zip://*.csv::all.zip", **more).output("a", "out").build()
    for number in (1, 2):
        with zipfile.ZipFile(tmp_path / "all.zip", "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{number}.csv", f"x,at\n{number},2024-01-0{number} 00:00:00\n")
        (made,) = pipe.compile().run().segments
        assert (made.status, made.written) == ("done", 1)
        (same,) = pipe.compile().run().segments
        assert (same.status, same.why) == ("unchanged", f"nothing changed: a: {number} unchanged")
    packed = (tmp_path / "all.zip").read_bytes()
    second = packed.rfind(b"PK\x03\x04")
    (tmp_path / "all.zip").write_bytes(packed[:second] + b"XX" + packed[second + 2 :])
    (damaged,) = pipe.compile().run().segments
    assert [Path(c.uri.partition("::")[0]).name for c in damaged.corrupt] == ["2.csv"]
    assert lp.scan(tmp_path / "out").collect()["x"].to_list() == [1]
