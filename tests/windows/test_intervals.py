"""Interval joins against a loop over all pairs."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.errors import DefinitionError
from lazypipe.plan.explain import explain

EPOCH = datetime(1970, 1, 1)
SECOND = timedelta(seconds=1)
ENGINES = st.sampled_from(["in-memory", "streaming"])
times = st.none() | st.integers(-40, 40)
keys = st.sampled_from(["a", "b", None])
ROWS = st.lists(st.tuples(times, keys, st.integers(0, 9)), max_size=10)
UNITS = st.sampled_from(["ms", "us", "ns"])


def moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else EPOCH + SECOND * seconds


def frame(rows: list[Any], unit: Any) -> pl.LazyFrame:
    schema = {"t": pl.Datetime(unit), "g": pl.String(), "x": pl.Int64()}
    return pl.LazyFrame([(moment(t), *rest) for t, *rest in rows], schema=schema, orient="row")


@given(ROWS, ROWS, st.integers(-30, 30), st.integers(0, 30), st.booleans(), st.booleans(), UNITS, ENGINES)
@example([(0, "a", 1), (0, "a", 1)], [(1, "a", 2), (1, "a", 2)], 1, 0, True, True, "us", "streaming")
@example([(None, "a", 1), (1, None, 1)], [(None, "a", 2), (1, None, 2)], -5, 10, True, True, "ns", "streaming")
def test_pairs(
    left: list[Any], right: list[Any], lower: int, more: int, by: bool, keep: bool, unit: Any, engine: Any
) -> None:
    expected: Counter[Any] = Counter()
    for t, g, x in left:
        found = [
            (moment(u), *([] if by else [h]), y)
            for u, h, y in right
            if None not in (t, u) and lower <= u - t <= lower + more and (not by or (g is not None and g == h))
        ]
        if not found and keep:
            found = [(None,) * (2 if by else 3)]
        expected.update((moment(t), g, x, *other) for other in found)
    step = {
        "with": "other",
        "time": "t",
        "within": [f"{lower}s", f"{lower + more}s"],
        "how": "left" if keep else "inner",
    }
    lowered = lp.apply(
        {"interval_join": {**step, **({"by": "g"} if by else {})}}, frame(left, unit), other=frame(right, unit)
    )
    joined = lowered.collect(engine=engine)
    assert joined.columns == ["t", "g", "x", "t_right", *([] if by else ["g_right"]), "x_right"]
    assert Counter(joined.rows()) == expected


def test_columns_are_chosen_and_named() -> None:
    here = pl.LazyFrame({"at": [EPOCH], "k": [1], "x": [5]})
    there = pl.LazyFrame({"seen": [EPOCH + SECOND], "key": [1], "x": [6], "y": [7]})
    step = {
        "with": "r",
        "left_time": "at",
        "right_time": "seen",
        "within": ["0s", "1s"],
        "left_by": "k",
        "right_by": "key",
    }
    for columns, expected in (
        (None, {"seen": EPOCH + SECOND, "x_": 6, "y": 7}),
        (["y", "x"], {"y": 7, "x_": 6}),
        ({"x": "other"}, {"other": 6}),
    ):
        for how in ("inner", "left"):
            chosen = {} if columns is None else {"columns": columns}
            found = lp.apply({"interval_join": {**step, "how": how, "suffix": "_", **chosen}}, here, r=there).collect()
            assert found.to_dicts() == [{"at": EPOCH, "k": 1, "x": 5, **expected}]


def test_nanoseconds_count() -> None:
    base = 2**62
    here = pl.LazyFrame({"t": pl.Series([base + 999, -(2**63) + 1]).cast(pl.Datetime("ns"))})
    there = pl.LazyFrame(
        {"t": pl.Series([base + n for n in (998, 999, 2_000, 1_999)] + [2**63 - 1]).cast(pl.Datetime("ns"))}
    )
    found = lp.apply({"interval_join": {"with": "r", "time": "t", "within": ["0us", "1us"]}}, here, r=there).collect()
    assert sorted(found["t_right"].cast(pl.Int64).to_list()) == [base + 999, base + 1_999]


def test_days_pass_as_hours_do_when_clocks_change() -> None:
    zone = "Europe/Berlin"
    here = pl.LazyFrame({"t": [datetime(2024, 3, 30, 12)]}).select(pl.col("t").dt.replace_time_zone(zone))
    there = pl.LazyFrame({"t": [datetime(2024, 3, 31, 12), datetime(2024, 3, 31, 13)]})
    there = there.select(pl.col("t").dt.replace_time_zone(zone))
    step = {"interval_join": {"with": "r", "time": "t", "within": ["1d", "1d"]}}
    found = lp.apply(step, here, r=there).collect()
    assert found["t_right"].dt.hour().to_list() == [13]


def test_long_intervals_find_each_pair_once() -> None:
    here = pl.LazyFrame({"t": [date(1, 1, 1), date(2024, 2, 29), date(9999, 12, 31)]})
    step = {"interval_join": {"with": "r", "time": "t", "within": ["-10000000d", "10000000d"]}}
    assert lp.apply(step, here, r=here).collect().height == 9


@pytest.mark.parametrize("how", ["inner", "left"])
@pytest.mark.parametrize("by", [{}, {"by": "g"}])
def test_nothing_falls_back_to_the_engine_in_memory(how: str, by: Any) -> None:
    step = {"interval_join": {"with": "r", "time": "t", "within": ["-1h", "1h"], "how": how, **by}}
    rows = pl.concat([frame([], "us")] * 2)  # rows of one empty frame are in any order
    assert "in-memory engine" not in explain(lp.apply(step, rows, r=rows), "physical")


SCHEMA = {"t": pl.Datetime("us"), "u": pl.Datetime("us", "UTC"), "d": pl.Date(), "s": pl.String(), "x": pl.Int64()}
LENGTH = "write one such as 15m, 1h, 1d, 1w, 1mo, 1q or 1y"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"time": None}, "with: the times of an interval_join must be given once; give time, or left_time and right_time"),
        ({"left_time": "t"}, "with: the times of an interval_join must be given once; give time, or left_time and right_time"),
        ({"left_time": "t", "right_time": "t"}, "with: the times of an interval_join must be given once; give time, or left_time and right_time"),
        ({"by": "x", "left_by": "x"}, "by: the columns of an interval_join must be given once; give by, or left_by and right_by"),
        ({"left_by": ["x", "s"], "right_by": "x"}, "left_by: left_by has 2 columns and right_by 1; name the same number on both sides"),
        ({"right_by": "x"}, "right_by: left_by has 0 columns and right_by 1; name the same number on both sides"),
        ({"within": ["1h", "-1h"]}, "within: nothing lies from 1h to -1h; write the lower bound first"),
        ({"within": ["1h"]}, "within: within has two bounds; write them as in [-1h, 1h]"),
        ({"within": "1h"}, "within: within has two bounds; write them as in [-1h, 1h]"),
        ({"within": ["-1h", "later"]}, f"within[1]: 'later' is not a duration; {LENGTH}"),
        ({"within": ["-1h", "300000000d"]}, "within[1]: 300000000d is longer than 30,000 years; write a shorter one"),
        ({"within": ["-1mo", "0h"]}, "within[0]: -1mo has months, which differ in length; write it in days or hours"),
        ({"time": "d"}, "within[0]: -1h is finer than what Date tells apart; write a longer one"),
        ({"time": "tt"}, "time: unknown column 'tt'; did you mean 't'?"),
        ({"time": None, "left_time": "tt", "right_time": "t"}, "left_time: unknown column 'tt'; did you mean 't'?"),
        ({"time": None, "left_time": "t", "right_time": "tt"}, "right_time: unknown column 'tt' of 'r'; did you mean 't'?"),
        ({"time": "s"}, "time: column 's' is String, which is not a date or time; name a column of dates or datetimes, or cast it first"),
        (
            {"time": None, "left_time": "t", "right_time": "u"},
            "left_time: this side's time is Datetime(us) and the other's is Datetime(us, UTC); cast one of them first",
        ),
        ({"by": "xx"}, "by[0]: unknown column 'xx'; did you mean 'x'?"),
        ({"left_by": "s", "right_by": "x"}, "left_by[0]: key 's' is String and key 'x' is Int64; cast one of them first"),
        ({"columns": ["xx"]}, "columns[0]: unknown column 'xx' of 'r'; did you mean 'x'?"),
        ({"columns": {"x": "a", "s": "a"}}, "columns: two columns would be called 'a'; rename one of them, or choose a suffix"),
    ],
)  # fmt: skip
def test_mistakes(more: dict[str, Any], said: str) -> None:
    step = {"with": "r", "time": "t", "within": ["-1h", "1h"], **more}
    step = {k: v for k, v in step.items() if v is not None}
    with pytest.raises(DefinitionError) as caught:
        lp.apply({"interval_join": step}, pl.LazyFrame(schema=SCHEMA), r=pl.LazyFrame(schema=SCHEMA))
    assert str(caught.value) == f"interval_join.{said}"
