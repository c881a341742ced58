"""Advice: what is tried, what decides, and how near the choice is to the best of everything that could have been chosen."""

from __future__ import annotations

import io
import itertools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lazypipe.errors import LazypipeError
from lazypipe.storage.optimizer import advise as module
from lazypipe.storage.optimizer.advice import Advice, Reason, order_name, told_form, why
from lazypipe.storage.optimizer.advise import advise
from lazypipe.storage.optimizer.candidates import encodings_for, forms_for
from lazypipe.storage.optimizer.choice import GOALS, Goal, Limits, Option, choose
from lazypipe.storage.optimizer.cost import Cost
from lazypipe.storage.optimizer.deciding import columns, partitions, sizes, writers
from lazypipe.storage.optimizer.form import Form
from lazypipe.storage.optimizer.forms import (
    Cast,
    Coded,
    Constant,
    Determined,
    Flag,
    Hexed,
    Multiple,
    Scaled,
    Template,
    Whole,
    physical,
    restore,
)
from lazypipe.storage.optimizer.layout import DEFAULT, Layout
from lazypipe.storage.optimizer.profile import profile
from lazypipe.storage.optimizer.pruning import reach, reached
from lazypipe.storage.optimizer.trial import Bench, write_bytes
from lazypipe.storage.optimizer.workload import Query, Workload
from lazypipe.testing.synthetic import make_orders

US = pl.Datetime("us")


def still() -> float:
    """Stand still: no way takes longer than another, so that bytes alone decide."""
    return 0.0


def ticking() -> Any:
    """Return a clock that is a second later at every look."""
    return itertools.count().__next__


# candidates


DAYS = [n * 86_400_000_000 for n in range(19_000, 19_010)]


@pytest.mark.parametrize(
    ("values", "dtype", "forms"),
    [
        ([1, -5], pl.Int64(), [Cast(pl.Int32())]),
        ([1, 2**29], pl.Int64(), [Cast(pl.Int32())]),
        ([1, 2**30 + 1], pl.Int64(), []),  # twice as much would not fit
        ([1, 2**62], pl.Int64(), []),
        ([1, 5], pl.Int32(), []),
        ([1, 5], pl.UInt64(), [Cast(pl.UInt32())]),
        ([1, 2**63], pl.UInt64(), []),
        ([1, 5], pl.Int128(), [Cast(pl.Int32())]),
        ([1, 2**80], pl.Int128(), []),
        ([1, 2**80], pl.UInt128(), []),
        ([100, 700], pl.Int64(), [Cast(pl.Int32()), Whole(pl.Int32(), 100)]),
        ([5 * 10**12, 7 * 10**15], pl.Int64(), [Whole(pl.Int32(), 10**9)]),
        ([1_000_000, 5_000_000], US, [Whole(pl.Int32(), 1_000_000)]),
        ([1_700_000_000_001_000, 1_700_000_000_002_000], US, [Whole(pl.Int64(), 1_000)]),
        (DAYS, US, [Whole(pl.Int32(), 86_400_000_000), Cast(pl.Date())]),
        (DAYS, pl.Datetime("us", "UTC"), [Whole(pl.Int32(), 86_400_000_000)]),
        (DAYS, pl.Duration("us"), [Whole(pl.Int32(), 86_400_000_000)]),
        ([1.25, 3.5], pl.Float64(), [Scaled(2, pl.Int32())]),
        ([1.25, 3e9], pl.Float64(), [Scaled(2, pl.Int64())]),
        ([1.0, 30.0], pl.Float64(), [Cast(pl.Int32()), Cast(pl.Float32())]),
        ([1 / 3, 2 / 3], pl.Float64(), [Cast(pl.Float32())]),
        ([0.5, 2.0**60], pl.Float64(), [Cast(pl.Float32())]),
        ([1.0, 2.0**60], pl.Float64(), [Cast(pl.Float32())]),
        ([float("nan"), float("nan"), 1.0], pl.Float64(), [Cast(pl.Float32())]),
        ([1.25, 3.5], pl.Float32(), []),
        ([Decimal("1.5"), Decimal("2.5")], pl.Decimal(38, 4), [Cast(pl.Decimal(9, 1))]),
        ([Decimal(10**9), Decimal("2.5")], pl.Decimal(38, 4), [Cast(pl.Decimal(18, 1))]),
        ([Decimal("1.5"), Decimal("2.5")], pl.Decimal(9, 4), [Whole(pl.Int32(), 1_000)]),
        ([Decimal("-1.25"), Decimal(2 * 10**9)], pl.Decimal(15, 2), [Whole(pl.Int64())]),
        ([Decimal(0), Decimal(10**9)], pl.Decimal(18, 2), [Whole(pl.Int32(), 10**2)]),
        ([n * 0.01 for n in range(100)], pl.Float64(), [Scaled(2, pl.Int32(), product=True)]),
        ([date(2026, 1, 1), date(2026, 2, 1)], pl.Date(), []),
        (["yes", "no", None], pl.String(), [Flag("no", "yes")]),
        (["b", "a", "c"] * 20, pl.String(), [Coded(("a", "b", "c"))]),
        (["b", "a", "c"] * 19, pl.String(), []),
        (["user1", "user2", "user3"], pl.String(), [Template(("user", ""), ("number",))]),
        (["0f8e6c1d2b3a4958", "ffeeddccbbaa0099"], pl.String(), [Flag("0f8e6c1d2b3a4958", "ffeeddccbbaa0099"), Hexed((16,))]),
        (["EUR", "EUR"], pl.String(), [Constant("EUR")]),
        (["EUR", None], pl.String(), []),
        ([True, True], pl.Boolean(), [Constant(value=True)]),
        ([True, False], pl.Boolean(), []),
        ([b"a", b"a"], pl.Binary(), []),
        ([[1], [1]], pl.List(pl.Int64()), []),
        ([None], pl.Int64(), []),
        ([], pl.Int64(), []),
    ],
)  # fmt: skip
def test_forms_that_a_profile_speaks_for(values: list[Any], dtype: pl.DataType, forms: list[Form]) -> None:
    inside = pl.Int64() if isinstance(dtype, pl.Datetime | pl.Duration) else dtype
    made = pl.Series(values, dtype=inside).cast(dtype).to_list() if dtype.is_nested() is False and values else values
    frame = pl.DataFrame({"x": pl.Series(values, dtype=inside).cast(dtype)})
    found = profile(frame)
    assert forms_for(found["x"], found, frame) == forms
    assert len(made) == len(values)


