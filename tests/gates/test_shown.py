"""Values that Python has no value for are shown as text, all others as they are."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.gates.shown import records

US = pl.Datetime("us")


def column(counts: list[int | None], dtype: Any) -> pl.Series:
    return pl.Series("a", counts, dtype=pl.Int32 if dtype == pl.Date else pl.Int64).cast(dtype)


def shown(series: pl.Series) -> list[Any]:
    return [row["a"] for row in records(series.to_frame("a"))]


FRAMES = [
    pl.DataFrame({"a": [1, None], "b": ["x", None], "c": [[1], None], "d": [{"e": 1}, None], "f": [b"x", None]}),
    pl.DataFrame({"a": [timedelta(1), None], "b": [date.min, date.max], "c": [datetime.min, datetime.max]}),
    pl.DataFrame({"a": [[date(2020, 1, 1), None], []], "b": [{"x": date(2020, 1, 1)}, {"x": None}]}),
    pl.DataFrame({"a": [datetime(2020, 1, 1, tzinfo=UTC), None]}),
    pl.DataFrame({"a": pl.Series([[1, 2], None], dtype=pl.Array(pl.Int8, 2)), "b": pl.Series([{}, None], dtype=pl.Struct([]))}),
    pl.DataFrame({"a": [object()]}),
    pl.DataFrame(schema={"a": pl.Date}),
    pl.DataFrame(),
]  # fmt: skip


@pytest.mark.parametrize("frame", FRAMES, ids=lambda f: str(f.schema))
def test_what_python_can_hold_is_as_polars_gives_it(frame: pl.DataFrame) -> None:
    assert records(frame) == frame.to_dicts()


@given(st.lists(st.none() | st.integers(-94_000_000, 94_000_000), max_size=5))
def test_dates_equal_those_that_polars_writes(counts: list[int | None]) -> None:
    days = column(counts, pl.Date)
    assert [v and str(v) for v in shown(days)] == days.dt.to_string("iso").to_list()


@given(st.integers(-8_000_000_000_000_000_000, 8_000_000_000_000_000_000))
def test_moments_equal_those_that_polars_writes(count: int) -> None:
    moments = column([count], US)
    (found,) = shown(moments)
    said = found if isinstance(found, str) else found.isoformat(" ", "microseconds")
    assert said == moments.dt.to_string("iso").item()


@pytest.mark.parametrize(
    ("counts", "dtype", "expected"),
    [
        ([-(2**31), 2**31 - 1], pl.Date, ["-5877641-06-23", "+5881580-07-11"]),
        ([-719_163, 2_932_897], pl.Date, ["0000-12-31", "+10000-01-01"]),
        # the year before the year 0, of which Python knows neither
        ([-719_529, -4_371_953], pl.Date, ["-0001-12-31", "-10000-01-01"]),
        ([-62_167_219_200_000_001], US, ["-0001-12-31 23:59:59.999999"]),
        ([2**63 - 1, None], US, ["+294247-01-10 04:00:54.775807", None]),
        ([2**63 - 1], pl.Datetime("ms", "UTC"), ["+292278994-08-17 07:12:55.807Z"]),
        ([2**63 - 1], pl.Duration("ms"), ["9223372036854775807ms"]),
        # in Auckland this is in the year 10000
        ([253_402_300_799_000_000], pl.Datetime("us", "Pacific/Auckland"), ["9999-12-31 23:59:59.000000Z"]),
    ],
)
def test_values_at_the_ends_of_types(counts: list[int | None], dtype: Any, expected: list[Any]) -> None:
    assert shown(column(counts, dtype)) == expected


def test_values_inside_of_others() -> None:
    far = column([6_000_000], pl.Date)
    frame = pl.DataFrame({"a": far}).select(l=pl.concat_list("a", "a"), s=pl.struct("a"))
    assert records(frame) == [{"l": ["+18397-06-11", "+18397-06-11"], "s": {"a": "+18397-06-11"}}]


def test_reports_hold_them() -> None:
    """A mistyped year (20031 for 2031) is a bad row like others, not the end of the run."""
    frame = pl.DataFrame({"i": [1, 2], "d": column([6_597_000, 19_724], pl.Date), "t": column([2**63 - 1, 0], US)})
    rules = [
        {"between": {"column": "d", "max": "2030-01-01", "action": "quarantine"}},
        {"max": {"column": "t", "max": "2030-01-01"}},
        {"max": {"column": "d", "max": "2030-01-01", "by": "t", "id": "groups"}},
    ]
    report = lp.check(frame, rules)
    assert report.checks[0].samples == ({"d": "+20031-12-22"},)
    assert report.checks[1].value == "+294247-01-10 04:00:54.775807"
    assert report.checks[2].groups == ({"t": "+294247-01-10 04:00:54.775807", "value": "+20031-12-22"},)
    assert report.to_dict()["checks"][1]["value"] == "+294247-01-10 04:00:54.775807"
    found = lp.split(frame, rules)
    assert (found.good["i"].to_list(), found.bad["i"].to_list()) == ([2], [1])
    assert found.bad.schema["d"] == pl.Date


@pytest.mark.parametrize(
    ("rule", "failed"),
    [
        ({"freshness": {"column": "d", "within": "2h"}}, 0),
        ({"median": {"column": "d", "min": "2020-01-01"}}, 1),
        ({"quantile": {"column": "d", "q": 1, "max": "2020-01-01"}}, 1),
        ({"min": {"column": "d", "min": "2020-01-01"}}, 1),
        ({"in_past": "d"}, 1),
        ({"in_future": "d"}, 1),
        ({"no_gaps": {"column": "d", "every": "1d"}}, 1),
        ({"unique": "d"}, 0),
    ],
)
def test_rules_on_the_first_and_the_last_date_of_all(rule: dict[str, Any], failed: int) -> None:
    frame = pl.DataFrame({"d": column([-(2**31), 2**31 - 1], pl.Date)})
    assert sum(lp.check(frame, [rule]).failed.values()) == failed
