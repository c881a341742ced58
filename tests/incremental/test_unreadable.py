"""What of a source cannot be read, and why; scenarios with broken rows and files stand in ``tests/scenarios`` and ``tests/faults``."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import write_deltalake

import lazypipe as lp
from lazypipe.compile.sources.source import BoundSource
from lazypipe.incremental.unreadable import answer, culprit, damaged, reads, rows_in
from lazypipe.spec import taps
from lazypipe.storage.text import moments

NUMBERS = {"id": "Int64", "x": "Int64"}
BY_ROW = {"columns": NUMBERS, "on_type_change": "discard_row"}


def source_of(base: Path, uri: str, **more: Any) -> BoundSource:
    built = lp.pipeline("p", base=str(base)).source("a", uri, **more).output("a", "out").build()
    source = built.compile().nodes["a"].source
    assert source is not None
    return source


@pytest.mark.parametrize("wrong", [[], [0], [70], [99], [40, 80]])
def test_of_many_files_the_first_that_cannot_be_read_is_found_by_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: list[int]
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(100):
        pl.DataFrame({"x": number}).write_parquet(tmp_path / f"in/{number:03}.parquet")
    source = source_of(tmp_path, "in/*.parquet")
    for number in wrong:
        path = tmp_path / f"in/{number:03}.parquet"
        path.write_bytes(b"PAR1" + bytes(path.stat().st_size - 8) + b"PAR1")
    asked: list[int] = []
    scan = type(source).scan
    monkeypatch.setattr(
        type(source), "scan", lambda self, found, **how: (asked.append(len(found.files)), scan(self, found, **how))[1]
    )
    found = culprit(source, source.listing())
    assert (found.uri if found is not None else None) == (
        str(tmp_path / f"in/{wrong[0]:03}.parquet") if wrong else None
    )
    assert sum(asked) <= 100 + 16
    assert sum(n > 1 for n in asked) == 3


@pytest.mark.parametrize("wrong", [{}, {3: b"id,x\n1,seven\n"}, dict.fromkeys((0, 41, 99), b"id,x\n1\n")])
def test_of_many_files_all_that_are_damaged_are_found_by_halves(tmp_path: Path, wrong: dict[int, bytes]) -> None:
    (tmp_path / "in").mkdir()
    for number in range(100):
        (tmp_path / f"in/{number:03}.csv").write_bytes(wrong.get(number, b"id,x\n%d,7\n" % number))
    source = source_of(tmp_path, "in/*.csv", contract={"columns": NUMBERS}, on_corrupt="skip")
    whole = source.listing()
    found = damaged(source, whole)
    assert sorted(found) == [str(tmp_path / f"in/{n:03}.csv") for n in wrong]
    one_by_one = {u: w for f in whole.files for u, w in damaged(source, replace(whole, files=(f,))).items()}
    assert found == one_by_one


# what is asked of rows, where broken ones are set aside

SHORT, NULL, FINE = b"id,x\n1,7\n2\n", b"id,x\n1,7\n2,\n", b"id,x\n1,7\n2,8\n"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is put over rows see them here, and not in threads of the engine's."""

    def tap(frame: pl.LazyFrame, function: Callable[[pl.DataFrame], pl.DataFrame], **_: Any) -> pl.LazyFrame:
        return function(frame.collect()).lazy()

    monkeypatch.setattr(taps, "tap", tap)


@pytest.mark.parametrize(("content", "expected"), [(FINE, [1, 2]), (NULL, [1, 2]), (SHORT, [1, None])])
@pytest.mark.usefixtures("at_once")
def test_rows_that_lack_fields_give_no_answer(tmp_path: Path, content: bytes, expected: list[int | None]) -> None:
    """Polars takes fields that are not there for nulls; a row that is set aside has no value at all."""
    (tmp_path / "a.csv").write_bytes(content)
    source = source_of(tmp_path, "a.csv", contract=BY_ROW)
    snapshot = source.listing()
    assert answer(source, snapshot, lambda watch: source.scan(snapshot, watch=watch))["id"].to_list() == expected


