"""Sessions against a loop over rows in order, and their ends counted by hand."""

from __future__ import annotations

import math
from collections import defaultdict
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
MINUTE = timedelta(minutes=1)
ENGINES = st.sampled_from(["in-memory", "streaming"])
AGGREGATE = {"n": "count(*)", "total": "sum(x)", "kinds": "count(distinct x)"}

times = st.none() | st.integers(-60, 60)
keys = st.sampled_from(["a", "b", None])
floats = st.sampled_from([0.0, -0.0, math.nan, 1.5, None])
ROWS = st.lists(st.tuples(times, keys, floats, st.integers(-3, 3)), max_size=12)


def plain(value: Any) -> Any:
    """NaN equals NaN, and 0 equals -0."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else value + 0.0
    return value


def expected(rows: list[Any], by: list[int], gap: int, longest: int | None) -> list[Any]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for row in rows:
        if row[0] is not None:
            groups[tuple(plain(row[place]) for place in by)].append(row)
    found = []
    for key, members in groups.items():
        sessions: list[list[Any]] = []
        for row in sorted(members, key=lambda r: r[0]):
            if not sessions or row[0] - sessions[-1][-1][0] > gap:
                sessions.append([])
            sessions[-1].append(row)
        for session in sessions:
            pieces: dict[int, list[Any]] = defaultdict(list)
            for row in session:
                pieces[0 if longest is None else (row[0] - session[0][0]) // longest].append(row)
            for piece in pieces.values():
                values = [row[3] for row in piece]
                ends = (EPOCH + MINUTE * piece[0][0], EPOCH + MINUTE * piece[-1][0])
                found.append((*key, *ends, len(piece), sum(values), len(set(values))))
    return sorted(found, key=repr)


def frame(rows: list[Any], unit: Any) -> pl.LazyFrame:
    data = [(None if t is None else EPOCH + MINUTE * t, *rest) for t, *rest in rows]
    schema = {"t": pl.Datetime(unit), "g": pl.String(), "f": pl.Float64(), "x": pl.Int64()}
    return pl.LazyFrame(data, schema=schema, orient="row")


@given(
    ROWS,
    st.sampled_from([[], [1], [2], [1, 2]]),
    st.integers(1, 15),
    st.none() | st.integers(1, 40),
    st.sampled_from(["ms", "us", "ns"]),
    ENGINES,
)
@example([(0, "a", 0.0, 1), (5, "a", -0.0, 1), (3, "a", 0.0, 2)], [2], 4, None, "us", "streaming")
@example([(0, "a", -0.0, 1)], [2], 4, None, "us", "streaming")
@example([(0, "a", None, 1), (10, "a", None, 1), (20, "a", None, 2)], [1], 10, 20, "us", "streaming")
def test_sessions(rows: list[Any], by: list[int], gap: int, longest: int | None, unit: Any, engine: Any) -> None:
    cut = {} if longest is None else {"max_length": f"{longest}m"}
    names = [("t", "g", "f", "x")[place] for place in by]
    step = {"session": {"time": "t", "gap": f"{gap}m", "by": names, "aggregate": AGGREGATE, **cut}}
    found = lp.apply(step, frame(rows, unit)).collect(engine=engine)
    assert found.columns == [*names, "session_start", "session_end", *AGGREGATE]
    assert found.schema["session_start"] == pl.Datetime(unit)
    assert sorted((tuple(map(plain, row)) for row in found.rows()), key=repr) == expected(rows, by, gap, longest)


def session(frame: pl.LazyFrame, **more: Any) -> list[Any]:
    step = {"session": {"time": "t", "aggregate": {"n": "count(*)"}, **more}}
    return lp.apply(step, frame).sort("session_start").collect().rows()


def test_a_gap_is_time_that_passes_whatever_the_clock_shows() -> None:
    wall = pl.Series(["2024-03-31 01:30", "2024-03-31 03:30"]).str.to_datetime()
    frame = pl.LazyFrame({"t": wall.dt.replace_time_zone("Europe/Berlin")})
    assert [row[2] for row in session(frame, gap="1h")] == [2]
    assert [row[2] for row in session(frame, gap="59m")] == [1, 1]
    # a day is 24 hours, and this one had 23
    days = pl.Series(["2024-03-31 00:00", "2024-04-01 00:00"]).str.to_datetime().dt.replace_time_zone("Europe/Berlin")
    assert [row[2] for row in session(pl.LazyFrame({"t": days}), gap="23h")] == [2]
    assert [row[2] for row in session(pl.LazyFrame({"t": days}), gap="0.95d")] == [1, 1]


def test_times_further_apart_than_nanoseconds_count() -> None:
    frame = pl.LazyFrame({"t": pl.Series([-(2**63) + 1, 0, 2**63 - 1]).cast(pl.Datetime("ns"))})
    assert [row[2] for row in session(frame, gap="1d")] == [1, 1, 1]
    far = pl.LazyFrame({"t": [datetime(1, 1, 1), datetime(9999, 12, 31), datetime(9999, 12, 30)]})
    assert [row[2] for row in session(far, gap="1d")] == [1, 2]


def test_days() -> None:
    frame = pl.LazyFrame({"t": [date(2024, 3, 1), date(2024, 2, 28), date(2024, 2, 29), None]})
    assert session(frame, gap="1d", max_length="2d") == [
        (date(2024, 2, 28), date(2024, 2, 29), 2),
        (date(2024, 3, 1), date(2024, 3, 1), 1),
    ]


@pytest.mark.parametrize("more", [{}, {"max_length": "1d"}, {"by": ["g", "f"]}])
def test_nothing_falls_back_to_the_engine_in_memory(more: Any) -> None:
    step = {"session": {"time": "t", "gap": "1h", "aggregate": AGGREGATE, **more}}
    rows = pl.concat([frame([], "us")] * 2)  # rows of one empty frame are in any order
    assert "in-memory engine" not in explain(lp.apply(step, rows), "physical")


SCHEMA = {"t": pl.Datetime("us"), "d": pl.Date(), "s": pl.String(), "session_end": pl.Int64()}
LENGTH = "write one such as 15m, 1h, 1d, 1w, 1mo, 1q or 1y"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"gap": "0s"}, "session.gap: 0s is not a duration; write one above zero, such as 30m"),
        ({"gap": "-1h"}, "session.gap: -1h is not a duration; write one above zero, such as 30m"),
        ({"max_length": "0h"}, "session.max_length: 0h is not a duration; write one above zero, such as 30m"),
        ({"gap": "soon"}, f"session.gap: 'soon' is not a duration; {LENGTH}"),
        ({"gap": "99999999999h"}, "session.gap: 99999999999h is longer than 30,000 years; write a shorter one"),
        ({"gap": "1mo"}, "session.gap: 1mo has months, which differ in length; write it in days or hours"),
        ({"time": "d"}, "session.gap: 1h is finer than what Date tells apart; write a longer one"),
        ({"time": "tt"}, "session.time: unknown column 'tt'; did you mean 't'?"),
        ({"time": "s"}, "session.time: column 's' is String, which is not a date or time; name a column of dates or datetimes, or cast it first"),
        ({"by": "session_end"}, "session.by[0]: sessions have a column 'session_end' of their own; rename it first"),
        (
            {"aggregate": {"session_start": "count(*)"}},
            "session.aggregate.session_start: sessions have a column 'session_start' of their own; give the aggregate another name",
        ),
        ({"aggregate": {"n": "t"}}, "session.aggregate.n: 'n' is not an aggregate; wrap it in sum(), min(), max(), first() … or add it to by"),
    ],
)  # fmt: skip
def test_mistakes(more: dict[str, Any], said: str) -> None:
    step = {"session": {"time": "t", "gap": "1h", "aggregate": {"n": "count(*)"}, **more}}
    with pytest.raises(DefinitionError) as caught:
        lp.apply(step, pl.LazyFrame(schema=SCHEMA))
    assert str(caught.value) == said
