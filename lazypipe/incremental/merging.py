"""How new rows are merged with existing rows of the same key: the rules of ``upsert`` and ``scd2``, and nothing else.

Both sides are frames of all rows that have some keys. What comes out is which rows are to be put, and which keys are to be taken out
first. Where nothing changes for a key, neither says anything of it, so that no file is written for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from lazypipe.compile.outputs.modes import IS_CURRENT as _CURRENT
from lazypipe.compile.outputs.modes import VALID_FROM as _FROM
from lazypipe.compile.outputs.modes import VALID_TO as _TO
from lazypipe.errors import RunError
from lazypipe.storage.in_python import for_python
from lazypipe.storage.reasons import MASKED

__all__ = ["Merged", "merge_upsert", "merge_versions", "overtaken", "refuse_nulls", "refuse_repeated", "shown_key"]

_NEW, _KIND, _HAD, _GONE, _OLD = (f"__lazypipe_{n}" for n in ("new", "kind", "had", "gone", "old"))
_SAME, _ROWS, _BEFORE, _COUNTS = (f"__lazypipe_{n}" for n in ("same", "rows", "before", "counts"))
_VERSION, _END = 1, 0


@dataclass(frozen=True)
class Merged:
    """The rows to put, and the keys of which all rows that are there are to be taken out before that.

    ``gone`` is what is to be known besides the rows: keys, and the places in the order at which they went, or of versions the moments at
    which something was said that made none and ended none.
    """

    put: pl.DataFrame
    take: pl.DataFrame
    gone: pl.DataFrame


def merge_upsert(
    old: pl.DataFrame,
    new: pl.DataFrame,
    key: Sequence[str],
    *,
    order: Sequence[str] = (),
    deleted: pl.Expr | None = None,
    gone: pl.DataFrame | None = None,
    masked: Collection[str] = (),
) -> Merged:
    """Let rows that come replace those with the same key.

    With ``order``, of several rows with a key the latest counts, null being the earliest of all, and a row that is there stays if it
    is later than those that come; between equals the one that comes counts. Rows that come with one key, the same place in
    that order, and other values are refused; so are, without ``order``, any two rows with one key.

    Parameters
    ----------
    deleted
        Which of the new rows remove their key, if they count.
    gone
        Keys that were removed before, with their places in the order: an earlier row that comes late does not bring them back.
    masked
        Columns of which no message shows a value.

    Raises
    ------
    RunError
        If it cannot be told which of several rows counts.

    Examples
    --------
    >>> old, new = pl.DataFrame({"k": [1, 2], "x": [1, 2]}), pl.DataFrame({"k": [2, 3], "x": [5, 6]})
    >>> made = merge_upsert(old, new, ["k"])
    >>> made.put.rows(), made.take.rows()
    ([(2, 5), (3, 6)], [(2,)])
    """
    if order:
        new = _distinct(new)
    refuse_repeated(
        new, key, order, "say with order_by or event_time which is the latest", "name more columns in order_by", masked
    )
    removes = pl.lit(value=False) if deleted is None else deleted.fill_null(value=False)
    names, places = new.columns, [*dict.fromkeys([*key, *order])]
    known_gone = new.select(places).clear() if gone is None else gone.select(places)
    both = pl.concat(
        [
            old.with_columns(pl.lit(value=False).alias(_NEW), pl.lit(value=False).alias(_GONE)),
            known_gone.with_columns(pl.lit(value=False).alias(_NEW), pl.lit(value=True).alias(_GONE)),
            new.with_columns(pl.lit(value=True).alias(_NEW), removes.alias(_GONE)),
        ],
        how="diagonal",
    )
    last = both.sort(*order, _NEW, nulls_last=False).unique(subset=[*key], keep="last", maintain_order=True)
    won = last.filter(_NEW)
    there = old.select(*key, pl.struct(names).alias(_OLD))
    # streaming: in memory Polars finds no partner for NaN where both sides are in order, as single rows always are
    joined = won.lazy().join(
        there.lazy(), on=[*key], how="left", nulls_equal=True, coalesce=True, maintain_order="left"
    )
    won = joined.collect(engine="streaming")
    known = pl.col(_OLD).is_not_null()
    same = pl.all_horizontal(pl.col(n).eq_missing(pl.col(_OLD).struct[n]) for n in names)
    put = won.filter(~pl.col(_GONE) & (~known | ~same)).sort(key).select(names)
    take = won.filter(known & (pl.col(_GONE) | ~same)).select(key)
    # without an order, what comes later counts in any case
    went = won.filter(_GONE).select(places) if order else known_gone.clear()
    return Merged(put, take, went.join(known_gone, on=places, how="anti", nulls_equal=True))


def merge_versions(
    old: pl.DataFrame,
    new: pl.DataFrame,
    key: Sequence[str],
    *,
    moment: pl.Expr,
    ignore: Sequence[str] = (),
    ended: pl.DataFrame | None = None,
    deleted: pl.Expr | None = None,
    gone: pl.DataFrame | None = None,
    masked: Collection[str] = (),
) -> Merged:
    """Put new versions of rows in their places in the history of their keys.

    A version holds from its ``moment`` until the next one's. One that says the same as the one before it adds none, but its moment is to be
    known: one that says something else, and belongs in between, holds until then. A version of a moment
    that another has already takes its place. Of versions that come with one key and one moment, only equal ones are allowed.

    Parameters
    ----------
    old
        All versions of some keys, with ``valid_from``, ``valid_to`` and ``is_current``.
    new
        Rows with the same columns but these three.
    moment
        Since when a new row is so.
    ignore
        Columns in which a difference makes no version: they hold the moment.
    ended
        Keys that are there no more, with their moment in ``valid_from``.
    deleted
        Which of the new rows are no versions, but say that their key is no more, from their moment on.
    gone
        Moments from before at which a key was said to be as it was (if a version holds on both sides of it) or to be no more (if none
        does), with their keys, from the first moment on that comes now: versions may come that they end.
    masked
        Columns of which no message shows a value.

    Raises
    ------
    RunError
        If rows that come with one key and one moment differ, or have no moment.

    Examples
    --------
    >>> old = pl.DataFrame({"k": [1], "x": ["a"], "valid_from": [1], "valid_to": [None], "is_current": [True]})
    >>> old = old.cast({"valid_to": pl.Int64})
    >>> merge_versions(old, pl.DataFrame({"k": [1], "x": ["b"]}), ["k"], moment=pl.lit(5)).put.rows()
    [(1, 'a', 1, 5, False), (1, 'b', 5, None, True)]
    """
    names = [n for n in old.columns if n not in (_FROM, _TO, _CURRENT)]
    new = _distinct(new).with_columns(moment.cast(old.schema[_FROM]).alias(_FROM))
    if new[_FROM].null_count():
        told = shown_key(for_python(new.filter(pl.col(_FROM).is_null()).head(1)).row(0, named=True), key, masked)
        raise RunError(f"{told} has no event time; fill it in the stage, or quarantine such rows with a rule not_null")
    refuse_repeated(new, key, [_FROM], "", "name in event_time a column that tells them apart", masked)
    marks = new.select(*key, _FROM).clear() if gone is None else gone.select(*key, _FROM)
    again, ends_of_none = _remembered(old, marks, key, ignore)
    if deleted is not None:
        removes = new.select(deleted.fill_null(value=False)).to_series()
        ends = new.filter(removes).select(*key, _FROM)
        ended, new = ends if ended is None else pl.concat([ended.select(ends.columns), ends]), new.filter(~removes)
    events = _events(old, again, new, key, ended, ends_of_none)
    same_key = pl.all_horizontal(pl.col(k).eq_missing(pl.col(k).shift(1)) for k in key) & (pl.int_range(pl.len()) > 0)
    compared = [n for n in names if n not in ignore and n not in key]
    events = events.sort(*key, _FROM, _NEW, _KIND)
    # what comes again as it is there takes its own place
    twin = same_key & (pl.col(_FROM) == pl.col(_FROM).shift(1)) & (pl.col(_KIND) == pl.col(_KIND).shift(1))
    twin &= pl.all_horizontal(pl.col(n).eq_missing(pl.col(n).shift(1)) for n in names)
    events = events.with_columns(pl.when(twin).then(pl.col(_HAD).shift(1)).otherwise(pl.col(_HAD)).alias(_HAD))
    events = events.unique([*key, _FROM], keep="last", maintain_order=True)
    equal = pl.all_horizontal(pl.lit(value=True), *(pl.col(n).eq_missing(pl.col(n).shift(1)) for n in compared)) & (
        pl.col(_KIND).shift(1) == _VERSION
    )
    equal &= same_key & (pl.col(_KIND) == _VERSION)
    said = events.filter(equal).select(marks.columns)
    events = events.filter(~equal)
    follows = same_key & (pl.col(_KIND).shift(1) == _VERSION)
    events = events.with_columns(((pl.col(_KIND) == _VERSION) | follows).alias(_COUNTS))
    went = pl.concat([said, events.filter(~pl.col(_COUNTS)).select(marks.columns)])
    went = went.join(marks, on=marks.columns, how="anti", nulls_equal=True)
    events = events.filter(_COUNTS)
    next_key = pl.all_horizontal(pl.col(k).eq_missing(pl.col(k).shift(-1)) for k in key)
    last = pl.int_range(pl.len()) == pl.len() - 1
    events = events.with_columns(pl.when(next_key & ~last).then(pl.col(_FROM).shift(-1)).alias(_TO))
    made = events.filter(pl.col(_KIND) == _VERSION).with_columns(pl.col(_TO).is_null().alias(_CURRENT))
    put, take = _changed(old, made, key)
    return Merged(put, take, went)


def _remembered(
    old: pl.DataFrame, marks: pl.DataFrame, key: Sequence[str], ignore: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the versions that were said again, at the moments at which they were, and the moments of ends that ended none.

    Which a moment is, is told by the versions there: one that holds on both sides was said again; where none does, there was an end. At the
    moment at which one begins, it was put in the place of whatever was known.
    """
    both = pl.concat([old.with_columns(pl.lit(_VERSION).alias(_KIND)), marks], how="diagonal")
    both = both.sort(*key, _FROM, _KIND, nulls_last=True)
    # the last version that began until then
    begun = pl.when(pl.col(_KIND).is_not_null()).then(pl.int_range(pl.len())).forward_fill()
    both = both.with_columns(begun.alias(_BEFORE))
    of = {n: pl.col(n).gather(pl.col(_BEFORE)) for n in old.columns}
    mine = pl.all_horizontal(pl.col(k).eq_missing(of[k]) for k in key)
    holds = mine & (of[_TO].is_null() | (pl.col(_FROM) < of[_TO]))
    mark = pl.col(_KIND).is_null() & ~(mine & (pl.col(_FROM) == of[_FROM])).fill_null(value=False)
    as_it_was = {n: e for n, e in of.items() if n != _FROM} | {n: pl.col(_FROM).cast(old.schema[n]) for n in ignore}
    both = both.with_columns(
        mark.alias(_SAME),
        holds.fill_null(value=False).alias(_HAD),
        pl.struct(e.alias(n) for n, e in as_it_was.items()).alias(_OLD),
    )
    again, gone = both.filter(_SAME, _HAD), both.filter(_SAME, ~pl.col(_HAD))
    return again.select(_OLD, _FROM).unnest(_OLD).select(old.columns), gone.select(marks.columns)


