"""Which rows a change beside them can reach: all whose match is another one, and few more."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe import ops
from lazypipe.spec.model import Step, freeze
from lazypipe.spec.scope import Scope, Table
from lazypipe.windows import Reach

PLACES = st.none() | st.integers(-12, 12)
KEYS = st.sampled_from(["a", "b", None])
ROWS = st.lists(st.tuples(PLACES, KEYS), max_size=8)
DTYPES: list[pl.DataType] = [pl.Datetime("us"), pl.Datetime("ns", "UTC"), pl.Datetime("ms"), pl.Date(), pl.Int32(), pl.UInt64(), pl.Float64()]  # fmt: skip


def place(number: int | None, dtype: pl.DataType) -> Any:
    if number is None:
        return None
    if isinstance(dtype, pl.Datetime):
        return datetime(1970, 1, 1) + timedelta(hours=number)
    return date(2024, 2, 20) + timedelta(days=number) if dtype == pl.Date else number + 20


def frame(rows: list[Any], dtype: pl.DataType, name: str) -> pl.LazyFrame:
    values = [(place(at, dtype), key, number) for number, (at, key) in enumerate(rows)]
    naive = pl.Datetime(dtype.time_unit) if isinstance(dtype, pl.Datetime) else dtype
    made = pl.LazyFrame(values, schema={"t": naive, "k": pl.String(), name: pl.Int64()}, orient="row")
    return made.with_columns(pl.col("t").cast(dtype)) if dtype != naive else made


def tolerance(number: int | None, dtype: pl.DataType) -> Any:
    if number is None:
        return None
    return (
        f"{number}{'d' if dtype == pl.Date else 'h'}"
        if dtype.is_temporal()
        else float(number)
        if dtype.is_float()
        else number
    )


def reach(step: dict[str, Any], here: pl.LazyFrame, there: pl.LazyFrame) -> Reach | None:
    written = Step(*next(iter(step.items())))
    operation = ops.operation(Step(written.name, freeze(written.arguments)))
    tables = {"other": Table(there, there.collect_schema())}
    scope = Scope(type(operation), written, tables)
    return operation.reach(Table(here, here.collect_schema()), scope)


def check(step: dict[str, Any], here: Any, stays: Any, came: Any, went: Any, dtype: pl.DataType) -> None:
    """Join before and after: rows that are put beside others must be found."""
    columns = ["k"] if next(iter(step.values()))["by"] else []
    left, parts = frame(here, dtype, "row"), [frame(rows, dtype, "other") for rows in (stays, came, went)]
    # values are those of their place and group, so that it does not matter which of equal ones is taken
    said = [pl.concat_str(pl.lit(name), "t", *columns, separator=" ").alias("v") for name in "scw"]
    parts = [part.select("t", *columns, v) for part, v in zip(parts, said, strict=True)]

    def matches(*of: pl.LazyFrame) -> dict[int, list[Any]]:
        # of rows with one place, the first is taken
        other = pl.concat(of).sort("v").unique(["t", *columns], keep="first", maintain_order=True)
        joined = lp.apply(step, left, other=other).collect()
        return dict(joined.group_by("row").agg(pl.col("v").sort()).rows())

    before, after = matches(parts[0], parts[2]), matches(parts[0], parts[1])
    found = reach(step, left, parts[0])
    assert found is not None
    extents = found.extents(parts[2].with_columns(pl.lit(7).alias("apart")), "apart")
    rows = found.touched(left.select("t", *columns, "row"), parts[0], came=parts[1], went=[*extents.values()])
    told = set(rows.collect()["row"])
    assert {r for r in before.keys() | after.keys() if before.get(r) != after.get(r)} <= told
    if not came and not extents:
        assert not told


@given(
    here=ROWS,
    stays=ROWS,
    came=ROWS,
    went=ROWS,
    strategy=st.sampled_from(["backward", "forward", "nearest"]),
    far=st.none() | st.integers(0, 6),
    by=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=settings().max_examples // 2)
@example([(5, "a")], [], [], [(1, "b")], "backward", None, True, pl.Datetime("us"))
@example([(0, "a"), (3, "a")], [(2, "a")], [(1, "a")], [], "nearest", 1, True, pl.Float64())
def test_rows_with_another_nearest_row_are_found(
    here: Any, stays: Any, came: Any, went: Any, strategy: Any, far: Any, by: bool, dtype: pl.DataType
) -> None:
    told: dict[str, Any] = {"with": "other", "on": "t", "by": ["k"] if by else [], "strategy": strategy}
    if far is not None:
        told["tolerance"] = tolerance(far, dtype)
    check({"asof_join": told}, here, stays, came, went, dtype)


@given(
    here=ROWS,
    stays=ROWS,
    came=ROWS,
    went=ROWS,
    lower=st.integers(-5, 5),
    more=st.integers(0, 5),
    how=st.sampled_from(["left", "inner"]),
    by=st.booleans(),
    dtype=st.sampled_from(DTYPES[:4]),
)
@settings(max_examples=settings().max_examples // 2)
def test_rows_with_others_in_their_interval_are_found(
    here: Any, stays: Any, came: Any, went: Any, lower: int, more: int, how: str, by: bool, dtype: pl.DataType
) -> None:
    within = [tolerance(lower, dtype), tolerance(lower + more, dtype)]
    told = {"with": "other", "time": "t", "within": within, "by": ["k"] if by else [], "how": how}
    check({"interval_join": told}, here, stays, came, went, dtype)


@pytest.mark.parametrize(
    ("step", "found"),
    [
        ({"asof_join": {"with": "other", "on": "t", "by": ["k"]}}, [4, 5, 7, 8]),
        ({"asof_join": {"with": "other", "on": "t", "by": ["k"], "strategy": "forward"}}, [2, 4]),
        ({"asof_join": {"with": "other", "on": "t", "by": ["k"], "tolerance": "1h"}}, [4, 5]),
        ({"asof_join": {"with": "other", "on": "t", "by": ["k"], "strategy": "nearest"}}, [2, 4, 5, 7, 8]),
        ({"interval_join": {"with": "other", "time": "t", "within": ["-1h", "2h"], "by": ["k"]}}, [2, 4, 5]),
    ],
)
def test_not_many_more_are_found(step: dict[str, Any], found: list[int]) -> None:
    dtype = pl.Datetime("us")
    here = frame([(number, "a") for number in range(12) if number not in (3, 6)] + [(4, "b")], dtype, "row")
    stays = frame([(2, "a"), (8, "a"), (5, "b")], dtype, "other")
    came = frame([(4, "a")], dtype, "other")
    reached = reach(step, here, stays)
    assert reached is not None
    rows = reached.touched(here, stays, came=came).collect()
    assert [at - place(0, dtype) for at in rows["t"].sort()] == [timedelta(hours=number) for number in found]
    if "asof_join" in step:
        # what is gone may have been of any group
        gone = reached.touched(here, stays, went=[*reached.extents(came, "other").values()])
        assert gone.filter(pl.col("k") == "a").collect().sort("t").equals(rows.sort("t"))


def test_each_row_reaches_by_itself() -> None:
    here = frame([(number, "a") for number in range(12)], pl.Datetime("us"), "row")
    there = frame([(number, "a") for number in range(0, 12, 2)], pl.Datetime("us"), "other")
    came = frame([(1, "a"), (9, "a")], pl.Datetime("us"), "other")
    reached = reach({"asof_join": {"with": "other", "on": "t", "by": ["k"]}}, here, there)
    assert reached is not None
    assert sorted(reached.touched(here, there, came=came).collect()["row"]) == [1, 2, 9, 10]
    many = frame([(2 * number, "a") for number in range(40)], pl.Datetime("us"), "other")
    near = reach({"interval_join": {"with": "other", "time": "t", "within": ["0s", "0s"], "by": ["k"]}}, here, there)
    assert near is not None
    assert sorted(near.touched(here, there, came=many).collect()["row"]) == [0, 2, 4, 6, 8, 10]


def test_ends_beyond_what_python_tells_skip_no_files() -> None:
    here = pl.LazyFrame({"t": [2**60, 0]}, schema={"t": pl.Datetime("us")})
    reached = reach({"interval_join": {"with": "other", "time": "t", "within": ["0s", "1s"], "by": []}}, here, here)
    assert reached is not None
    assert reached.touched(here, here.head(0), came=here).collect().height == 2


def test_nothing_is_reached_where_nothing_came() -> None:
    here = frame([(1, "a")], pl.Datetime("us"), "row")
    reached = reach({"asof_join": {"with": "other", "on": "t", "by": ["k"]}}, here, here)
    assert reached is not None
    assert reached.touched(here, here, came=here.head(0)).collect().rows() == []


def test_distances_of_other_types_are_not_told() -> None:
    here = pl.LazyFrame(schema={"t": pl.Duration("us")})
    assert reach({"asof_join": {"with": "other", "on": "t", "by": []}}, here, here) is None
    assert reach({"filter": "t IS NULL"}, here, here) is None
