"""The tap: counts and splits batch by batch, from many threads, with quarantined rows in files beyond a budget."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import lazypipe as lp
from lazypipe.compile.node import compile_checks
from lazypipe.gates import tap as tap_module
from lazypipe.gates.rule import Check
from lazypipe.gates.tap import FILE_COLUMN, RULES_COLUMN, RUN_COLUMN, Tap, quarantine_schema
from lazypipe.spec.model import Fault, Step, freeze
from lazypipe.spec.scope import Scope


def checks(schema: pl.Schema, *rules: dict[str, Any]) -> tuple[Check, ...]:
    steps = [Step(next(iter(r)), freeze(next(iter(r.values())))) for r in rules]
    faults: list[Fault] = []
    made = compile_checks(steps, schema, lambda step, owner: Scope(owner, step), faults)
    assert not faults
    return made


def positive(action: str, **more: Any) -> dict[str, Any]:
    return {"expression": {"condition": "v > 0", "action": action, "id": f"positive_{action}", **more}}


SCHEMA = pl.Schema({"k": pl.Int64, "v": pl.Int64})


Run = Callable[[Tap, pl.DataFrame], pl.DataFrame]


def streamed(tap: Tap, frame: pl.DataFrame) -> pl.DataFrame:
    return tap.attach(frame.lazy()).collect(engine="streaming")


def direct(tap: Tap, frame: pl.DataFrame) -> pl.DataFrame:
    """In this thread: no debugger and no coverage looks into those of Polars."""
    return tap._flow(marked(tap, frame))


def marked(tap: Tap, frame: pl.DataFrame) -> pl.DataFrame:
    tap.attach(frame.lazy())
    return tap._marked.frame.collect()


@pytest.mark.parametrize("run", [streamed, direct])
def test_a_repaired_row_was_checked_where_it_met_the_condition_before(run: Run, tmp_path: Path) -> None:
    rule = {"not_null": {"columns": "v", "where": "v IS NULL OR v > 100", "action": "repair", "repair": {"default": 3}}}
    tap = Tap(checks(SCHEMA, rule), SCHEMA, run="r", spill=tmp_path)
    good = run(tap, pl.DataFrame({"k": [1, 2, 3], "v": [None, 200, 1]}, schema=SCHEMA))
    assert good["v"].to_list() == [3, 200, 1]
    (tally,) = tap.tallies.values()
    assert (tally.evaluated, tally.repaired) == ({"not_null:v": 2}, {"not_null:v": 1})


@pytest.fixture(params=[streamed, direct])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.param
    return found


def test_fates_reasons_and_counts(run: Run, tmp_path: Path) -> None:
    frame = pl.DataFrame({"k": [1, 2, None, None, 5], "v": [1, -1, 2, -2, None]})
    made = checks(
        frame.schema,
        {"not_null": {"columns": "k", "action": "quarantine"}},
        positive("drop"),
        {"not_null": {"columns": "v", "action": "warn", "where": "k > 4"}},
        {"expression": {"condition": "v <> -2", "id": "never", "max_failures": 1}},
    )
    seen: list[int] = []
    tap = Tap(made, frame.schema, run="r", spill=tmp_path / "spill", notify=seen.append)
    assert run(tap, frame).sort("k").rows() == [(1, 1), (5, None)]
    assert sum(seen) == tap.rows == 5
    report = tap.report("n")
    assert report.failed == {"not_null:k": 2, "positive_drop": 2, "not_null:v": 1, "never": 1}
    assert [c.evaluated for c in report.checks] == [5, 5, 1, 5]
    assert (report.rows, report.good, report.quarantined, report.dropped) == (5, 2, 2, 1)
    # quarantine outweighs drop, and rules that only warn or fail are among the reasons
    (bad,) = pl.collect_all(tap.quarantined())
    assert bad.schema == quarantine_schema(frame.schema)
    assert bad.sort("v", descending=True).rows() == [
        (None, 2, ["not_null:k"], "r", None),
        (None, -2, ["not_null:k", "positive_drop", "never"], "r", None),
    ]
    assert not (tmp_path / "spill").exists()


def test_nothing_to_remove_and_nothing_at_all(run: Run, tmp_path: Path) -> None:
    tap = Tap(checks(SCHEMA, positive("quarantine")), SCHEMA, run="r", spill=tmp_path)
    assert tap._flow(pl.DataFrame(schema={**SCHEMA, "__lazypipe_violates_0": pl.Boolean})).schema == SCHEMA
    assert tap.report("n").rows == 0
    assert run(tap, pl.DataFrame({"k": [1], "v": [1]})).rows() == [(1, 1)]
    assert list(tap.quarantined()) == []
    dropping = Tap(checks(SCHEMA, positive("drop")), SCHEMA, run="r", spill=tmp_path)
    assert run(dropping, pl.DataFrame({"k": [1], "v": [0]})).height == 0
    assert (dropping.report("n").dropped, list(dropping.quarantined())) == (1, [])


def test_the_file_goes_to_quarantine_and_not_on(run: Run, tmp_path: Path) -> None:
    frame = pl.DataFrame({"k": [1, 2], "v": [1, -1], FILE_COLUMN: ["a", "b"]})
    tap = Tap(checks(SCHEMA, positive("quarantine")), SCHEMA, run="r", spill=tmp_path)
    assert run(tap, frame).rows() == [(1, 1)]
    (bad,) = pl.collect_all(tap.quarantined())
    assert bad.rows() == [(2, -1, ["positive_quarantine"], "r", "b")]
    tap.forget()
    assert list(tap.quarantined()) == []
    assert tap.report("n").quarantined == 1


def test_columns_that_nobody_reads_stay_with_the_bad_rows_only(run: Run, tmp_path: Path) -> None:
    frame = pl.DataFrame({"k": [1, 2, 3], "v": [1, -1, 3], "more": ["a", "b", "c"]})
    made = checks(frame.schema, positive("quarantine"), {"not_null": {"columns": "more", "action": "warn"}})
    tap = Tap(made, frame.schema, run="r", spill=tmp_path, passed={"v"})
    assert_frame_equal(run(tap, frame), pl.DataFrame({"v": [1, 3]}))
    assert tap._flow(marked(tap, frame.clear())).schema == {"v": pl.Int64}
    (bad,) = pl.collect_all(tap.quarantined())
    assert bad.select("k", "v", "more").rows() == [(2, -1, "b")]
    # rows are counted by one column at least, and what is measured may be of any
    nothing = Tap(made, frame.schema, run="r", spill=tmp_path, passed=())
    assert run(nothing, frame).rows() == [(1,), (3,)]
    measured = checks(frame.schema, {"mean": {"column": "k", "max": 5}})
    tap = Tap(measured, frame.schema, run="r", spill=tmp_path, passed={"v"})
    assert run(tap, frame).columns == ["k", "v", "more"]


def test_rows_of_a_quarantine_can_be_quarantined_again(run: Run, tmp_path: Path) -> None:
    replayed = pl.DataFrame(
        {"k": [1], "v": [-1], RULES_COLUMN: [["old"]], RUN_COLUMN: ["r0"], FILE_COLUMN: ["a"]},
        schema=quarantine_schema(SCHEMA),
    )
    tap = Tap(checks(replayed.schema, positive("quarantine")), replayed.schema, run="r1", spill=tmp_path)
    assert run(tap, replayed).height == 0
    (bad,) = pl.collect_all(tap.quarantined())
    assert bad.schema == quarantine_schema(replayed.schema) == quarantine_schema(SCHEMA)
    assert bad.rows() == [(1, -1, ["positive_quarantine"], "r1", "a")]


def test_keys_are_tracked_where_they_are_compared(run: Run, tmp_path: Path) -> None:
    made = checks(SCHEMA, {"unique": {"columns": "k", "where": "v > 0"}}, {"unique": "v"})
    tap = Tap(made, SCHEMA, run="r", spill=tmp_path)
    assert run(tap, pl.DataFrame({"k": [1, 1, 2], "v": [1, 0, 2]})).height == 3
    assert [tap.trackers[c.id].count() != 0 for c in made] == [False, False]
    assert [c.evaluated for c in tap.report("n").checks] == [2, 3]
    assert run(tap, pl.DataFrame({"k": [1], "v": [5]})).height == 1
    assert [tap.trackers[c.id].count() != 0 for c in made] == [True, False]
    tap.count_keys(made[0], 2)
    assert tap.report("n").failed == {"unique:k": 2}


ORDERED: dict[str, Any] = {
    "int": pl.Int32,
    "decimal": pl.Decimal(12, 2),
    "text": pl.String,
    "moment": pl.Datetime("ns", "Europe/Berlin"),
    "day": pl.Date,
}


@pytest.mark.parametrize("kind", ORDERED)
@given(
    keys=st.lists(st.one_of(st.none(), st.integers(0, 70)), min_size=20, max_size=60),
    let=st.lists(st.booleans(), min_size=60, max_size=60),
    cut=st.integers(0, 60),
)
def test_keys_in_order_are_told_from_those_that_repeat(
    kind: str, keys: list[int | None], let: list[bool], cut: int
) -> None:
    ordered = iter(sorted(k for k in keys if k is not None))
    keys = [None if k is None else next(ordered) for k in keys]
    values = pl.Series(keys, dtype=pl.Int64)
    values = values.cast(pl.String).str.zfill(3) if kind == "text" else values.cast(ORDERED[kind])
    frame = pl.DataFrame({"n": range(len(keys)), "k": values, "w": let[: len(keys)]})
    rule = {"unique": {"columns": "k", "where": "w", "action": "quarantine", "id": "again"}}
    parts = [part for part in (frame.head(cut), frame.slice(cut)) if part.height]
    found = lp.split(pl.concat(parts, rechunk=False), [rule])
    times = Counter(k for k, w in zip(keys, let, strict=False) if w)
    bad = {n for n, (k, w) in enumerate(zip(keys, let, strict=False)) if w and k is not None and times[k] > 1}
    assert {*found.bad["n"]} == bad
    assert sorted(found.good["n"]) == [n for n in range(len(keys)) if n not in bad]
    assert found.report.failed == ({"again": len(bad)} if bad else {})


@pytest.mark.parametrize("text", [True, False])
def test_many_threads_lose_and_double_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, text: bool) -> None:
    monkeypatch.setattr(tap_module, "_SPILL_BYTES", 4_000)
    generator = random.Random(7)
    rows = [(i, generator.choice([-1, 1, None]), "x" * generator.randrange(20)) for i in range(20_000)]
    frame = pl.DataFrame(rows, schema={"k": pl.Int64, "v": pl.Int64, "t": pl.String}, orient="row")
    frame = frame if text else frame.with_columns(t=pl.col("t").str.len_bytes())  # which need no memory of their own
    made = checks(
        frame.schema, positive("quarantine"), positive("drop", where="k > 10000"), {"not_null": "v"}, {"unique": "k"}
    )
    told: list[int] = []
    tap = Tap(made, frame.schema, run="r", spill=tmp_path / "spill", notify=told.append)
    whole = marked(tap, frame)
    parts = list(whole.iter_slices(97))
    with ThreadPoolExecutor(16) as pool:
        good = list(pool.map(tap._flow, parts))
    expected_bad = frame.filter(pl.col("v") == -1)
    assert sum(told) == 20_000
    report = tap.report("n")
    assert (report.rows, report.quarantined, report.dropped) == (20_000, expected_bad.height, 0)
    assert report.failed == {
        "positive_quarantine": expected_bad.height,
        "positive_drop": expected_bad.filter(pl.col("k") > 10_000).height,
        "not_null:v": frame["v"].null_count(),
    }
    assert tap.trackers["unique:k"].count() == 0
    assert len(list((tmp_path / "spill").iterdir())) > 10
    bad = pl.concat(tap.quarantined()).collect()
    assert_frame_equal(bad.select(frame.columns), expected_bad, check_row_order=False)
    assert_frame_equal(pl.concat(good), frame.filter(pl.col("v").is_null() | (pl.col("v") > 0)), check_row_order=False)
    assert Counter(map(tuple, bad[RULES_COLUMN])) == {
        ("positive_quarantine",): expected_bad.filter(pl.col("k") <= 10_000).height,
        ("positive_quarantine", "positive_drop"): expected_bad.filter(pl.col("k") > 10_000).height,
    }


EVERY_TYPE: dict[str, tuple[Any, Sequence[Any]]] = {
    "int128": (pl.Int128, [10**30, None]),
    "float": (pl.Float32, [0.5, float("inf")]),
    "bool": (pl.Boolean, [True, None]),
    "text": (pl.String, ["ä", ""]),
    "binary": (pl.Binary, [b"\xff", b""]),
    "cat": (pl.Categorical, ["x", None]),
    "enum": (pl.Enum(["x", "y"]), ["y", None]),
    "dec": (pl.Decimal(20, 4), [Decimal("1.2345"), None]),
    "date": (pl.Date, [date(1, 1, 1), None]),
    "time": (pl.Time, [time(23, 59), None]),
    "dur": (pl.Duration("ns"), [timedelta(1), None]),
    "ts": (pl.Datetime("us", "Europe/Berlin"), [datetime(2020, 10, 25, 1, tzinfo=UTC), None]),
    "list": (pl.List(pl.List(pl.Int8)), [[[1], None, []], None]),
    "array": (pl.Array(pl.Float64, 2), [[1.0, 2.0], None]),
    "struct": (pl.Struct({"x": pl.Int8, "y": pl.String}), [{"x": None, "y": "z"}, None]),
    "null": (pl.Null, [None, None]),
}


@pytest.mark.parametrize("budget", [0, 1 << 20])
def test_rows_of_every_type_come_back_whole(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    monkeypatch.setattr(tap_module, "_SPILL_BYTES", budget)
    frame = pl.DataFrame([pl.Series(n, v, dtype=t) for n, (t, v) in EVERY_TYPE.items()])
    tap = Tap(
        checks(frame.schema, {"expression": {"condition": "1 = 2", "action": "quarantine"}}),
        frame.schema,
        run="r",
        spill=tmp_path / "spill",
    )
    for _ in range(3):
        assert run(tap, frame).height == 0
    bad = pl.concat(tap.quarantined()).collect()
    for row in (frame[:1], frame[1:]):  # order is incidental
        same = bad.filter(pl.col("float") == row["float"][0]).select(frame.columns)
        assert_frame_equal(same, pl.concat([row] * 3))
    assert bad.schema == quarantine_schema(frame.schema)
    assert (tmp_path / "spill").exists() == (budget == 0)