def _events(
    old: pl.DataFrame,
    again: pl.DataFrame,
    new: pl.DataFrame,
    key: Sequence[str],
    ended: pl.DataFrame | None,
    gone: pl.DataFrame,
) -> pl.DataFrame:
    """Return versions, and the ends of those that no other follows at once."""
    is_old, is_new = pl.lit(value=False).alias(_NEW), pl.lit(value=True).alias(_NEW)
    version, end = pl.lit(_VERSION).alias(_KIND), pl.lit(_END).alias(_KIND)
    starts = old.select(*key, pl.col(_FROM).alias(_TO))
    closed = old.filter(pl.col(_TO).is_not_null()).join(starts, on=[*key, _TO], how="anti", nulls_equal=True)
    parts = [
        old.select(*old.columns, pl.struct(_FROM, _TO).alias(_HAD), is_old, version).drop(_TO, _CURRENT),
        again.select(pl.all().exclude(_TO, _CURRENT), is_old, version),
        new.select(pl.all(), is_new, version),
        closed.select(*key, pl.col(_TO).alias(_FROM), is_old, end),
        gone.with_columns(is_old, end),
    ]
    if ended is not None:
        parts.append(ended.select(*key, pl.col(_FROM).cast(old.schema[_FROM]), is_new, end))
    return pl.concat(parts, how="diagonal")