def test_forms_that_lean_on_other_columns() -> None:
    at = [n * 1_000_003 for n in range(2_000)]
    codes = ["DE", "FR", "FR", None] * 500
    frame = pl.DataFrame({
        "at": pl.Series(at).cast(US),
        "seen": pl.Series([t + i % 50 * 1_000_000 for i, t in enumerate(at)]).cast(US),
        "code": codes,
        "land": [{"DE": "Germany", "FR": "France", None: "?"}[c] for c in codes],
        "rate": [{"DE": 0.19, "FR": 0.2, None: 0.0}[c] for c in codes],
        "kind": pl.Series(["a", "b", "b", "c"] * 500, dtype=pl.Enum(["a", "b", "c"])),
        "far": [n * 2**45 for n in range(2_000)],
        "near": [n * 2**45 + n % 7 * 2**36 for n in range(2_000)],
    })  # fmt: skip
    found = profile(frame)
    forms = {n: [f for f in forms_for(found[n], found, frame) if f.needs] for n in frame.columns}
    assert forms["seen"] == [Whole(pl.Int32(), 1_000_000, base="at")]  # harder to pack than the other
    assert forms["at"] == []
    assert forms["land"] == [Determined("code", (None, "DE", "FR"), ("?", "Germany", "France"))]
    assert Determined("code", (None, "DE", "FR"), (0.0, 0.19, 0.2)) in forms["rate"]
    assert forms["near"] == [Whole(pl.Int64(), 1, base="far")]
    assert forms["code"] == []
    # what an Enum or a float determines is not written in a commit
    assert all(f.by in ("code", "land") for some in forms.values() for f in some if isinstance(f, Determined))
    assert_frame_equal(restore(physical(frame.lazy(), frame.schema, {n: f[0] for n, f in forms.items() if f}), frame.schema, {n: f[0] for n, f in forms.items() if f}).collect(), frame)  # fmt: skip