def test_lines_that_are_no_json_give_no_answer(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(b'{"id":1,"x":7}\n{"id":2,"x":8}\n')
    source = source_of(tmp_path, "a.ndjson", contract=BY_ROW)
    (tmp_path / "a.ndjson").write_bytes(b'{"id":1,"x":7}\n{"id":2,\n{"id":3,"x":9}\n')
    snapshot = source.looked_at(source.listing())
    assert answer(source, snapshot, lambda _: source.scan(snapshot))["id"].to_list() == [1, None, 3]
    assert rows_in(source, snapshot.files[0]) == 3


def test_a_file_that_cannot_be_read_at_all_has_no_rows_and_gives_no_answer(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(FINE))
    source = source_of(tmp_path, "a.csv.gz", contract=BY_ROW)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(FINE + b"3,9\n" * 100_000)[:-9])
    snapshot = source.looked_at(source.listing())
    with pytest.raises(OSError, match="unexpected end of file"):
        answer(source, snapshot, lambda _: source.scan(snapshot))
    assert rows_in(source, snapshot.files[0]) == 0
    found = culprit(source, snapshot)
    assert found is not None
    assert found.uri == str(tmp_path / "a.csv.gz")


@pytest.mark.parametrize(
    ("asked", "where", "name"),
    [
        (culprit, BoundSource, "scan"),
        (damaged, moments, "parsed"),
        (reads, BoundSource, "scan"),
        (lambda source, found: rows_in(source, found.files[0]), BoundSource, "scan"),
    ],
)
def test_a_mistake_of_ours_is_not_taken_for_a_file_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Callable[..., Any], where: Any, name: str
) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,x,t\n1,7,2024-05-01T06:00:00\n")
    source = source_of(tmp_path, "a.csv", contract={"columns": {**NUMBERS, "t": "Datetime(us)"}}, on_corrupt="skip")
    snapshot = source.listing()

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(where, name, broken)
    with pytest.raises(ZeroDivisionError):
        asked(source, snapshot)


# what is said of what


@pytest.mark.parametrize(("moment", "sound"), [("2024-05-01 07:00", True), ("yesterday", False)])
def test_moments_are_told_each_for_itself(tmp_path: Path, moment: str, sound: bool) -> None:
    """A file is sound of which each moment is one, though the reader takes only those written like the first."""
    (tmp_path / "a.csv").write_text(f"id,t\n1,2024-05-01T06:00:00\n2,{moment}\n")
    source = source_of(tmp_path, "a.csv", contract={"columns": {"id": "Int64", "t": "Datetime(us)"}}, on_corrupt="skip")
    assert reads(source, source.listing()) == sound
    assert [*damaged(source, source.listing())] == ([] if sound else [str(tmp_path / "a.csv")])


def test_rows_of_a_table_are_those_that_its_log_tells(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pl.DataFrame({"x": [1, 2, 3]}).to_arrow())
    source = source_of(tmp_path, "t", format="delta")
    snapshot = source.listing()
    (file,) = snapshot.files
    os.remove(file.uri)
    assert rows_in(source, file, snapshot.table) == 3
    found = culprit(source, snapshot)
    assert found is not None
    assert found.uri == file.uri
    assert found.fix == "read a later version if VACUUM has deleted it, or restore it from a backup"


def test_files_of_a_dataset_are_not_set_aside(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(FINE)
    lp.pipeline("q", base=str(tmp_path)).source("a", "a.csv").output("a", "made").build().compile().run()
    source = source_of(tmp_path, "made")
    snapshot = source.listing()
    os.remove(snapshot.files[0].uri)
    assert damaged(source, snapshot) == {}
    found = culprit(source, snapshot)
    assert found is not None
    assert (
        found.fix == "restore it from a backup, or run the pipeline that writes it in full, which rebuilds the dataset"
    )


def test_what_the_engine_says_is_told_where_all_cells_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_bytes(FINE)
    source = source_of(tmp_path, "a.csv", contract=BY_ROW)
    snapshot = source.listing()

    def failing(*_: object, **__: object) -> None:
        raise pl.exceptions.ComputeError("out of luck")

    monkeypatch.setattr(BoundSource, "scan", failing)
    found = culprit(source, snapshot)
    assert found is not None
    assert (found.uri, found.fix) == (str(tmp_path / "a.csv"), "fix the file, or change the contract")
    assert "out of luck" in str(found)