def _changed(old: pl.DataFrame, made: pl.DataFrame, key: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the versions to put, and the keys to take out, of keys whose versions are others than they were."""
    had = pl.col(_HAD).struct
    kept = pl.col(_HAD).is_not_null() & had[_FROM].eq_missing(pl.col(_FROM)) & had[_TO].eq_missing(pl.col(_TO))
    told = made.group_by(key).agg(kept.all().alias(_SAME), pl.len().alias(_ROWS))
    before = old.group_by(key).agg(pl.len().alias(_BEFORE))
    told = told.join(before, on=[*key], how="full", nulls_equal=True, coalesce=True)
    same = pl.col(_SAME).fill_null(value=False) & pl.col(_ROWS).eq_missing(pl.col(_BEFORE))
    others = told.filter(~same)
    put = made.join(others.select(key), on=[*key], how="semi", nulls_equal=True)
    put = put.sort(*key, _FROM).select(old.columns)
    return put, others.filter(pl.col(_BEFORE).is_not_null()).select(key)


def overtaken(
    rows: pl.DataFrame, by: pl.DataFrame, key: Sequence[str], order: Sequence[str], *, equal: bool = False
) -> pl.Series:
    """Say of each row whether another frame has one of its key at a later place in the order, or, with ``equal``, at the same one.

    Null is the earliest of all places. Without an order, all places are the same.

    Examples
    --------
    >>> rows, by = pl.DataFrame({"k": [1, 1, 2], "t": [None, 5, 5]}), pl.DataFrame({"k": [1], "t": [5]})
    >>> overtaken(rows, by, ["k"], ["t"]).to_list(), overtaken(rows, by, ["k"], ["t"], equal=True).to_list()
    ([True, False, False], [True, True, False])
    """
    names = [*dict.fromkeys([*key, *order])]
    both = pl.concat([rows.select(names).with_row_index(_NEW), by.select(names)], how="diagonal_relaxed")
    both = both.sort(*order, nulls_last=False) if order else both
    steps = pl.any_horizontal(pl.lit(value=False), *(pl.col(n).ne_missing(pl.col(n).shift(1)) for n in order))
    both = both.with_columns((steps & (pl.int_range(pl.len()) > 0)).cum_sum().alias(_KIND))
    mine, theirs = both.filter(pl.col(_NEW).is_not_null()), both.filter(pl.col(_NEW).is_null())
    last = theirs.group_by(key).agg(pl.col(_KIND).max().alias(_HAD))
    # streaming: in memory Polars finds no partner for NaN where both sides are in order
    joined = mine.lazy().join(last.lazy(), on=[*key], how="left", nulls_equal=True).sort(_NEW)
    later = pl.col(_HAD) >= pl.col(_KIND) if equal else pl.col(_HAD) > pl.col(_KIND)
    return joined.select(later.fill_null(value=False)).collect(engine="streaming").to_series()


def _distinct(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.unique(maintain_order=True)


def refuse_repeated(
    rows: pl.DataFrame, key: Sequence[str], order: Sequence[str], lacking: str, equal: str, masked: Collection[str]
) -> None:
    """Raise RunError where rows that come cannot be told apart, with what to do where there is no order, and where places in it are equal."""
    within = [*dict.fromkeys([*key, *order])]
    repeated = rows.filter(pl.struct(within).is_duplicated())
    if not repeated.height:
        return
    keys = repeated.select(key).unique().height
    told = shown_key(for_python(repeated.sort(key).head(1)).row(0, named=True), key, masked)
    many = f" ({keys:,} keys in all)" if keys > 1 else ""
    if order:
        what = f"{told} occurs more than once at the same time or place in the order, with different values{many}"
        raise RunError(f"{what}; {equal}, or keep one of the rows in the stage")
    raise RunError(f"{told} occurs more than once in this run{many}; {lacking}, or keep one in the stage")


def refuse_nulls(nulls: Mapping[str, int]) -> None:
    """Raise RunError where rows have no value in a column of their key: ``nulls`` says how many, per column."""
    for name, count in nulls.items():
        if count:
            have = "a row has" if count == 1 else f"{count:,} rows have"
            fix = "quarantine such rows with a rule not_null, or fill it in the stage"
            raise RunError(f"{have} no value in key column {name!r}; {fix}")


def shown_key(row: Mapping[str, object], key: Sequence[str], masked: Collection[str] = ()) -> str:
    """Return a row's key as messages show it.

    Examples
    --------
    >>> shown_key({"a": 1, "b": "x", "c": 2}, ["a", "b"], masked=["b"])
    'key (a = 1, b = ***)'
    """
    return f"key ({', '.join(f'{k} = {MASKED if k in masked else repr(row[k])}' for k in key)})"
