"""Dates, times, durations and decimals of Python stand for the texts and numbers that a definition writes."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import lazypipe as lp
from lazypipe.gates.rules.values import Between
from lazypipe.spec import loader

MOMENT = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "written"),
    [
        (pl.Date, date(2020, 1, 1), date(2020, 1, 3), "2020-01-03"),
        (pl.Datetime("us", "UTC"), MOMENT, MOMENT + timedelta(days=2), "2020-01-04T03:04:05+00:00"),
        (pl.Time, time(1), time(3, 0, 0, 5), "03:00:00.000005"),
        (pl.Duration("us"), timedelta(seconds=1), timedelta(days=2, microseconds=1), "172800.000001s"),
        (pl.Decimal(20, 2), Decimal("1.50"), Decimal("123456789012345678.25"), "123456789012345678.25"),
        (pl.Float64, Decimal("1.5"), Decimal("2.5"), 2.5),
        (pl.Int64, Decimal(1), Decimal(3), 3),
    ],
)
def test_bounds_of_every_type(tmp_path: Path, dtype: Any, low: Any, high: Any, written: Any) -> None:
    rows = [float(v) if dtype == pl.Float64 else int(v) if dtype == pl.Int64 else v for v in (low, high)]
    pl.DataFrame({"a": pl.Series(rows, dtype=dtype)}).write_parquet(tmp_path / "a.parquet")
    for bound, failed in ((high, 0), (low, 1)):
        rule = {"between": {"column": "a", "max": bound, "action": "quarantine"}}
        for one in (rule, Between(column="a", max=bound, action="quarantine")):
            built = lp.pipeline("p", base=str(tmp_path)).source("a", "a.parquet", gate=[one]).output("a", "out").build()
            assert lp.Pipeline.from_yaml(built.to_yaml(), base=str(tmp_path)).to_yaml() == built.to_yaml()
            (gate,) = built.compile().run(full=True).segments[0].gates
            assert gate.checks[0].failed == failed
            assert lp.check(pl.read_parquet(tmp_path / "a.parquet"), [one]).checks[0].failed == failed
    found = loader.from_dict(
        {"version": 1, "name": "p", "sources": {"a": {"uri": "a", "gate": [{"between": {"column": "a", "max": high}}]}}, "outputs": {"a": {"to": "o"}}}
    )  # fmt: skip
    assert found.sources["a"].gate[0].arguments["max"] == written


def test_numbers_and_arrays_of_numpy(tmp_path: Path) -> None:
    frame = pl.DataFrame({"n": [1, 2, 5], "x": [0.5, 1.5, None]})
    frame.write_parquet(tmp_path / "a.parquet")
    for rule, failed in (
        ({"in_set": {"column": "n", "values": [np.int64(1), np.uint8(2)]}}, 1),
        ({"in_set": {"column": "n", "values": np.array([1, 5])}}, 1),
        ({"between": {"column": "x", "min": np.float32(0.75), "max": np.int16(1)}}, 2),
        (Between(column="n", max=np.int64(4)), 1),
    ):
        assert lp.check(frame, [rule]).checks[0].failed == failed
        gate = [{n: {**r, "action": "drop"}} for n, r in rule.items()] if isinstance(rule, dict) else [rule]
        built = lp.pipeline("p", base=str(tmp_path)).source("a", "a.parquet", gate=gate).output("a", "out").build()
        assert lp.Pipeline.from_yaml(built.to_yaml(), base=str(tmp_path)).to_yaml() == built.to_yaml()
        (report,) = built.compile().run(full=True).segments[0].gates
        assert report.checks[0].failed == failed


def test_paths_are_taken_as_they_are(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "a.parquet")
    for uri in (tmp_path / "a.parquet", [tmp_path / "a.parquet"]):
        built = lp.pipeline("p", base=tmp_path).source("a", uri).output("a", tmp_path / "out").build()
        built.compile().run(full=True).raise_for_status()
    assert lp.scan(str(tmp_path / "out")).collect().rows() == [(1,)]


class Action(StrEnum):
    QUARANTINE = "quarantine"


class Column(str, Enum):  # noqa: UP042  # whose text is its name
    N = "n"


class Least(IntEnum):
    TWO = 2


def test_texts_and_numbers_of_other_kinds_are_what_they_say(tmp_path: Path) -> None:
    frame = pl.DataFrame({"n": [1, 2, 5], "s": ["quarantine", "b", "b"]})
    frame.write_parquet(tmp_path / "a.parquet")
    gate: list[dict[str, Any]] = [
        {"between": {"column": Column.N, "min": Least.TWO, "max": np.float64(4.5), "action": Action.QUARANTINE}},
        {"in_set": {"column": np.str_("s"), "values": [Action.QUARANTINE], "action": "warn"}},
    ]
    made = lp.pipeline("p", base=tmp_path).param(Column.N, "integer", default=Least.TWO).source("a", "a.parquet")
    built = made.stage("b", "a", do=[{"derive": {Column.N: ":n * n"}}], gate=gate).output("b", "out").build()
    plain = [
        {"between": {"column": "n", "min": 2, "max": 4.5, "action": "quarantine"}},
        {"in_set": {"column": "s", "values": ["quarantine"], "action": "warn"}},
    ]
    same = lp.pipeline("p", base=tmp_path).param("n", "integer", default=2).source("a", "a.parquet")
    assert (
        built.to_yaml()
        == same.stage("b", "a", do=[{"derive": {"n": ":n * n"}}], gate=plain).output("b", "out").build().to_yaml()
    )
    assert (
        lp.Pipeline.from_json(built.to_json(), base=tmp_path)
        == lp.Pipeline.from_yaml(built.to_yaml(), base=tmp_path)
        == built
    )
    (report,) = built.compile().run().gates.values()
    assert (report.good, report.quarantined, [c.failed for c in report.checks]) == (2, 1, [1, 2])
    assert lp.check(frame, gate).failed == lp.check(frame, plain).failed == {"between:n": 2, "in_set:s": 2}


def test_other_values_have_no_text() -> None:
    step = {"python": {"call": "m:f", "arguments": {"a": b"x", "b": [{1}]}}}
    built = (
        lp.pipeline("p")
        .source("a", "a.csv", storage_options={"o": object()})
        .stage("b", "a", do=[step])
        .output("b", "out")
        .build()
    )
    for write in (built.to_yaml, built.to_json):
        with pytest.raises(lp.DefinitionError) as caught:
            write()
        assert str(caught.value) == (
            "sources.a.storage_options.o: a value of type object has no YAML form; write text or a number\n"
            "stages.b.do[0].python.arguments.a: a value of type bytes has no YAML form; write text or a number\n"
            "stages.b.do[0].python.arguments.b[0]: a value of type set has no YAML form; write text or a number"
        )
