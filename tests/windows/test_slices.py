"""Slices of time against windows that are looked through one by one: which share a slice, and which slices they hold."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.windows import Clock, windows
from lazypipe.windows.slices import BEGIN, NUMBER, Slices

SKIPPED = datetime(2011, 12, 30, 12)  # Samoa had no such day
KINDS: list[tuple[tuple[str, ...], str | None]] = [
    (("7m",), "21m"),
    (("4m",), "10m"),
    (("1h",), None),
    (("1d",), "2d"),
    (("1d",), "1w"),
    (("2d",), "5d"),
    (("1mo",), "1q"),
    (("1h", "1d", "all"), None),
    (("2d", "1w"), None),
]
TIMES = st.lists(
    st.tuples(
        st.one_of(st.integers(-400, 400), st.integers(-40_000, 40_000)).map(lambda n: SKIPPED + timedelta(minutes=n)),
        st.sampled_from(["a", "b", None]),
    ),
    max_size=8,
)


@given(st.sampled_from(KINDS), TIMES, st.sampled_from([None, "UTC", "Pacific/Apia"]), st.data())
def test_windows_and_their_slices(
    kinds: tuple[tuple[str, ...], str | None], times: list[Any], zone: str | None, data: st.DataObject
) -> None:
    clock, (names, period) = Clock(pl.Datetime("us", zone)), kinds
    places = [()] if len(names) == 1 else [(n,) for n in range(len(names))]
    slices = Slices(names, tuple(windows(clock, e, *p, period=period) for e, p in zip(names, places, strict=True)))
    aware = [(t if zone is None else t.replace(tzinfo=UTC), g) for t, g in times]
    rows = pl.LazyFrame(
        aware, schema={"t": pl.Datetime("us", None if zone is None else "UTC"), "g": pl.String}, orient="row"
    )
    rows = slices.cut(rows.cast({"t": clock.dtype}), "t")
    told = [*(["window"] if len(names) > 1 else []), "window_start", "window_end"]

    def counted(frame: pl.LazyFrame, by: list[str]) -> Counter[Any]:
        return Counter(frame.select(*by, *told).collect().rows())

    spread = slices.spread(rows).with_columns(**slices.ends())
    each = counted(spread, ["g"])
    # each window that any row lies in, once
    for by in (["g"], []):
        assert counted(slices.windows(rows, by), by) == dict.fromkeys(counted(spread, by), 1)
    # the rows of some of them, and of no others that are not told apart
    wanted = pl.DataFrame(sorted(each, key=repr), schema=spread.select("g", *told).collect_schema(), orient="row")
    wanted = wanted.filter(
        pl.Series(data.draw(st.lists(st.booleans(), min_size=len(each), max_size=len(each))), dtype=pl.Boolean)
    )
    for columns in (["g", *told], told, told[:-1], ["g"], [c for c in told if c != "window_start"]):
        chosen = wanted.select(columns).unique()
        put = []
        for keys, into in slices.within(chosen):
            assert keys.unique().height == keys.height
            of = rows.join(keys.lazy(), on=keys.columns, how="semi", nulls_equal=True) if keys.width else rows
            put.append(into(of).select("g", *told, BEGIN))
        made = pl.concat(put).join(chosen.lazy(), on=columns, how="semi", nulls_equal=True)
        held = spread.join(chosen.lazy(), on=columns, how="semi", nulls_equal=True)
        assert counted(made, ["g"]) == counted(held, ["g"])


def test_places_that_many_slices_share_are_told_once() -> None:
    day = windows(Clock(pl.Datetime("us")), "1m", period="1d")
    slices = Slices(("1m",), (day,))
    rows = pl.LazyFrame({"t": [datetime(2024, 1, 1) + timedelta(minutes=n) for n in range(2_000)]})
    found = slices.windows(slices.cut(rows, "t"), ())
    assert found.select(pl.len()).collect().item() == 2_000 + 1_439
    ((keys, _),) = slices.within(found.select("window_start").collect())
    assert keys.height == 2_000 + 2 * 1_439
    assert NUMBER in found.collect_schema()
