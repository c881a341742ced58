"""A report for others: written when something changed, left alone otherwise, and never taken for current when it is not."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest

import lazypipe as lp
from lazypipe.storage.sink import ExportSink

DATA: dict[str, Any] = {
    "version": 1,
    "name": "shop",
    "sources": {"orders": {"uri": "in/*.csv", "contract": {"columns": {"id": "Int64", "amount": "Int64"}}}},
    "stages": {
        "large": {"from": "orders", "do": [{"filter": "amount > 10"}, {"sort": "id"}]},
        "total": {"from": "large", "do": [{"aggregate": {"aggregate": {"total": "sum(amount)"}}}]},
    },
    "outputs": {"large": {"to": "report.csv"}, "total": {"to": "out/total"}},
}


def put(base: Path, name: str, *rows: tuple[int, int]) -> None:
    (base / "in").mkdir(exist_ok=True)
    (base / "in" / f"{name}.csv").write_text("id,amount\n" + "".join(f"{i},{a}\n" for i, a in rows))


def compiled(base: Path, **changes: Any) -> lp.Plan:
    return lp.Pipeline.from_dict({**DATA, **changes}, base=str(base)).compile()


def run(base: Path, *, changes: dict[str, Any] | None = None, **how: Any) -> dict[str, str]:
    result = compiled(base, **(changes or {})).run(**how)
    assert result.error is None
    return {s.name: s.status for s in result.segments if s.output is not None}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    put(tmp_path, "a", (1, 5), (2, 50))
    assert run(tmp_path) == {"large": "done", "total": "done"}
    assert (tmp_path / "report.csv").read_text() == "id,amount\n2,50\n"
    return tmp_path


def test_nothing_changed(base: Path) -> None:
    before = (base / "report.csv").stat()
    result = compiled(base).run()
    assert result.status == "unchanged"
    assert result.exit_code == 0
    (export,) = (s for s in result.segments if s.output == "large")
    assert (export.status, export.rows, export.bytes, export.files) == ("unchanged", 1, before.st_size, 1)
    # what only the export reads is not computed either
    assert {s.name for s in result.segments} == {"large", "total"}
    after = (base / "report.csv").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_news_is_written(base: Path) -> None:
    put(base, "b", (3, 60))
    assert run(base) == {"large": "done", "total": "done"}
    assert (base / "report.csv").read_text() == "id,amount\n2,50\n3,60\n"
    os.remove(base / "in/b.csv")
    assert run(base)["large"] == "done"
    assert (base / "report.csv").read_text() == "id,amount\n2,50\n"
    assert run(base)["large"] == "unchanged"


def test_the_file_is_gone_or_was_changed(base: Path) -> None:
    os.remove(base / "report.csv")
    assert "the file is gone; one csv file is replaced" in {s["why"] for s in compiled(base).preview()}
    assert run(base) == {"large": "done", "total": "unchanged"}
    # by somebody who made it as long as it was
    (base / "report.csv").write_text("id,amount\n2,99\n")
    result = compiled(base).run()
    (export,) = (s for s in result.segments if s.output == "large")
    assert (export.status, export.why) == ("done", "the file was changed after it was written")
    assert (base / "report.csv").read_text() == "id,amount\n2,50\n"


def test_full_writes_it_in_any_case(base: Path) -> None:
    assert run(base, full=True) == {"large": "done", "total": "done"}


@pytest.mark.parametrize(
    "changes",
    [
        {"outputs": {**DATA["outputs"], "large": {"to": "other.csv"}}},
        {"outputs": {**DATA["outputs"], "large": {"to": "report.csv", "format": "ndjson"}}},
        {"stages": {**DATA["stages"], "large": {"from": "orders", "do": [{"filter": "amount > 4"}, {"sort": "id"}]}}},
        {
            "stages": {
                **DATA["stages"],
                "large": {"from": "orders", "do": [{"filter": "amount > 10"}, {"select": ["amount", "id"]}]},
            }
        },
        {
            "stages": {
                **DATA["stages"],
                "large": {"from": "orders", "do": [{"filter": "amount > 10"}, {"sort": "id DESC"}]},
            }
        },
    ],
    ids=["place", "format", "filter", "order of columns", "order of rows"],
)
def test_another_definition(base: Path, changes: dict[str, Any]) -> None:
    assert run(base, changes=changes)["large"] == "done"
    assert run(base, changes=changes)["large"] == "unchanged"
    # and back
    assert run(base)["large"] == "done"
    assert (base / "report.csv").read_text() == "id,amount\n2,50\n"


def test_a_rule_that_looks_at_the_clock_is_asked_in_each_run(base: Path) -> None:
    put(base, "a", (1, 5), (2, 50))
    columns = {"id": "Int64", "amount": "Int64", "at": "Datetime(us, UTC)"}
    (base / "in/a.csv").write_text("id,amount,at\n2,50,2024-01-01T00:00:00Z\n")
    changes = {
        "sources": {"orders": {"uri": "in/*.csv", "contract": {"columns": columns}}},
        "stages": {
            "large": {"from": "orders", "gate": [{"freshness": {"column": "at", "within": "2d", "action": "fail"}}]}
        },
        "outputs": {"large": {"to": "report.csv"}},
    }
    pipe = lp.Pipeline.from_dict({**DATA, **changes}, base=str(base))

    def at(day: int) -> list[str]:
        return [s.status for s in pipe.compile(now=datetime(2024, 1, day, tzinfo=UTC)).run().segments]

    # what is there stays as it was where the rule fails, and the next run asks again
    assert [at(day) for day in (2, 2, 9, 9)] == [["done"], ["done"], ["gate_failed"], ["gate_failed"]]


@pytest.mark.parametrize("damage", ["{", ""])
def test_state_that_is_damaged_or_gone(base: Path, damage: str) -> None:
    (state,) = (base / ".lazypipe/exports/shop/large.commits").glob("*.json")
    state.write_text(damage) if damage else state.unlink()
    assert run(base) == {"large": "done", "total": "unchanged"}


def test_a_run_that_was_killed_before_it_said_what_it_wrote(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(base, "b", (3, 60))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("lazypipe.run.segment.publish.export_said", killed)
        assert compiled(base).run().exit_code == 3
    assert (base / "report.csv").read_text() == "id,amount\n2,50\n3,60\n"
    os.remove(base / "in/b.csv")
    # the state knows the first file only, and the second one is there
    assert run(base)["large"] == "done"
    assert (base / "report.csv").read_text() == "id,amount\n2,50\n"


def test_of_two_runs_at_once_nobody_knows_whose_file_it_is(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(base, "b", (3, 60))
    swap = ExportSink.publish

    def other_first(sink: ExportSink) -> Any:
        monkeypatch.setattr(ExportSink, "publish", swap)
        (base / "in/b.csv").rename(base / "b.aside")
        (base / "report.csv").write_text("")
        assert run(base)["large"] == "done"
        (base / "b.aside").rename(base / "in/b.csv")
        return swap(sink)

    monkeypatch.setattr(ExportSink, "publish", other_first)
    assert run(base)["large"] == "done"
    assert run(base)["large"] == "done"
    assert (base / "report.csv").read_text() == "id,amount\n2,50\n3,60\n"
    assert run(base)["large"] == "unchanged"


def test_in_a_store(base: Path) -> None:
    uri = f"memory://{base.name}/report.parquet"
    changes = {"outputs": {"large": {"to": uri}}}
    assert [run(base, changes=changes)["large"] for _ in range(2)] == ["done", "unchanged"]
    fs, path = fsspec.core.url_to_fs(uri)
    fs.rm_file(path)
    assert run(base, changes=changes)["large"] == "done"
    assert pl.read_parquet(fs.cat_file(path)).rows() == [(2, 50)]


def test_vacuum_keeps_what_the_next_run_goes_by(base: Path) -> None:
    for number in range(3):
        put(base, f"n{number}", (10 + number, 100))
        run(base)
    assert len([*(base / ".lazypipe/exports/shop/large.commits").glob("*.json")]) == 4
    lp.vacuum(lp.Pipeline.from_dict(DATA, base=str(base)))
    assert len([*(base / ".lazypipe/exports/shop/large.commits").glob("*.json")]) == 1
    assert run(base) == {"large": "unchanged", "total": "unchanged"}


@pytest.mark.parametrize("term", [{"on_removed": "fail"}, {"on_removed": "ignore"}, {"on_modified": "fail"}])
def test_terms_about_files_that_went_or_changed_stop_no_export(base: Path, term: dict[str, str]) -> None:
    """It is written in full, and needs nothing of what was there."""
    changes = {
        "sources": {"orders": {**DATA["sources"]["orders"], **term}},
        "outputs": {"large": {"to": "report.csv"}},
    }
    put(base, "b", (3, 60))
    assert run(base, changes=changes) == {"large": "done"}
    os.remove(base / "in/b.csv")
    put(base, "a", (1, 5), (4, 500))
    assert run(base, changes=changes) == {"large": "done"}
    assert (base / "report.csv").read_text() == "id,amount\n4,500\n"


def test_a_run_over_some_of_the_files_leaves_it_as_it_is(base: Path) -> None:
    outputs = {"large": {"to": "report.csv"}, "rows": {"from": "orders", "to": "out/rows"}}
    changes = {"outputs": outputs}
    assert run(base, changes=changes)["large"] == "done"
    for how in ({"since": "2001-01-01"}, {"max_files": 1}, {}):
        assert run(base, changes=changes, **how) == {"large": "unchanged", "rows": "unchanged"}
    put(base, "b", (3, 60))
    assert run(base, changes=changes, max_files=1) == {"large": "done", "rows": "done"}
    assert (base / "report.csv").read_text() == "id,amount\n2,50\n3,60\n"


def test_a_stream_writes_it_when_something_came(base: Path) -> None:
    pipe = lp.Pipeline.from_dict({**DATA, "outputs": {"large": {"to": "report.csv"}}}, base=str(base))
    for most in (None, 1):
        assert [r.status for r in lp.stream(pipe, lp.Trigger(once=True), max_files=most)] == (
            ["done"] if most is None else []
        )
    put(base, "b", (3, 60))
    put(base, "c", (4, 70))
    assert [r.status for r in lp.stream(pipe, lp.Trigger(once=True), max_files=1)] == ["done"]
    assert (base / "report.csv").read_text() == "id,amount\n2,50\n3,60\n4,70\n"
    # three files must have come before a batch begins, of which one is there: of those that are known, none counts
    put(base, "d", (5, 80))
    stream = lp.stream(pipe, lp.Trigger("1s", files=3), sleep=lambda _: stream.stop())
    assert [r.status for r in stream] == []
    os.remove(base / "report.csv")
    assert [r.status for r in lp.stream(pipe, lp.Trigger(once=True))] == ["done"]


def test_a_delivery_that_is_not_whole_is_waited_for(base: Path) -> None:
    changes = {
        "sources": {"orders": {**DATA["sources"]["orders"], "expect": {"marker": "_SUCCESS"}}},
        "outputs": {"large": {"to": "report.csv"}},
    }
    assert run(base, changes=changes) == {"large": "waiting"}
    (base / "in/_SUCCESS").touch()
    assert run(base, changes=changes) == {"large": "done"}
    assert run(base, changes=changes) == {"large": "unchanged"}
