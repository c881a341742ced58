"""What becomes of rows when rows with their keys come: held against plain Python that knows one key at a time."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from lazypipe.errors import LazypipeError
from lazypipe.incremental.merging import merge_upsert, merge_versions, refuse_nulls

SCHEMA = pl.Schema({"k": pl.Int64(), "j": pl.String(), "t": pl.Int64(), "x": pl.List(pl.Int64()), "op": pl.String()})
KEY = ["k", "j"]
Row = tuple[Any, ...]


def rows(moments: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Row]]:
    return st.lists(
        st.tuples(
            st.integers(1, 3),
            st.sampled_from(["a", "b"]),
            moments,
            st.sampled_from([None, [1], [2], [1, 2]]),
            st.sampled_from(["u", "d", None]),
        ),
        max_size=7,
    )


def frame(found: list[Row], schema: pl.Schema = SCHEMA) -> pl.DataFrame:
    return pl.DataFrame(found, schema=schema, orient="row")


def plain(found: pl.DataFrame) -> list[str]:
    return sorted(map(repr, found.rows()))


def earliest_first(moment: int | None) -> tuple[bool, int]:
    return (moment is not None, moment or 0)


@given(batches=st.lists(rows(st.one_of(st.none(), st.integers(0, 4))), max_size=4), ordered=st.booleans())
def test_upsert(batches: list[list[Row]], ordered: bool) -> None:
    there: dict[Any, Row] = {}
    for batch in batches:
        if not ordered:
            assume(len({r[:2] for r in batch}) == len(batch))
        else:
            # equals within one delivery are refused
            assume(len({r[:3] for r in batch}) == len(set(map(repr, batch))))
        old = frame([there[k] for k in {r[:2] for r in batch} if k in there])
        deleted = pl.col("op") == "d"
        made = merge_upsert(old, frame(batch), KEY, order=["t"] if ordered else [], deleted=deleted)
        before = dict(there)
        for row in sorted(batch, key=lambda r: earliest_first(r[2])) if ordered else batch:
            if ordered and row[:2] in before and earliest_first(row[2]) < earliest_first(before[row[:2]][2]):
                continue
            if row[4] == "d":
                there.pop(row[:2], None)
            else:
                there[row[:2]] = row
        taken = set(made.take.rows())
        kept = [r for k, r in before.items() if k not in taken]
        assert plain(frame(kept + made.put.rows())) == plain(frame([*there.values()]))
        # nothing is said of keys for which nothing changes
        changed = {k for k in {*before, *there} if before.get(k) != there.get(k)}
        assert taken == {k for k in changed if k in before}
        assert {r[:2] for r in made.put.rows()} == {k for k in changed if k in there}
        assert made.put.select(KEY).rows() == sorted(made.put.select(KEY).rows())


VERSIONS = pl.Schema({**SCHEMA, "valid_from": pl.Int64(), "valid_to": pl.Int64(), "is_current": pl.Boolean()})
END = "end"


class History:
    """What was said of one key, by its moments: the versions are what it says, without what says the same as before."""

    def __init__(self) -> None:
        self.events: dict[int, Any] = {}

    def versions(self) -> list[Row]:
        kept: dict[int, Any] = {}
        said: Any = END
        for at in sorted(self.events):
            value = self.events[at]
            if not (value == said or (END not in (value, said) and value[3:] == said[3:])):
                kept[at] = said = value
        moments = sorted(kept)
        ends = [*moments[1:], None]
        pairs = zip(moments, ends, strict=False)
        return [(*kept[a], a, b, b is None) for a, b in pairs if kept[a] != END]


@given(
    batches=st.lists(
        st.tuples(
            rows(st.integers(0, 6)),
            st.sets(st.tuples(st.integers(1, 3), st.sampled_from(["a", "b"])), max_size=1),
            st.integers(0, 6),
        ),
        max_size=5,
    )
)
@example([([(1, "a", 1, [1], "u"), (1, "a", 5, [1], "u")], set(), 0), ([(1, "a", 3, [2], "u")], set(), 0)])
@example(
    [
        ([(1, "a", 0, [1], "u"), (1, "a", 2, [2], "u"), (1, "a", 4, [1], "u")], set(), 0),
        ([(1, "a", 2, [1], "u")], set(), 0),
        ([], {(1, "a")}, 4),
        ([(1, "a", 3, [2], "u")], set(), 0),
    ]
)
def test_versions(batches: list[tuple[list[Row], set[Any], int]]) -> None:
    there: dict[Any, History] = {}
    marks = pl.DataFrame(schema={"k": pl.Int64, "j": pl.String, "valid_from": pl.Int64})
    for batch, ended, now in batches:
        assume(len({r[:3] for r in batch}) == len(set(map(repr, batch))))
        ended -= {r[:2] for r in batch}
        touched = {r[:2] for r in batch} | ended
        before = {k: h.versions() for k, h in there.items()}
        old = frame([v for k in touched for v in before.get(k, [])], VERSIONS)
        ends = pl.DataFrame([(*k, now) for k in ended], schema=marks.schema, orient="row")
        first = min([now] * len(ended) + [r[2] for r in batch], default=0)
        # of other keys nothing is known, and of these nothing of before
        known = marks.filter(pl.struct(KEY).is_in([dict(zip(KEY, k, strict=True)) for k in touched]))
        known = known.filter(pl.col("valid_from") >= first)
        made = merge_versions(
            old, frame(batch), KEY, moment=pl.col("t"), ignore=["t"], ended=ends if ended else None, gone=known
        )
        assert made.gone.join(marks, on=marks.columns, how="semi").height == 0
        marks = pl.concat([marks, made.gone])
        # all that comes at once is put in its place at once
        for key in touched:
            mine = [(r[2], r) for r in batch if r[:2] == key] + ([(now, END)] if key in ended else [])
            there.setdefault(key, History()).events |= dict(mine)
        taken = set(made.take.rows())
        kept = [v for k, of in before.items() if k not in taken for v in of]
        after = {k: h.versions() for k, h in there.items()}
        assert plain(frame(kept + made.put.rows(), VERSIONS)) == plain(
            frame([v for of in after.values() for v in of], VERSIONS)
        )
        changed = {k for k in {*before, *after} if before.get(k, []) != after.get(k, [])}
        assert taken == {k for k in changed if before.get(k)}


def test_versions_in_any_order_are_the_same_history() -> None:
    # no two neighbours say the same, so that nothing is forgotten
    found = [(1, "a", t, [t], None) for t in range(5)]
    for order in ([0, 1, 2, 3, 4], [4, 0, 3, 1, 2], [2, 4, 1, 3, 0]):
        there = frame([], VERSIONS)
        for at in order:
            there = merge_versions(there, frame([found[at]]), KEY, moment=pl.col("t")).put
        assert [(r[-3], r[-2], r[-1]) for r in there.rows()] == [
            (0, 1, False),
            (1, 2, False),
            (2, 3, False),
            (3, 4, False),
            (4, None, True),
        ]


def test_a_key_of_nan_is_one_key() -> None:
    for before, after in (([(math.nan, 1)], [(math.nan, 2)]), ([(1.0, 1), (math.nan, 1)], [(1.0, 2), (math.nan, 2)])):
        old, new = (pl.DataFrame(r, schema={"k": pl.Float64, "x": pl.Int64}, orient="row") for r in (before, after))
        made = merge_upsert(old.sort("k"), new.sort("k"), ["k"])
        assert repr(made.put.rows()) == repr(after)
        assert repr(made.take.rows()) == repr([(k,) for k, _ in before])


def refused(function: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(LazypipeError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def test_what_cannot_be_told_apart_is_refused() -> None:
    one, other, third = (1, "a", 5, [1], "u"), (1, "a", 5, [2], "u"), (2, "a", 5, [1], "u")
    nothing = frame([])
    assert refused(merge_upsert, nothing, frame([one, other, third, third]), KEY) == (
        "key (k = 1, j = 'a') occurs more than once in this run (2 keys in all); say with order_by or event_time which is the latest, "
        "or keep one in the stage"
    )
    told = "key (k = 1, j = 'a') occurs more than once at the same time or place in the order, with different values; "
    kept = ", or keep one of the rows in the stage"
    assert (
        refused(merge_upsert, nothing, frame([one, other]), KEY, order=["t"])
        == f"{told}name more columns in order_by{kept}"
    )
    assert merge_upsert(nothing, frame([one, one]), KEY, order=["t"]).put.rows() == [one]
    # a column of the key may say the order too: of rows with one key it tells nothing
    assert merge_upsert(nothing, frame([one, third]), KEY, order=["k"]).put.rows() == [one, third]
    assert refused(merge_upsert, nothing, frame([one, other]), KEY, order=["k", "j"]).startswith(told)
    none = frame([], VERSIONS)
    assert refused(merge_versions, none, frame([one, other]), KEY, moment=pl.col("t")) == (
        f"{told}name in event_time a column that tells them apart{kept}"
    )
    assert refused(merge_versions, none, frame([(1, "a", None, [1], "u")]), KEY, moment=pl.col("t")) == (
        "key (k = 1, j = 'a') has no event time; fill it in the stage, or quarantine such rows with a rule not_null"
    )
    assert refused(refuse_nulls, {"k": 0, "j": 2}) == (
        "2 rows have no value in key column 'j'; quarantine such rows with a rule not_null, or fill it in the stage"
    )
    assert refused(refuse_nulls, {"k": 1}).startswith("a row has no value in key column 'k'; ")
    refuse_nulls({"k": 0})
