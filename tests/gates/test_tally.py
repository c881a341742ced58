"""What gates count, apart by unit: adds up to what they count of all rows, however rows come in batches."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.compile.node import compile_checks
from lazypipe.gates import Check
from lazypipe.gates.marks import mark, nowhere
from lazypipe.gates.report import CheckResult, GateReport
from lazypipe.gates.tally import Tally, from_columns, to_columns
from lazypipe.gates.tap import Tap
from lazypipe.gates.uniqueness import HASH
from lazypipe.spec.model import Step
from lazypipe.spec.scope import Scope

SCHEMA = pl.Schema({"v": pl.Int64(), "unit": pl.UInt64()})
ROWS = st.lists(st.tuples(st.one_of(st.none(), st.integers(-3, 3)), st.integers(1, 3)), max_size=12)


def checks() -> tuple[Check, ...]:
    steps = [
        Step("not_null", {"columns": "v", "action": "quarantine"}),
        Step("between", {"column": "v", "min": 0, "action": "drop"}),
    ]
    return compile_checks(steps, SCHEMA, lambda step, owner: Scope(owner, step), [])


@given(batches=st.lists(ROWS, max_size=3))
def test_units_are_counted_apart(batches: list[list[tuple[int | None, int]]]) -> None:
    tap = Tap(checks(), SCHEMA, run="r", spill=Path(), unit="unit")
    marked = tap.attach(pl.LazyFrame(schema=SCHEMA))
    assert marked.collect().height == 0
    good = []
    for rows in batches:
        frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
        # by hand, in this thread: what the engine does with each batch
        masks = mark(frame.lazy(), checks(), nowhere).frame.collect()
        good += tap._flow(masks).rows()
    everything = [r for rows in batches for r in rows]
    assert sorted(good) == sorted(r for r in everything if r[0] is not None and r[0] >= 0)
    for unit in {u for _, u in everything}:
        own = [v for v, u in everything if u == unit]
        tally = tap.tallies[unit]
        assert (tally.rows, tally.good) == (len(own), sum(v is not None and v >= 0 for v in own))
        assert tally.quarantined == own.count(None)
        assert tally.dropped == sum(v is not None and v < 0 for v in own)
    assert from_columns(to_columns(tap.tallies)) == tap.tallies
    total = Tally()
    for tally in tap.tallies.values():
        total.add(tally)
    report = tap.report("n")
    assert (report.rows, report.good, report.quarantined, report.dropped) == (
        total.rows, total.good, total.quarantined, total.dropped
    )  # fmt: skip


def test_a_distinct_count_of_one_column_is_a_figure_of_it() -> None:
    check = CheckResult("distinct_count:x", "distinct_count", "warn", "pass", 1, 0, value=3, expected="at least 1")
    facets = GateReport("n", (check,), 4, 4).to_openlineage()
    assert facets["dataQualityMetrics"]["columnMetrics"] == {"x": {"distinctCount": 3}}


def test_keys_are_hashed_by_unit() -> None:
    step = Step("unique", {"columns": "v", "action": "warn", "where": "v > 1"})
    (check,) = compile_checks([step], SCHEMA, lambda step, owner: Scope(owner, step), [])
    tap = Tap([check], SCHEMA, run="r", spill=Path(), unit="unit", hashing={check.id})
    tap.attach(pl.LazyFrame(schema=SCHEMA))
    rows = pl.DataFrame({"v": [1, 2, 3, 2], "unit": [7, 7, 7, 7]}, schema=SCHEMA)
    tap._flow(mark(rows.lazy(), [check], nowhere).frame.collect())
    found = tap.hashes[check.id].frame().collect()
    assert found["unit"].to_list() == [7, 7, 7]
    assert found[HASH][0] == found[HASH][2] != found[HASH][1]
