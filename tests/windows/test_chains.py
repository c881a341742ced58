"""Which sessions change if parts of the rows come or go, or event time goes on: against all sessions, as they were and as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st

from lazypipe.windows import Clock, Sessions
from lazypipe.windows.chains import Chains
from lazypipe.windows.sessions import SESSION

FIGURES = {"g": pl.String(), "f": pl.Float64(), "first": pl.Int64(), "last": pl.Int64(), "n": pl.Int64()}
Part = tuple[Any, ...]
SPANS = st.tuples(
    st.one_of(st.integers(0, 60), st.integers(-2_000, 2_000)), st.sampled_from([0, 0, 1, 5, 40, 700])
).map(lambda s: (s[0], sum(s)))
PARTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]),
        st.sampled_from([0.0, -0.0, math.nan, None]),
        SPANS,
        st.sampled_from(["came", "stayed", "stayed", "left"]),
    ),
    max_size=10,
).map(lambda parts: [(g, f, *span, 1, where) for g, f, span, where in parts])
"""Groups, first and last time, how many rows, and what became of it."""


@dataclass
class Fake:
    """Figures as a run has them."""

    parts: list[Part]
    dtype: pl.DataType

    def _of(self, *where: str) -> pl.LazyFrame:
        rows = pl.LazyFrame([p[:-1] for p in self.parts if p[-1] in where], schema=FIGURES, orient="row")
        return rows.with_columns(pl.col("first", "last").cast(self._stored).cast(self.dtype))

    @property
    def _stored(self) -> pl.DataType:
        return pl.Int32() if self.dtype == pl.Date else pl.Int64()

    @property
    def came(self) -> pl.LazyFrame:
        return self._of("came")

    @property
    def stayed(self) -> pl.LazyFrame:
        return self._of("stayed")

    @property
    def left(self) -> pl.LazyFrame:
        return self._of("left")

    def of(self, places: pl.DataFrame) -> pl.LazyFrame:
        kept = self._of("came", "stayed")
        return kept.join(places.lazy(), on=places.columns, how="semi", nulls_equal=True) if places.width else kept


def same(value: Any) -> Any:
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def chained(parts: list[Part], by: Sequence[int], gap: int) -> list[list[Part]]:
    """Return parts that touch, put together."""
    groups: dict[Any, list[Part]] = {}
    for part in parts:
        groups.setdefault(tuple(same(part[place]) for place in by), []).append(part)
    found = []
    for of in groups.values():
        end = None
        for part in sorted(of, key=lambda p: p[2]):
            if end is None or part[2] - end > gap:
                found.append(list[Part]())
            found[-1].append(part)
            end = max(part[3], part[3] if end is None else end) if found[-1][:-1] else part[3]
    return found


def key(chain: list[Part], by: Sequence[int]) -> Part:
    return (*(same(chain[0][place]) for place in by), min(p[2] for p in chain), max(p[3] for p in chain))


LONG = [("a", 0.0, n * 5, n * 5, 1, "stayed") for n in range(-400, 400)]
"""One session of 4,000 ticks, of parts that are each far shorter."""


@given(
    PARTS,
    st.sampled_from([[0], [1], [0, 1], []]),
    st.sampled_from([1, 5, 40]),
    st.sampled_from([pl.Date(), pl.Datetime("ms"), pl.Datetime("us", "Europe/Berlin")]),
    st.none() | st.tuples(st.integers(-200, 200), st.integers(0, 900), st.booleans()),
)
@example([*LONG, ("a", 0.0, 2, 2, 1, "left")], [0], 5, pl.Date(), None)
@example([*LONG, ("a", 0.0, 7, 7, 1, "came")], [], 5, pl.Datetime("us"), (0, 5_000, True))
@example([*LONG[:400], ("a", 0.0, 0, 0, 1, "left"), *LONG[401:]], [1], 5, pl.Datetime("ms"), (-9, 1, True))
@example(
    [*LONG, ("b", 0.0, 2**62, 2**62 + 1, 1, "came"), ("b", 0.0, -(2**62), 5, 1, "left")],
    [0],
    5,
    pl.Datetime("us"),
    (0, 9, False),
)
def test_sessions_that_change(
    parts: list[Part], by: list[int], gap: int, dtype: Any, times: tuple[int, int, bool] | None
) -> None:
    names = ["g", "f"]
    figures, groups = Fake(parts, dtype), tuple(names[place] for place in by)

    def merge(rows: pl.LazyFrame) -> pl.LazyFrame:
        ends = (pl.col("first").min().alias("start"), pl.col("last").max().alias("end"))
        return rows.group_by(SESSION).agg(*(pl.col(n).first() for n in groups), *ends, pl.col("n").sum()).drop(SESSION)

    chains = Chains(Sessions(Clock(dtype), gap), groups, "first", "last", "start", "end", merge)
    held = None
    was, now = (lambda _: True), (lambda _: True)
    if times is not None:
        before, after, closing = times[0], times[0] + times[1], times[2]
        ends = pl.col("end").cast(figures._stored).cast(pl.Int64)
        held = (ends <= before, ends <= after) if closing else (ends > before, ends > after)
        was, now = (
            ((lambda e: e <= before), (lambda e: e <= after))
            if closing
            else ((lambda e: e > before), (lambda e: e > after))
        )

    def plain(frame: pl.DataFrame) -> set[Part]:
        rows = frame.with_columns(pl.col("start", "end").cast(figures._stored).cast(pl.Int64)).rows()
        found = {tuple(map(same, row)) for row in rows}
        assert len(found) == len(rows)
        return found

    touched, spans = chains.touched(figures, [*groups, "start", "end"], [], held)
    keys = plain(touched)
    old = {key(c, by): len(c) for c in chained([p for p in parts if p[-1] != "came"], by, gap)}
    new = {key(c, by): len(c) for c in chained([p for p in parts if p[-1] != "left"], by, gap)}
    # what was there without those that are touched, and what comes of these, is what is there
    stays = {(*k, n) for k, n in old.items() if was(k[-1]) and k not in keys}
    comes = {row for row in plain(chains.rows(figures, spans).collect()) if now(row[-2])}
    assert stays.isdisjoint(comes)
    assert stays | comes == {(*k, n) for k, n in new.items() if now(k[-1])}
    # and no more is touched than lies in what changed, or is due
    for chain in chained(parts, by, gap):
        group, *span = key(chain, by)[:-2], *key(chain, by)[-2:]
        within = {k for k in keys if k[:-2] == group and span[0] <= k[-2] <= span[1]}
        if {p[-1] for p in chain} == {"stayed"}:
            assert within == ({key(chain, by)} if was(span[1]) != now(span[1]) else set())
        else:
            there = {k for k in old if was(k[-1])} | {k for k in new if now(k[-1])}
            assert within == {k for k in there if k[:-2] == group and span[0] <= k[-2] <= span[1]}


def test_sessions_that_are_looked_up_are_touched() -> None:
    figures = Fake(
        [("a", 0.0, 0, 3, 1, "stayed"), ("a", 0.0, 4, 9, 2, "stayed"), ("b", 0.0, 0, 3, 5, "stayed")], pl.Date()
    )
    chains = Chains(
        Sessions(Clock(pl.Date()), 1), ("g",), "first", "last", "start", "end", lambda rows: rows.select("g", "n")
    )
    looked_up = pl.LazyFrame(
        {"g": ["a"], "start": [0], "end": [9]}, schema={"g": pl.String, "start": pl.Int32, "end": pl.Int32}
    )
    looked_up = looked_up.cast({"start": pl.Date, "end": pl.Date})
    touched, spans = chains.touched(figures, ["g", "start"], [looked_up], None)
    assert touched.cast({"start": pl.Int32}).rows() == [("a", 0)]
    assert sorted(chains.rows(figures, spans).collect().rows()) == [("a", 1), ("a", 2)]
    nothing, none = chains.touched(figures, ["g", "start"], [], None)
    assert (nothing.height, none.height, chains.rows(figures, none).collect().height) == (0, 0, 0)