def test_totals_are_as_many_times_as_there_are_pieces() -> None:
    n = pl.int_range(3_000, eager=True).alias("n").to_frame()
    cents = pl.col("n").hash(1) % 120_000 + 90_000
    pieces = (pl.col("n").hash(2) % 50 + 1).cast(pl.Int64)
    frame = n.select(
        total=(cents.cast(pl.Int64) * pieces).cast(pl.Int128).reinterpret(dtype=pl.Decimal(15, 2)),
        pieces=pieces.cast(pl.Decimal(15, 2)),
        weight=pieces * (cents.cast(pl.Int64) // 7),
        packed=pieces.cast(pl.Int16),
        one=pl.lit(1) + (pl.col("n") % 100 == 0).cast(pl.Int64),
        most=cents.cast(pl.Int64) * 50,
    )
    found = profile(frame)
    told = {str(r) for r in found.relations if r.kind == "multiple" and r.column in ("total", "weight")}
    assert "total as a multiple of pieces needs 17 bits rather than 23" in told
    assert not any(r.by == "one" for r in found.relations if r.kind == "multiple")  # one of each saves nothing
    forms = {n: [f for f in forms_for(found[n], found, frame) if isinstance(f, Multiple)] for n in frame.columns}
    assert forms["total"] == [Multiple(pl.Int32(), "pieces", 100), Multiple(pl.Int32(), "packed")]
    assert Multiple(pl.Int32(), "packed") in forms["weight"]
    assert forms["pieces"] == forms["most"] == []
    chosen = {"total": forms["total"][0], "weight": forms["weight"][0]}
    inside = physical(frame.lazy(), frame.schema, chosen)
    assert inside.select(pl.col("^_lazypipe:.*$").count()).collect().row(0) == (0, 0)
    assert_frame_equal(restore(inside, frame.schema, chosen).collect(), frame)


def test_columns_never_lean_on_each_other() -> None:
    numbers = [n * 7_919 for n in range(1, 2_000)]
    frame = pl.DataFrame({"x": [*numbers, None], "y": [*numbers, 7_919]})
    found = profile(frame)
    kinds = {(r.kind, r.column) for r in found.relations}
    assert {("multiple", "x"), ("difference", "y")} <= kinds
    forms = {n: [f for f in forms_for(found[n], found, frame) if f.needs] for n in frame.columns}
    assert [f.kind for some in forms.values() for f in some] == ["whole"]


def test_few_steps_between_numbers_that_lie_far_apart_are_found() -> None:
    n = pl.int_range(3_000, eager=True).alias("n").to_frame()
    part = (pl.col("n").hash(1) % 200_000).cast(pl.Int64)
    frame = n.select(part=part, shelf=part + pl.col("n") % 5 * 10_000)
    found = profile(frame)
    (told,) = [r for r in found.relations if r.kind == "difference" and r.column == "shelf"]
    assert told.strength == pytest.approx(math.log2(5))
    (form,) = [f for n in frame.columns for f in forms_for(found[n], found, frame) if f.needs]
    assert form.kind == "whole"


def test_differences_that_no_integer_holds_are_not_proposed() -> None:
    frame = pl.DataFrame(
        {"x": [(-1) ** n * (2**62 + n) for n in range(3_000)], "y": [(-1) ** n * (2**62 - n * 2) for n in range(3_000)]}
    )
    found = profile(frame)
    assert {r.kind for r in found.relations} == {"difference"}
    forms = [f for n in frame.columns for f in forms_for(found[n], found, frame)]
    assert all(isinstance(f, Whole) and f.dtype == pl.Int32() for f in forms)


@pytest.mark.parametrize(
    "dtype",
    [pl.Int8(), pl.UInt64(), US, pl.Date(), pl.Duration("ms"), pl.Float32(), pl.Float64(), pl.String(), pl.Binary(), pl.Boolean(), pl.Decimal(9, 2), pl.Time(), pl.Enum(["a"]), pl.List(pl.Int64())],
)  # fmt: skip
def test_pyarrow_writes_each_encoding_that_is_tried(dtype: pl.DataType) -> None:
    frame = pl.DataFrame({"x": pl.Series([None, None], dtype=dtype)})
    for encoding in encodings_for(dtype):
        data = write_bytes(frame, Layout(writer="pyarrow", encodings={"x": encoding}))
        assert_frame_equal(pl.read_parquet(data), frame)


# choice

COSTS = st.builds(Cost, st.integers(1, 99), st.integers(1, 99).map(float), st.integers(1, 99).map(float))


@given(
    st.dictionaries(st.sampled_from("abc"), st.lists(COSTS, min_size=1, max_size=4), min_size=1),
    st.floats(0.5, 2),
    st.sampled_from(["write", "read"]),
)
def test_choices_keep_a_limit_if_any_does(ways: dict[str, list[Cost]], limit: float, measure: str) -> None:
    options = {n: [Option(None, c) for c in costs] for n, costs in ways.items()}
    default = sum((costs[0] for costs in ways.values()), Cost())
    limits = Limits("bytes", **{measure: limit})  # type: ignore[arg-type]
    chosen = choose(options, default, limits)
    total = sum((o.cost for o in chosen.values()), Cost())
    possible = [sum(c, Cost()) for c in itertools.product(*ways.values())]
    allowed = [c for c in possible if not limits.broken(c, default)]
    assert total in possible
    assert (total in allowed) == bool(allowed)
    smallest = min(possible, key=lambda c: c.bytes)
    if not limits.broken(sum((min(c, key=lambda o: o.bytes) for c in ways.values()), Cost()), default):
        assert total.bytes == smallest.bytes


@given(st.dictionaries(st.sampled_from("abcd"), st.lists(COSTS, min_size=1, max_size=5), min_size=1))
def test_choosing_ends_whatever_the_limits(ways: dict[str, list[Cost]]) -> None:
    options = {n: [Option(None, c) for c in costs] for n, costs in ways.items()}
    chosen = choose(options, Cost(1, 1.0, 1.0), Limits("bytes", bytes=0.5, write=0.5, read=0.5))
    assert all(chosen[n] in some for n, some in options.items())


# trials


def test_a_bench_counts_bytes_and_takes_time_from_its_clock() -> None:
    frame = pl.DataFrame({"x": range(1_000)})
    times: Iterator[float] = itertools.chain([0.0], itertools.accumulate(itertools.cycle([0.0, 1.0]), initial=0.0))
    bench = Bench(lambda: next(times), None)
    cost = bench.stored(frame, DEFAULT)
    assert (cost.write, cost.read) == (0.0, 0.0)  # as much as it takes without rows
    meta = pq.read_metadata(io.BytesIO(write_bytes(frame, DEFAULT))).row_group(0).column(0)
    assert cost.bytes == meta.total_compressed_size
    assert not Bench(still, None).over
    assert Bench(ticking(), 0.5).over
    assert not Bench(ticking(), 1.5).over


# filters


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(2, 6))
def test_lookups_read_the_row_groups_that_python_counts(values: list[int], groups: int) -> None:
    size = -(-len(values) // groups)
    parts = [values[i : i + size] for i in range(0, len(values), size)]
    known = sorted(values)
    looked_up = [known[(2 * i + 1) * len(known) // 100] for i in range(50)]
    read = [sum(min(p) <= v <= max(p) for p in parts) / len(parts) for v in looked_up]
    assert reach(pl.Series(values), "equal", groups) == pytest.approx(sum(read) / 50, abs=1e-6)


def test_what_filters_read() -> None:
    rows = pl.Series(range(1_000))
    assert reach(rows, "range", 10, 0.2) == pytest.approx(0.29, abs=0.02)
    assert reach(rows, "range", 10, 1.0) == 1.0
    assert reach(rows, "range", 10) < 0.2
    assert reach(rows.shuffle(1), "equal", 10) > 0.9
    assert reach(rows, "equal", 1) == reach(rows, "other", 10) == 1.0
    assert reach(pl.Series([None, None], dtype=pl.Int64), "equal", 2) == 1.0
    assert reach(pl.Series(["a"] * 5 + ["b"] * 4 + [None]), "equal", 2) == 0.5
    frame = pl.DataFrame({"a": range(100), "b": [n % 10 for n in range(100)], "l": [[1]] * 100})
    assert reached(frame, Query("q", {"a": "equal", "b": "equal"}), 10) == 0.1
    assert reached(frame, Query("q", {"l": "equal", "gone": "equal"}), 10) == 1.0
    assert reached(frame, Query("q"), 10) == 1.0


# advice


def orders(rows: int) -> pl.DataFrame:
    return make_orders(rows, seed=7)


def pyarrow_bytes(column: pl.DataFrame, encoding: str | None, level: int) -> int:
    names = {"delta": "DELTA_BINARY_PACKED", "byte_stream_split": "BYTE_STREAM_SPLIT", "plain": "PLAIN", "rle": "RLE", "delta_length": "DELTA_LENGTH_BYTE_ARRAY"}  # fmt: skip
    if encoding == "delta" and column.dtypes[0] in (pl.String, pl.Binary):
        names["delta"] = "DELTA_BYTE_ARRAY"
    how = {"use_dictionary": True} if encoding is None else {"use_dictionary": False, "column_encoding": {column.columns[0]: names[encoding]}}  # fmt: skip
    pq.write_table(column.to_arrow(), out := io.BytesIO(), compression="zstd", compression_level=level, data_page_size=1 << 20, **how)  # fmt: skip
    meta = pq.read_metadata(out)
    return sum(meta.row_group(g).column(0).total_compressed_size for g in range(meta.num_row_groups))


def exhaustive(frame: pl.DataFrame) -> int:
    """Return the bytes of the best of all layouts: columns do not depend on each other, so it is made of each one's best."""
    found = profile(frame)
    ticks = [n for n, t in frame.schema.items() if isinstance(t, pl.Datetime)]
    orders = [None, "order_id", "country", "event_time"]
    totals = []
    for order in orders:
        rows = frame if order is None else frame.sort(order, maintain_order=True)
        total = 0
        for name, dtype in frame.schema.items():
            forms: list[Form | None] = [None, *forms_for(found[name], found, frame)]
            forms += [
                Whole(pl.Int64(), u, b)
                for u in (1, 1_000, 1_000_000)
                for b in (None, *ticks)
                if b != name and name in ticks
            ]
            forms += [Scaled(d, pl.Int32()) for d in (2, 4)] if dtype == pl.Float64 else []
            forms += (
                [Coded(tuple(frame[name].unique().sort()))]
                if dtype == pl.String and frame[name].n_unique() < 100
                else []
            )
            sizes = []
            for form in forms:
                inside = rows.select(name)
                if form is not None:
                    needed = rows.select({name, *form.needs})
                    inside = physical(needed.lazy(), needed.schema, {name: form}).collect().drop(form.needs)
                parts = [inside.select(p) for p in inside.columns]
                sizes.append(sum(min(pyarrow_bytes(p, e, level) for level in (3, 9) for e in (None, *encodings_for(p.dtypes[0])[1:])) for p in parts))  # fmt: skip
            total += min(sizes)
        totals.append(total)
    return min(totals)


def test_advice_on_orders_is_within_5_percent_of_the_best_of_all_layouts() -> None:
    frame = orders(2_000)
    advice = advise(frame, goal="storage", clock=still)
    best = exhaustive(frame)
    assert best < 0.75 * advice.before.bytes
    assert advice.after.bytes <= 1.05 * best


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("writers", [["polars"], ["pyarrow"], None])
def test_what_is_advised_can_be_written_and_comes_back(goal: Any, writers: Any) -> None:
    frame = orders(2_000).with_columns(
        pl.lit("EUR").alias("currency"),
        pl.when(pl.col("country") == "DE").then(pl.lit("Germany")).otherwise(pl.lit("abroad")).alias("where"),
        pl.when(pl.int_range(pl.len()) % 3 == 0).then("amount").alias("rebate"),
        pl.concat_list("quantity", "order_id").alias("list"),
    )
    workload = Workload((Query("a", {"country": "equal"}), Query("b", {"event_time": "range", "amount": "other"})))
    advice = advise(frame, workload, goal, writers=writers, sample=1_000)
    assert (advice.rows, advice.total, advice.goal) == (1_000, 2_000, goal)
    forms = advice.layout.forms
    assert "country" not in forms  # filters skip row groups by it
    inside = physical(frame.lazy(), frame.schema, forms).collect()
    back = restore(pl.scan_parquet(io.BytesIO(write_bytes(inside, advice.layout))), frame.schema, forms).collect()
    assert_frame_equal(back, frame)
    assert Layout.from_dict(json.loads(json.dumps(advice.layout.to_dict()))) == advice.layout
    assert advice.layout.writer in (writers or ["polars", "pyarrow"]) or not forms
    assert advice.seconds > 0


def test_reasons_and_figures_of_an_advice() -> None:
    frame = orders(3_000).with_columns(pl.lit("EUR").alias("cur|rency"))
    advice = advise(frame, goal="storage", clock=still)
    told = {r.column: r for r in advice.reasons}
    assert str(told["amount"]).startswith(
        "amount: scaled(digits=2, dtype=Int32), encoded as delta: values have 2 decimals ("
    )
    assert str(told["updated_at"]).startswith("updated_at: whole(dtype=Int32, unit=1000000, base=event_time)")
    assert told["updated_at"].why == "values lie near those of event_time"
    assert told["event_time"].why == "values are multiples of 1,000"
    assert told["email"].why == "nearly all texts are made like user<number>@example<number>.com"
    assert told["order_id"].decision == "encoded as delta"
    assert told[None] in advice.reasons
    before, after = (sum(pair[i] for pair in advice.sizes.values()) for i in (0, 1))
    assert (advice.before.bytes, advice.after.bytes) == (before, after)
    assert after < 0.7 * before
    assert (told["email"].before, told["email"].after) == advice.sizes["email"]
    plain = json.loads(json.dumps(advice.to_dict()))
    assert plain["measured"][0] == {"column": None, "how": "default", "bytes": before, "write": 0.0, "read": 0.0}
    assert plain["sizes"]["email"] == list(advice.sizes["email"])
    assert plain["seconds"] == 0.0
    lines = advice.to_markdown().splitlines()
    assert lines[0] == "# Advice: storage"
    assert lines[2] == f"From 3,000 of 3,000 rows, {len(advice.measured)} trials in 0.00 s."
    assert f"| default | {before:,} | 0.0 ms | 0.0 ms |" in lines
    assert f"| advised | {after:,} ({(after - before) / before:+.1%}) | 0.0 ms | 0.0 ms |" in lines
    assert any(line.startswith("| cur\\|rency | ") for line in lines)
    assert f"- {told['email']}" in lines


def test_no_time_no_trials() -> None:
    advice = advise(orders(500), goal="storage", budget=2, clock=ticking())
    assert advice.layout == Layout(partition_by=())
    assert str(advice.reasons[-1]) == "no more trials: the time for them was over; what was not tried is as it was"
    # the default, twice plain, the choices of both writers, and the advice
    assert [t.how for t in advice.measured if t.column is None] == [
        "default",
        "chosen, polars",
        "chosen, pyarrow",
        "advised",
    ]


@pytest.mark.parametrize("seconds", [40, 80, 160, 320, 640])
def test_whenever_the_time_is_over_there_is_advice(seconds: float) -> None:
    frame = orders(500)
    workload = Workload((Query("q", {"country": "equal", "event_time": "range"}),))
    advice = advise(frame, workload, "storage", seconds, clock=ticking())
    assert isinstance(advice, Advice)
    assert set(advice.sizes) == set(frame.columns)


def test_a_small_budget_makes_a_smaller_sample() -> None:
    frame = pl.DataFrame({"x": range(40_000)})
    assert advise(frame, budget=0.01, clock=still).rows == 6_000
    asked = Workload((Query("x", {"x": "equal"}),))
    assert advise(frame, asked, budget=0.01, clock=still).rows == 4_000
    assert advise(frame, budget=0.001, clock=still).rows == 2_000
    assert advise(frame, budget=0.5, clock=still).rows == 12_000
    assert advise(frame, budget=1.5, clock=still, sample=200_000).rows == 40_000
    assert advise(frame, budget=9, clock=still).rows == 40_000


def test_readers_that_look_up_get_rows_in_order_and_small_row_groups() -> None:
    frame = orders(60_000)
    workload = Workload((Query("country", {"country": "equal"}),))
    advice = advise(frame, workload, "read", sample=20_000, clock=still)
    assert (advice.layout.sort_by, advice.layout.curve, advice.layout.row_group_rows) == (
        ("country",),
        "linear",
        30_720,  # half of the rows, in steps of 1,024
    )
    texts = [str(r) for r in advice.reasons]
    assert any(t.startswith("ordered by country: queries read ") for t in texts)
    (told,) = [t for t in texts if t.startswith("row groups of 30,720 rows: point lookup: queries read ")]
    assert told.endswith("of the rows, not 100.0% as in groups of 122,880")  # by default there is one row group
    nothing = advise(frame, workload, "write", sample=20_000, clock=still)
    assert nothing.layout.sort_by == ()


def groups_of(frame: pl.DataFrame, total: int, **query: Any) -> int | None:
    workload = Workload((Query("one", {"key": "equal"}, **query),))
    advice = advise(frame, workload, "read", 0.06, total=total, partition_by=(), clock=still)
    assert advice.layout.sort_by == ("key",)
    return advice.layout.row_group_rows


def test_row_groups_are_as_large_as_lookups_and_footers_ask_for() -> None:
    n = pl.int_range(20_000, eager=True).alias("n").to_frame()
    narrow = n.select(key=pl.col("n").hash(1) % 1_000, value=pl.col("n").hash(2) % 1_000)
    wide = narrow.with_columns((pl.col("value") + i).alias(f"v{i}") for i in range(120))
    assert groups_of(narrow.head(8_000), 8_000) is None
    assert groups_of(narrow, 20_000) == 10_240
    assert groups_of(narrow, 60_000) == 30_720  # half of them, in steps of 1,024
    assert groups_of(narrow, 10**6) == 32_768
    # with more columns, and more rows, footers are longer; and the fewer columns are asked for the less is read in vain
    some, few = (
        groups_of(wide, 4 * 10**6, columns=c) for c in (("key", *(f"v{i}" for i in range(60))), ("key", "value"))
    )
    assert some is not None
    assert few is not None
    assert 32_768 <= some < few <= 122_880
    assert groups_of(wide, 10**9, columns=("key", "value")) == 122_880


def test_readers_that_filter_two_columns_get_an_order_along_a_curve() -> None:
    n = pl.int_range(5_000_000, eager=True)
    mixed = n * 2_654_435_761 % 2**32
    frame = pl.DataFrame({"x": mixed // 2**7 % 9_991, "y": mixed // 2**11 % 9_973})
    workload = Workload((Query("x", {"x": "range"}, weight=1.1), Query("y", {"y": "range"})))
    advice = advise(frame, workload, "read", sample=20_000, clock=still)
    assert (advice.layout.sort_by, advice.layout.curve) == (("x", "y"), "hilbert")
    assert set(advice.layout.bounds) == {"x", "y"}
    assert any(str(r).startswith("ordered by x, y (hilbert): queries read ") for r in advice.reasons)
    assert order_name(advice.layout) == "x, y (hilbert)"


def test_rows_are_put_in_an_order_that_makes_files_smaller() -> None:
    shops = [n * 2_654_435_761 % 2**32 // 2**7 % 400 for n in range(20_000)]
    frame = pl.DataFrame({"shop": [f"shop {n} of all" for n in shops], "city": [f"city {n * 31 % 97}" for n in shops]})
    advice = advise(frame, goal="storage", clock=still)
    assert advice.layout.sort_by == ("shop",)
    (told,) = [r.why for r in advice.reasons if r.decision == "ordered by shop"]
    after, before = (int(n.replace(",", "")) for n in re.findall(r"[0-9,]*[0-9]", told))
    assert told == f"the sample takes {after:,} bytes that way, {before:,} as rows come"
    assert after < before
    assert advise(frame, goal="storage", sample=5_000, clock=still).layout.sort_by == ("shop",)
    assert advise(frame, goal="storage", budget=0.06, clock=still).layout.sort_by == ("shop",)
    # readers who filter decide on the order, and goals for which bytes are not the point leave rows as they come
    asked = Workload((Query("q", {"city": "equal"}),))
    assert advise(frame, asked, goal="storage", budget=0.06, clock=still).layout.sort_by == ("city",)
    assert advise(frame, goal="write", clock=still).layout.sort_by == ()


def test_folders_and_file_sizes_follow_from_all_that_the_sample_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pl.DataFrame({
        "day": [date(2026, 1, 1) + timedelta(days=n // 1_000) for n in range(4_000)], "hash": [f"{n * 2**61 % (2**61 - 1):x}" for n in range(4_000)],
        "score": [n % 4 / 4 for n in range(4_000)],
    })  # fmt: skip
    queries = (Query("a", {"day": "equal", "score": "equal"}, weight=3), Query("b", {"hash": "equal", "gone": "equal"}))
    monkeypatch.setattr(partitions, "_PARTITION_BYTES", 2_000)
    monkeypatch.setattr(sizes, "_FILE_BYTES", 8_000)
    advice = advise(frame, Workload(queries), "read", clock=still)
    assert advice.layout.partition_by == ("day",)
    assert not {"day"} & {*advice.layout.forms, *advice.layout.encodings, *advice.layout.sort_by}
    texts = [str(r) for r in advice.reasons]
    assert any(t.startswith("a folder per day: 4 of them, of ") for t in texts)
    assert advice.layout.file_bytes == 8_000
    settled = advise(frame, Workload(queries), "read", partition_by=["day"], clock=still)
    assert settled.layout.partition_by == ("day",)
    assert "day" not in settled.sizes
    assert advise(frame, Workload(queries[1:]), "read", clock=still).layout.partition_by == ()
    monkeypatch.setattr(partitions, "_PARTITION_BYTES", 2**40)
    assert advise(frame, Workload(queries), "read", clock=still).layout.partition_by == ()


def test_folders_are_not_advised_by_first_rows_where_more_values_are_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    days = [date(2026, 1, 1) + timedelta(days=n // 1_000) for n in range(4_000)]
    frame = pl.DataFrame({"day": days, "shop": [n % 4 for n in range(4_000)]})
    monkeypatch.setattr(partitions, "_PARTITION_BYTES", 1)
    for column, folders in (("day", ()), ("shop", ("shop",))):
        asked = Workload((Query("a", {column: "equal"}),))
        assert advise(frame, asked, "read", 0.06, clock=still).layout.partition_by == (column,)
        assert advise(frame, asked, "read", 0.06, total=10**6, clock=still).layout.partition_by == folders


def test_nulls_have_a_folder_if_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    number = pl.DataFrame({"n": range(4_000)})
    asked = Workload((Query("a", {"shop": "equal"}),))
    monkeypatch.setattr(partitions, "_PARTITION_BYTES", 1_000)
    for every, folders in ((5, ("shop",)), (500, ())):
        shop = pl.when(pl.col("n") % every > 0).then(pl.col("n").hash(1) % 4)
        advice = advise(number.select("n", shop=shop.cast(pl.Int64), x=pl.col("n").hash(2)), asked, "read", clock=still)
        assert advice.layout.partition_by == folders
        assert any(str(r).startswith("a folder per shop: 5 of them, of ") for r in advice.reasons) == (every == 5)


def test_another_codec_must_be_worth_it() -> None:
    words = ["lorem", "ipsum", "dolor", "sit", "amet", "consectetur", "adipiscing", "elit"]
    text = [" ".join(words[(n * 7919 >> 3 * i) % 8] for i in range(12)) for n in range(6_000)]
    advice = advise(pl.DataFrame({"text": text}), goal="storage", clock=still)
    assert (advice.layout.codec, advice.layout.level) == ("zstd", 9)
    assert any(str(r).startswith("codec zstd 9: bytes of the sample ") for r in advice.reasons)
    small = advise(pl.DataFrame({"x": range(1_000)}), goal="storage", clock=still)
    assert small.layout.level in (None, 3)


def slow(when: Any) -> type[Bench]:
    """Return a bench on which some layouts take ten times as long as others."""

    class Slow(Bench):
        def whole(self, frame: pl.DataFrame, layout: Layout, how: str) -> Any:
            cost, sizes = super().whole(frame, layout, how)
            seconds = 10.0 if when(layout, how) else 1.0
            cost = Cost(cost.bytes, seconds, seconds)
            self.trials[-1] = replace(self.trials[-1], cost=cost)
            return cost, sizes

    return Slow


def test_forms_that_are_slow_to_read_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Bench", slow(lambda layout, how: layout.forms or layout.writer == "pyarrow"))
    advice = advise(orders(1_000), goal="balanced", clock=still)
    assert (dict(advice.layout.forms), advice.layout.writer) == ({}, "polars")
    assert advice.after.bytes <= advice.before.bytes


def test_the_default_stays_if_all_together_is_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Bench", slow(lambda layout, how: how == "advised"))
    advice = advise(orders(1_000), goal="balanced", clock=still)
    assert advice.layout == DEFAULT
    assert [str(r) for r in advice.reasons] == [
        "the default forms and encodings: nothing that was tried is better on the whole"
    ]
    assert advice.before.bytes == advice.after.bytes
    workload = Workload((Query("q", {"country": "equal"}),))
    ordered = advise(orders(1_000), workload, goal="read", clock=still)
    assert ordered.layout == Layout(sort_by=("country",))
    assert [r.decision for r in ordered.reasons] == [
        "ordered by country",
        "the default forms and encodings",
    ]


def test_types_that_pyarrow_does_not_know_are_left_to_polars() -> None:
    frame = pl.DataFrame({"big": pl.Series([2**100, 2], dtype=pl.Int128), "x": [1, 2]})
    advice = advise(frame, goal="storage", clock=still)
    assert advice.layout.writer == "polars"
    assert advise(frame, writers=["pyarrow"], clock=still).layout.writer == "polars"


def test_without_pyarrow_polars_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers.importlib.util, "find_spec", lambda name: None)
    advice = advise(orders(1_000), goal="storage", clock=still)
    assert advice.layout.writer == "polars"
    assert not any(t.how.endswith("pyarrow") for t in advice.measured)
    assert not any(r.decision.startswith("written by") for r in advice.reasons)


@pytest.mark.parametrize(
    ("frame", "by", "why"),
    [
        (pl.DataFrame(), [], "there are no columns in the files"),
        (pl.DataFrame({"x": []}), [], "there are no rows to try it with"),
        (pl.DataFrame({"x": [1]}), ["x"], "there are no columns in the files"),
    ],
)
def test_advice_on_nothing(frame: pl.DataFrame, by: list[str], why: str) -> None:
    advice = advise(frame, partition_by=by)
    assert (advice.layout, [str(r) for r in advice.reasons]) == (
        Layout(partition_by=tuple(by)),
        [f"the default layout: {why}"],
    )
    assert (advice.before, advice.after, dict(advice.sizes)) == (Cost(), Cost(), {})
    assert "| advised | 0 (–) |" in advice.to_markdown()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"goal": "storge"}, "there is no goal 'storge'; did you mean 'storage'?"),
        ({"goal": ["read"]}, "there is no goal ['read']; did you mean 'read'?"),
        ({"writers": ["arrow"]}, "there is no writer 'arrow'; did you mean 'pyarrow'?"),
        ({"partition_by": ["da"]}, "there is no column 'da'; did you mean 'day'?"),
        ({"sample": 0}, "a sample of 0 rows shows nothing; write 1 or more"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(LazypipeError) as caught:
        advise(pl.DataFrame({"day": [1], "x": [2]}), **arguments)
    assert str(caught.value) == says


def test_objects_of_python_are_refused() -> None:
    frame = pl.DataFrame({"x": pl.Series([object()], dtype=pl.Object)})
    with pytest.raises(LazypipeError, match="column 'x' holds Python objects, which no file can; cast or drop it"):
        advise(frame)


def test_structs_without_fields_are_refused() -> None:
    frame = pl.DataFrame({"x": [1], "e": pl.Series([[{}]], dtype=pl.List(pl.Struct({})))})
    with pytest.raises(
        LazypipeError, match="column 'e' has a struct without fields, which Parquet cannot hold; drop it"
    ):
        advise(frame)


def test_long_lists_are_told_by_their_length() -> None:
    assert told_form(Coded(("a", "b", "c"))) == "coded(values=['a', 'b', 'c'])"
    assert told_form(Coded(("a", "b", "c", "d"))) == "coded(values=4 values)"
    assert str(Reason("x", "plain", "so be it")) == "x: plain: so be it"


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (None, "the smallest of the encodings for Int64 within the limits on time"),
        (Cast(pl.Int32()), "all values seen lie between 1 and 3"),
        (Flag("a", "b"), "3 different texts"),
        (Hexed((4,)), "all texts are hexadecimal digits"),
        (Template(("", "-", ""), (3, "long")), "nearly all texts are made like <3 digits>-<number>"),
        (Multiple(pl.Int32(), "y"), "values are multiples of those of y"),
        (Constant(1), "there is one value"),
        (Determined("y", (1,), (1,)), "values follow from y"),
    ],
)
def test_why(form: Form | None, says: str) -> None:
    from lazypipe.storage.optimizer.advice import why

    assert why(profile(pl.DataFrame({"x": [1, 2, 3]}))["x"], form) == says


def test_what_a_column_is_written_for_is_told() -> None:
    column = profile(pl.DataFrame({"x": [1, 2, 3]}))["x"]
    assert why(column, None, "read") == "the fastest to read of the encodings for Int64 within the limit on bytes"
    assert why(column, None, "write") == "the fastest to write of the encodings for Int64 within the limits"


@pytest.mark.parametrize(
    ("least", "other", "says"),
    [
        ("bytes", Cost(20, 1e-3, 1e-3), "10 bytes of the sample, 20 by the other"),
        ("read", Cost(20, 1e-3, 2e-3), "1,000 µs to read the sample, 2,000 µs by the other"),
        (
            "write",
            Cost(20, 1e-3, 2e-3),
            "1,000 µs to write the sample either way; 10 bytes of the sample, 20 by the other",
        ),
    ],
)
def test_writers_are_compared_by_what_is_to_be_small(least: Any, other: Cost, says: str) -> None:
    assert columns._compared(Cost(10, 1e-3, 1e-3), other, least) == says


def test_whether_times_were_taken_or_estimated_is_told() -> None:
    frame = orders(500)
    quick = advise(frame, goal="storage", budget=0.5, clock=still)
    assert quick.to_markdown().splitlines()[2].endswith(" s. Times are estimated from bytes.")
    assert quick.to_dict()["estimated"] is True
    assert advise(frame, goal="storage", clock=still).to_markdown().splitlines()[2].endswith(" in 0.00 s.")


def test_decimals_that_become_whole_numbers_are_given_a_reason() -> None:
    prices = pl.DataFrame({"price": [Decimal("1.25"), Decimal("3.07"), None]}, schema={"price": pl.Decimal(15, 2)})
    found = profile(prices)
    form = next(f for f in forms_for(found["price"], found, prices) if f.kind == "whole")
    assert why(found["price"], form) == "decimals fit whole numbers of their last digit"


def keyed(rows: int, keys: int) -> pl.DataFrame:
    return pl.select(row=pl.int_range(rows)).select(
        key=pl.col("row").hash(7) % keys, day=pl.col("row") // 100, amount=pl.col("row").hash(8) % 1_000
    )


@pytest.mark.parametrize("seconds", [None, 0.06])
@pytest.mark.parametrize("use", ["groups", "joins"])
def test_rows_of_one_key_stand_together_for_queries_that_group_or_join_by_it(use: str, seconds: float | None) -> None:
    def order(frame: pl.DataFrame, goal: Goal = "read", **query: Any) -> tuple[str, ...]:
        asked = Workload((Query("q", **{use: ("key",), "columns": ("key", "amount"), **query}),))
        advice = advise(frame, asked, goal, seconds, partition_by=(), clock=still)
        told = [str(r) for r in advice.reasons if r.decision == "ordered by key"]
        why = "ordered by key: queries group or join by key, of which there are many: rows with the same one stand together"
        assert told == ([why] if advice.layout.sort_by == ("key",) else [])
        return advice.layout.sort_by

    many = keyed(20_000, 100_000)
    assert order(many) == ("key",)
    assert order(keyed(20_000, 1_000)) == (), "of few keys all are at hand"
    assert order(many.sort("key")) == (), "they are in order already"
    # what filters read of rows as they come is worth more
    assert order(many, filters={"day": "range"}) == ()
    assert order(many.select("key", "amount", day=pl.col("amount")), filters={"day": "equal"}) == ("day",)
    assert order(many, filters={"gone": "equal"}) == ("key",)
    assert order(many, groups=("gone",), joins=()) == ()
    assert (
        advise(
            many, Workload((Query("q", **{use: ("key",)}),)), "read", seconds, keep_order=True, clock=still
        ).layout.sort_by
        == ()
    )


def test_what_is_mostly_appended_to_stays_as_it_comes() -> None:
    frame = orders(20_000)
    query = Query("q", {"country": "equal"})
    assert advise(frame, Workload((query,)), "read", clock=still).layout.sort_by == ("country",)
    for goal in ("read", "storage"):
        for seconds in (None, 0.06):
            layout = advise(frame, Workload((query,), "append heavy"), goal, seconds, total=10**9, clock=still).layout
            assert (layout.sort_by, layout.partition_by) == ((), ()), (goal, seconds)
    declared = advise(frame, Workload((query,), "append heavy"), "read", partition_by=["country"], clock=still).layout
    assert declared.partition_by == ("country",)
